package front

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
)

// tap keeps what the client sends in the clear. It is for one goroutine.
type tap struct {
	net.Conn
	received []byte
	mute     bool // an alert of ours was sent: crypto/tls must not send its own
}

// kept is enough for a ClientHello and a chain of RSA-4096.
const kept = 64 << 10

func (t *tap) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	if len(t.received) < kept {
		t.received = append(t.received, p[:n]...)
	}
	return n, err
}

func (t *tap) Write(p []byte) (int, error) {
	if t.mute {
		return len(p), nil
	}
	return t.Conn.Write(p)
}

// alert sends a fatal alert in the clear.
func (t *tap) alert(number byte) error {
	_, err := t.Conn.Write([]byte{recordAlert, 3, 3, 0, 2, 2, number})
	t.mute = true
	return errors.Join(fmt.Errorf("alert %d sent", number), err)
}

// RFC 8446 section 5.1 and 4, RFC 5246 section 7.4.
const (
	recordAlert      = 21
	recordHandshake  = 22
	clientHello      = 1
	certificate      = 11
	extServerName    = 0
	extALPN          = 16
	extSessionTicket = 35
	extPreSharedKey  = 41
	extVersions      = 43
)

// message finds a handshake message of the client. Handshake messages may be
// cut into records anywhere, so the records' contents are joined first; those
// that are encrypted come behind a ChangeCipherSpec.
func (t *tap) message(kind byte) ([]byte, error) {
	var stream []byte
	for rest := t.received; len(rest) >= 5 && rest[0] == recordHandshake; {
		n := 5 + int(binary.BigEndian.Uint16(rest[3:]))
		if len(rest) < n {
			break
		}
		stream = append(stream, rest[5:n]...)
		rest = rest[n:]
	}
	for len(stream) >= 4 {
		n := 4 + (int(stream[1])<<16 | int(stream[2])<<8 | int(stream[3]))
		if len(stream) < n {
			break
		}
		if stream[0] == kind {
			return stream[4:n], nil
		}
		stream = stream[n:]
	}
	return nil, fmt.Errorf("the client sent no handshake message %d in the clear", kind)
}

// certificates are those of the client's Certificate message of TLS 1.2.
func (t *tap) certificates() ([][]byte, error) {
	body, err := t.message(certificate)
	if err != nil {
		return nil, err
	}
	r := reader{rest: body}
	list := reader{rest: r.vector(3)}
	var all [][]byte
	for len(list.rest) > 0 && !list.short {
		all = append(all, list.vector(3))
	}
	if r.short || list.short {
		return nil, errors.New("the client's Certificate message is cut off")
	}
	return all, nil
}

// Hello is what a ClientHello says.
type Hello struct {
	ServerName string
	Versions   []uint16 // offered: 0x0303 is TLS 1.2
	Suites     []uint16
	ALPN       []string
	// Resumes: it offers to go on with an earlier session.
	Resumes bool
}

func (t *tap) hello() (Hello, error) {
	body, err := t.message(clientHello)
	if err != nil {
		return Hello{}, err
	}
	r := reader{rest: body}
	h := Hello{Versions: []uint16{uint16(r.number(2))}}
	r.take(32)      // random
	_ = r.vector(1) // session id: TLS 1.3's middlebox mode fills it with noise
	suites := r.vector(2)
	for s := (reader{rest: suites}); len(s.rest) > 0; {
		h.Suites = append(h.Suites, uint16(s.number(2)))
	}
	_ = r.vector(1) // compression
	for e := (reader{rest: r.vector(2)}); len(e.rest) > 0 && !e.short; {
		kind, data := e.number(2), reader{rest: e.vector(2)}
		switch kind {
		case extServerName:
			list := reader{rest: data.vector(2)}
			list.take(1) // host_name
			h.ServerName = string(list.vector(2))
		case extALPN:
			for list := (reader{rest: data.vector(2)}); len(list.rest) > 0; {
				h.ALPN = append(h.ALPN, string(list.vector(1)))
			}
		case extSessionTicket:
			h.Resumes = h.Resumes || len(data.rest) > 0
		case extPreSharedKey:
			h.Resumes = true
		case extVersions:
			h.Versions = nil
			for list := (reader{rest: data.vector(1)}); len(list.rest) > 0; {
				h.Versions = append(h.Versions, uint16(list.number(2)))
			}
		}
	}
	if r.short {
		return Hello{}, errors.New("the ClientHello is cut off")
	}
	return h, nil
}

// reader takes big-endian numbers and vectors off a message. After one that
// did not fit it is short, and empty.
type reader struct {
	rest  []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.rest) {
		r.rest, r.short = nil, true
		return nil
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken
}

func (r *reader) number(size int) (n int) {
	for _, b := range r.take(size) {
		n = n<<8 | int(b)
	}
	return n
}

func (r *reader) vector(size int) []byte { return r.take(r.number(size)) }

// Connect is what the client's CONNECT says.
type Connect struct {
	Protocol   string // "MQTT"
	Level      int    // 5, or 4 for 3.1.1
	CleanStart bool
	KeepAlive  int // seconds
	ClientID   string
}

// readConnect reads the first packet (MQTT 5.0, section 3.1), and returns its
// bytes too.
func readConnect(from io.Reader) (*Connect, []byte, error) {
	var packet bytes.Buffer
	in := io.TeeReader(from, &packet)
	var b [1]byte
	next := func() (byte, error) {
		_, err := io.ReadFull(in, b[:])
		return b[0], err
	}
	kind, err := next()
	if err != nil {
		return nil, nil, err
	}
	if kind != 0x10 {
		return nil, nil, fmt.Errorf("the first byte is %#x and not that of a CONNECT", kind)
	}
	length := 0
	for shift := 0; shift < 28; shift += 7 {
		digit, err := next()
		if err != nil {
			return nil, nil, err
		}
		length |= int(digit&0x7f) << shift
		if digit < 0x80 {
			break
		}
	}
	body := make([]byte, min(length, kept))
	if _, err := io.ReadFull(in, body); err != nil {
		return nil, nil, err
	}
	r := reader{rest: body}
	c := &Connect{Protocol: string(r.vector(2)), Level: r.number(1), CleanStart: r.number(1)&2 != 0, KeepAlive: r.number(2)}
	if c.Level == 5 {
		// Properties; their length is one byte as long as there are few.
		_ = r.vector(1)
	}
	c.ClientID = string(r.vector(2))
	if r.short {
		return nil, nil, errors.New("the CONNECT is cut off")
	}
	return c, packet.Bytes(), nil
}
