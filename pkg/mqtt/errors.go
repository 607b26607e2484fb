package mqtt

import (
	"errors"
	"fmt"
)

// Reasons for the end of a session, besides *Disconnected and what the network
// says (io.EOF, ECONNRESET, a timeout).
var (
	// ErrKeepAlive: the server did not answer a PINGREQ within the keep-alive
	// interval.
	ErrKeepAlive = errors.New("the server did not answer a ping")
	// ErrFrame: the server sent something that is not MQTT, or a frame larger
	// than MaxFrame.
	ErrFrame = errors.New("malformed or oversize MQTT frame")
	// ErrClosed: this side closed the session.
	ErrClosed = errors.New("the session was closed by this side")
	// ErrLost is the outcome of a publish whose session ended before its
	// PUBACK: the server may or may not have it.
	ErrLost = errors.New("the connection ended before the PUBACK")
)

// Refused is a CONNACK with a reason code of 0x80 or above.
type Refused struct { //nolint:errname // errors.As reads well with the name of what happened
	Code   byte
	Reason string // the server's Reason String, often empty
}

func (e *Refused) Error() string { return described("CONNACK", e.Code, e.Reason) }

// Disconnected is a DISCONNECT that the server sent.
type Disconnected struct { //nolint:errname // errors.As reads well with the name of what happened
	Code   byte
	Reason string // the server's Reason String, often empty
}

func (e *Disconnected) Error() string { return described("DISCONNECT", e.Code, e.Reason) }

func described(packet string, code byte, reason string) string {
	s := fmt.Sprintf("%s 0x%02X", packet, code)
	if name := CodeName(code); name != "" {
		s += " (" + name + ")"
	}
	if reason != "" {
		s += fmt.Sprintf(", %q", reason)
	}
	return s
}

// CodeName is the MQTT 5 name of a reason code of 0x80 or above (MQTT 5.0,
// section 2.4), "" for one it does not define.
func CodeName(code byte) string {
	switch code {
	case 0x80:
		return "unspecified error"
	case 0x81:
		return "malformed packet"
	case 0x82:
		return "protocol error"
	case 0x83:
		return "implementation specific error"
	case 0x84:
		return "unsupported protocol version"
	case 0x85:
		return "client identifier not valid"
	case 0x86:
		return "bad user name or password"
	case 0x87:
		return "not authorized"
	case 0x88:
		return "server unavailable"
	case 0x89:
		return "server busy"
	case 0x8A:
		return "banned"
	case 0x8B:
		return "server shutting down"
	case 0x8C:
		return "bad authentication method"
	case 0x8D:
		return "keep alive timeout"
	case 0x8E:
		return "session taken over"
	case 0x8F:
		return "topic filter invalid"
	case 0x90:
		return "topic name invalid"
	case 0x91:
		return "packet identifier in use"
	case 0x93:
		return "receive maximum exceeded"
	case 0x94:
		return "topic alias invalid"
	case 0x95:
		return "packet too large"
	case 0x96:
		return "message rate too high"
	case 0x97:
		return "quota exceeded"
	case 0x98:
		return "administrative action"
	case 0x99:
		return "payload format invalid"
	case 0x9A:
		return "retain not supported"
	case 0x9B:
		return "QoS not supported"
	case 0x9C:
		return "use another server"
	case 0x9D:
		return "server moved"
	case 0x9E:
		return "shared subscriptions not supported"
	case 0x9F:
		return "connection rate exceeded"
	case 0xA0:
		return "maximum connect time"
	case 0xA1:
		return "subscription identifiers not supported"
	case 0xA2:
		return "wildcard subscriptions not supported"
	}
	return ""
}
