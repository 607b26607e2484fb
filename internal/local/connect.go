package local

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

const (
	// connectTimeout is how long the CONNECT may take from the connection on.
	connectTimeout = 5 * time.Second
	// maxClientID is the longest client id, in bytes; AWS IoT Core takes 128.
	maxClientID = 256

	// Protocol levels.
	v311 = 4
	v5   = 5
)

// connect reads the CONNECT and answers it. Where it returns an error, the
// client was refused.
func (c *client) connect(ctx context.Context) error {
	_ = c.conn.SetReadDeadline(time.Now().Add(connectTimeout)) // fails only on a closed connection
	c.in.buffered = bufio.NewReaderSize(source{c.conn, c.renewDeadline}, readBuffer)
	// Another protocol need not be waited for.
	first, err := c.in.buffered.Peek(1)
	switch {
	case err != nil:
		return err
	case first[0] != packets.Connect<<4:
		return errors.New("the first packet is not a CONNECT")
	}
	_, body, err := c.in.next()
	if err != nil {
		return err
	}
	known, version := knownVersion(body)
	c.introduce(hello{version: version})
	if !known {
		return c.reject(ctx, packets.ErrUnsupportedProtocolVersion)
	}
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}}
	if err := pk.ConnectDecode(body); err != nil {
		return c.reject(ctx, packets.Code{Code: malformed(err).code, Reason: err.Error()})
	}
	h, refused := accept(&pk)
	if refused != (packets.Code{}) {
		return c.reject(ctx, refused)
	}
	c.introduce(h)
	c.in.handled()
	if !c.server.join(c) {
		full := packets.ErrQuotaExceeded
		full.Reason = fmt.Sprintf("there are %d local clients already", maxClients)
		c.server.tell(c, "", &fault{full.Code, full.Reason})
		return c.reject(ctx, full)
	}
	if err := c.answer(ctx, c.connack(&pk.Properties)); err != nil {
		return err
	}
	h.greeted = true
	c.introduce(h)
	return nil
}

// introduce notes what is known of the client.
func (c *client) introduce(h hello) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hello = h
}

// knownVersion says whether a CONNECT is of a protocol that is spoken here,
// and in which version to answer.
func knownVersion(body []byte) (known bool, answer byte) {
	in := cursor{rest: body}
	name, level := in.binary(), in.byte()
	answer = v311
	if level >= v5 {
		answer = v5
	}
	return string(name) == "MQTT" && (level == v311 || level == v5), answer
}

// accept reads what a CONNECT asks for, or says why it is refused. Will, user
// name and password are not looked at.
func accept(pk *packets.Packet) (h hello, refused packets.Code) {
	properties := &pk.Properties
	switch {
	case pk.ReservedBit != 0: // [MQTT-3.1.2-3]
		return h, packets.ErrMalformedFlags
	case properties.AuthenticationMethod != "":
		return h, packets.ErrBadAuthenticationMethod
	case len(pk.Connect.ClientIdentifier) > maxClientID,
		pk.Connect.ClientIdentifier == "" && pk.ProtocolVersion < v5 && !pk.Connect.Clean: // [MQTT-3.1.3-8]
		return h, packets.ErrClientIdentifierNotValid
	}
	h = hello{
		version:     pk.ProtocolVersion,
		id:          strings.Clone(pk.Connect.ClientIdentifier), // the decoder's strings point into the read buffer
		keepAlive:   time.Duration(pk.Connect.Keepalive) * time.Second,
		maxPacket:   properties.MaximumPacketSize,
		quota:       maxInFlight,
		problemInfo: !properties.RequestProblemInfoFlag || properties.RequestProblemInfo != 0,
	}
	if h.assigned = h.id == ""; h.assigned {
		h.id = "auto-" + rand.Text()
	}
	if properties.ReceiveMaximum > 0 {
		h.quota = min(h.quota, int(properties.ReceiveMaximum))
	}
	return h, packets.Code{}
}

// connack is the answer to a client that is accepted: what of MQTT 5 there is
// not.
func (c *client) connack(asked *packets.Properties) packets.Packet {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connack}}
	if c.version < v5 {
		return pk
	}
	pk.Properties = packets.Properties{
		ReceiveMaximum:         receiveMaximum,
		MaximumQos:             1,
		MaximumQosFlag:         true,
		MaximumPacketSize:      maxPacket,
		SubIDAvailableFlag:     true, // and it is 0: not available
		SharedSubAvailableFlag: true,
		// Sessions end with their connection, whatever was asked for.
		SessionExpiryIntervalFlag: asked.SessionExpiryInterval > 0,
	}
	if c.assigned {
		pk.Properties.AssignedClientID = c.id
	}
	return pk
}

// reject answers the CONNECT with code.
func (c *client) reject(ctx context.Context, code packets.Code) error {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connack}, ReasonCode: code.Code}
	if c.version < v5 {
		switch code.Code {
		case packets.ErrUnsupportedProtocolVersion.Code:
			pk.ReasonCode = packets.Err3UnsupportedProtocolVersion.Code
		case packets.ErrClientIdentifierNotValid.Code:
			pk.ReasonCode = packets.Err3ClientIdentifierNotValid.Code
		case packets.ErrQuotaExceeded.Code:
			pk.ReasonCode = packets.Err3ServerUnavailable.Code
		default: // MQTT 3.1.1 has no code for it
			return code
		}
	}
	if err := c.answer(ctx, pk); err != nil {
		return err
	}
	return &fault{code.Code, code.Reason}
}

// renewDeadline lets the next packet take one and a half keep-alive intervals
// ([MQTT-3.1.2-22]).
func (c *client) renewDeadline() {
	if !c.greeted || !c.in.progress {
		return
	}
	c.in.progress = false
	var deadline time.Time
	if c.keepAlive > 0 {
		deadline = time.Now().Add(c.keepAlive * 3 / 2)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end == nil {
		_ = c.conn.SetReadDeadline(deadline) // fails only on a closed connection
	}
}
