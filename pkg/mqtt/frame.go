package mqtt

import (
	"encoding/binary"
	"math"

	"github.com/eclipse/paho.golang/packets"
)

// maxFrameLength is the largest length that a frame can announce, in bytes
// behind the fixed header (MQTT 5, 1.5.5).
const maxFrameLength = 1<<28 - 1

// frame is a PUBLISH at QoS 1 that is going to be encoded. paho's own encoder
// gives the same bytes and allocates 15 times on the way.
type frame struct {
	*Message
	properties int // their length in bytes
	body       int // what the fixed header announces
	legal      bool
}

func frameOf(m *Message) frame {
	f := frame{Message: m, legal: true}
	if m.Text {
		f.properties += 1 + 1
	}
	if m.Expiry > 0 {
		f.properties += 1 + 4
	}
	for _, n := range [...]int{len(m.ContentType), len(m.ResponseTopic), len(m.CorrelationData)} {
		if n > 0 {
			f.properties += 1 + f.field(n)
		}
	}
	for _, u := range m.UserProperties {
		f.properties += 1 + f.field(len(u[0])) + f.field(len(u[1]))
	}
	f.body = f.field(len(m.Topic)) + 2 + lengthSize(f.properties) + f.properties + len(m.Payload)
	return f
}

// field is the size of a string or of binary data of n bytes, which its length
// of two bytes must be able to say.
func (f *frame) field(n int) int {
	f.legal = f.legal && n <= math.MaxUint16
	return 2 + n
}

// fits says whether f can be sent to a server that takes packets of up to limit
// bytes, 0: of any size.
func (f *frame) fits(limit int) bool {
	return f.legal && f.body <= maxFrameLength && (limit == 0 || 1+lengthSize(f.body)+f.body <= limit)
}

// append encodes f behind b. The order of the properties is paho's.
func (f *frame) append(b []byte, id uint16) []byte {
	b = append(b, packets.PUBLISH<<4|1<<1) // QoS 1
	b = appendLength(b, f.body)
	b = appendField(b, f.Topic)
	b = binary.BigEndian.AppendUint16(b, id)
	b = appendLength(b, f.properties)
	if f.Text {
		b = append(b, packets.PropPayloadFormat, 1)
	}
	if f.Expiry > 0 {
		b = append(b, packets.PropMessageExpiry)
		b = binary.BigEndian.AppendUint32(b, f.Expiry)
	}
	if f.ContentType != "" {
		b = append(b, packets.PropContentType)
		b = appendField(b, f.ContentType)
	}
	if f.ResponseTopic != "" {
		b = append(b, packets.PropResponseTopic)
		b = appendField(b, f.ResponseTopic)
	}
	if len(f.CorrelationData) > 0 {
		b = append(b, packets.PropCorrelationData)
		b = appendField(b, f.CorrelationData)
	}
	for _, u := range f.UserProperties {
		b = append(b, packets.PropUser)
		b = appendField(b, u[0])
		b = appendField(b, u[1])
	}
	return append(b, f.Payload...)
}

func appendField[T string | []byte](b []byte, field T) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(field)))
	return append(b, field...)
}

// appendLength writes a Variable Byte Integer: seven bits a byte, the lowest
// first, which is how a protobuf varint is written too.
func appendLength(b []byte, n int) []byte { return binary.AppendUvarint(b, uint64(n)) }

// lengthSize is how many bytes appendLength takes for n.
func lengthSize(n int) int {
	size := 1
	for ; n > 0x7f; n >>= 7 {
		size++
	}
	return size
}
