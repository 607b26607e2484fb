package broker

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// MQTT 5.0 sections 2.1 and 2.2.2: packet types, and the properties that a
// PUBLISH can carry.
const (
	connect     = 1
	publish     = 3
	subscribe   = 8
	unsubscribe = 10
	pingreq     = 12
	disconnect  = 14

	payloadFormat   = 0x01
	messageExpiry   = 0x02
	contentType     = 0x03
	responseTopic   = 0x08
	correlationData = 0x09
	topicAlias      = 0x23
	userProperty    = 0x26
)

// maxPacket is AWS IoT's largest packet (146 KiB), which the CONNACK names.
const maxPacket = 149504

var errShort = errors.New("the packet is cut off")

// packet is one control packet as it came.
type packet struct {
	kind, flags byte
	body        []byte
}

// readPacket reads one. io.EOF means that the client closed between packets.
func readPacket(in *bufio.Reader) (packet, error) {
	first, err := in.ReadByte()
	if err != nil {
		return packet{}, err
	}
	length, err := readLength(in)
	if err != nil {
		return packet{}, err
	}
	if length > maxPacket {
		return packet{}, fmt.Errorf("a packet of %d bytes", length)
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(in, body); err != nil {
		return packet{}, err
	}
	return packet{first >> 4, first & 0xf, body}, nil
}

// readLength reads a variable byte integer of at most four bytes.
func readLength(in io.ByteReader) (n int, err error) {
	for shift := 0; shift < 28; shift += 7 {
		b, err := in.ReadByte()
		if err != nil {
			return 0, err
		}
		n |= int(b&0x7f) << shift
		if b < 0x80 {
			return n, nil
		}
	}
	return 0, errors.New("a length of more than four bytes")
}

// reader takes fields off a packet. After one that did not fit it is short,
// and empty.
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

func (r *reader) uint16() (n uint16) {
	if b := r.take(2); b != nil {
		n = binary.BigEndian.Uint16(b)
	}
	return n
}

func (r *reader) string() string { return string(r.take(int(r.uint16()))) }

// ReadByte makes a reader an io.ByteReader.
func (r *reader) ReadByte() (byte, error) {
	if b := r.take(1); b != nil {
		return b[0], nil
	}
	return 0, errShort
}

// properties takes the properties that stand next.
func (r *reader) properties() *reader {
	n, err := readLength(r)
	if err != nil {
		r.short = true
	}
	return &reader{rest: r.take(n)}
}

// message is a PUBLISH.
type message struct {
	Message
	id       uint16
	qos      byte
	retained bool
}

// parsePublish reads a PUBLISH (section 3.3).
func parsePublish(p packet) (message, error) {
	r := &reader{rest: p.body}
	m := message{qos: p.flags >> 1 & 3, retained: p.flags&1 != 0}
	m.Topic = r.string()
	if m.qos > 0 {
		m.id = r.uint16()
	}
	properties := r.properties()
	for len(properties.rest) > 0 {
		switch id := properties.take(1)[0]; id {
		case payloadFormat:
			properties.take(1)
		case messageExpiry:
			properties.take(4)
		case topicAlias:
			properties.take(2)
		case contentType, responseTopic, correlationData:
			_ = properties.string()
		case userProperty:
			name := properties.string()
			m.Properties = append(m.Properties, [2]string{name, properties.string()})
		default:
			return m, fmt.Errorf("a PUBLISH with property %#x", id)
		}
	}
	if r.short || properties.short {
		return m, errShort
	}
	m.Payload = r.rest
	return m, nil
}

// client is what a CONNECT (section 3.1) says that matters here.
type client struct {
	id         string
	cleanStart bool
}

func parseConnect(p packet) (client, error) {
	r := &reader{rest: p.body}
	protocol, level, flags := r.string(), r.take(1), r.take(1)
	r.uint16() // keep alive
	r.properties()
	id := r.string()
	switch {
	case r.short:
		return client{}, errShort
	case p.kind != connect || protocol != "MQTT" || level[0] != 5:
		return client{}, errors.New("the first packet is no CONNECT of MQTT 5")
	}
	return client{id, flags[0]&2 != 0}, nil
}

// connack accepts (section 3.2): session present, success, Receive Maximum and
// Maximum Packet Size.
func connack(present bool, receiveMaximum int) []byte {
	b := []byte{0x20, 11, 0, 0, 8, 0x21}
	if present {
		b[2] = 1
	}
	b = binary.BigEndian.AppendUint16(b, uint16(receiveMaximum))
	return binary.BigEndian.AppendUint32(append(b, 0x27), maxPacket)
}

// puback answers a PUBLISH (section 3.4); success is said in the short form.
func puback(id uint16, code byte) []byte {
	if code == 0 {
		return []byte{0x40, 2, byte(id >> 8), byte(id)}
	}
	return []byte{0x40, 3, byte(id >> 8), byte(id), code}
}

// suback grants all filters of a SUBSCRIBE at QoS 1 (sections 3.8 and 3.9).
func suback(p packet) ([]byte, error) {
	r := &reader{rest: p.body}
	id := r.uint16()
	r.properties()
	body := []byte{byte(id >> 8), byte(id), 0}
	for len(r.rest) > 0 {
		_ = r.string()
		r.take(1)
		body = append(body, 1)
	}
	if r.short || len(body) > 127 {
		return nil, errShort
	}
	return append([]byte{0x90, byte(len(body))}, body...), nil
}
