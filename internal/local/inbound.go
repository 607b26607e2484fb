package local

import (
	"bufio"
	"io"
	"slices"

	"github.com/mochi-mqtt/server/v2/packets"
)

const (
	// MaxPayload of a message. AWS IoT Core takes packets of 128 KiB; there
	// the topic, the properties and the buffer's own are to fit as well.
	MaxPayload = 127 << 10
	// maxPacket is the longest packet that is read, without its first bytes:
	// a payload of MaxPayload, its topic, and some properties.
	maxPacket = MaxPayload + 512
	// maxOther is the same for what is no PUBLISH: subscriptions take 50 times
	// their length in memory.
	maxOther = 16 << 10
	// readBuffer is what one read may bring: a window of short messages.
	readBuffer = 8 << 10
)

// inbound cuts what a client sends into packets.
type inbound struct {
	buffered *bufio.Reader
	pending  int  // bytes of buffered that the last packet has
	progress bool // a packet was handled since the deadline was set
}

// next reads a packet: its first byte, and what follows its length. body is
// valid until handled.
func (in *inbound) next() (header byte, body []byte, err error) {
	header, err = in.buffered.ReadByte()
	if err != nil {
		return 0, nil, err
	}
	n, err := in.length()
	if err != nil {
		return 0, nil, err
	}
	limit := maxOther
	if header>>4 == packets.Publish {
		limit = maxPacket
	}
	switch {
	case n > limit:
		return 0, nil, faultf(packets.ErrPacketTooLarge, "a packet of %d bytes is too large; it can have %d", n, limit)
	case n <= in.buffered.Size():
		in.pending = n
		body, err = in.buffered.Peek(n)
	default:
		body, err = in.long(n)
	}
	return header, body, err
}

// handled gives up the body of the last packet.
func (in *inbound) handled() {
	_, _ = in.buffered.Discard(in.pending) // they are there
	in.pending, in.progress = 0, true
}

// length reads the remaining length: four bytes at most.
func (in *inbound) length() (int, error) {
	n := 0
	for shift := 0; shift < 28; shift += 7 {
		b, err := in.buffered.ReadByte()
		if err != nil {
			return 0, err
		}
		n |= int(b&0x7F) << shift
		if b < 0x80 {
			return n, nil
		}
	}
	return 0, faultf(packets.ErrMalformedVariableByteInteger, "the length of a packet has more than four bytes")
}

// long reads a packet that the buffer cannot hold. It takes memory as the
// bytes come: who announces much and sends little costs little.
func (in *inbound) long(n int) ([]byte, error) {
	body := make([]byte, 0, readBuffer)
	for len(body) < n {
		if len(body) == cap(body) {
			body = slices.Grow(body, min(n-len(body), len(body)))
		}
		got, err := in.buffered.Read(body[len(body):min(cap(body), n)])
		if err != nil {
			return nil, err
		}
		body = body[:len(body)+got]
	}
	return body, nil
}

// source is the connection as the buffered reader sees it: before a read that
// may wait it sets the deadline that the keep-alive interval asks for. The
// time runs from the last whole packet on, so single bytes do not stretch it.
type source struct {
	io.Reader
	renew func()
}

func (s source) Read(p []byte) (int, error) {
	s.renew()
	return s.Reader.Read(p)
}
