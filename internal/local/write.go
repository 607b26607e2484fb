package local

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

const (
	// maxInFlight is how many deliveries at QoS 1 may wait for the client's
	// PUBACK.
	maxInFlight = 20
	// oneWrite is after how many bytes a write is long enough.
	oneWrite = 16 << 10
	// keepWrite is the largest buffer for writes that is kept for the next.
	keepWrite = 2 * oneWrite
)

// write sends what is due, as much as there is in one write, until the
// connection has ended and the last words are out.
func (c *client) write() {
	var out bytes.Buffer
	for {
		last := c.gather(&out)
		if out.Len() > 0 {
			if _, err := c.conn.Write(out.Bytes()); err != nil {
				c.finish(errGone)
				return
			}
			out.Reset()
			if out.Cap() > keepWrite {
				out = bytes.Buffer{}
			}
			signal(c.room)
			if !last {
				continue
			}
		}
		if last {
			return
		}
		<-c.wake
	}
}

// gather encodes what is due, in the order answers, PUBACKs, deliveries. last
// says that nothing will follow.
func (c *client) gather(out *bytes.Buffer) (last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out.Write(c.control.Bytes())
	c.control.Reset()
	for s, ok := c.window.next(); ok; s, ok = c.window.next() {
		c.puback(out, s)
	}
	if c.end != nil {
		c.goodbye(out)
		return true
	}
	c.deliveries(out)
	if out.Len() > 0 {
		// Fails only on a closed connection; the write says so.
		_ = c.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	}
	return false
}

// puback answers a publish. With success it has the same four bytes in both
// versions.
func (c *client) puback(out *bytes.Buffer, s *slot) {
	if s.code == 0 || c.version < v5 {
		out.Write(binary.BigEndian.AppendUint16(append(out.AvailableBuffer(), packets.Puback<<4, 2), s.id))
		return
	}
	c.encode(out, &packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Puback},
		PacketID:    s.id, ReasonCode: s.code, Properties: packets.Properties{ReasonString: s.why},
	})
}

// goodbye tells a client of MQTT 5 why it is cut off.
func (c *client) goodbye(out *bytes.Buffer) {
	var f *fault
	if !c.greeted || c.version < v5 || !errors.As(c.end, &f) {
		return
	}
	c.encode(out, &packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Disconnect},
		ReasonCode:  f.code, Properties: packets.Properties{ReasonString: f.why},
	})
}

// deliveries takes messages from the queue, at QoS 1 as many as the client
// takes at a time.
func (c *client) deliveries(out *bytes.Buffer) {
	sent := 0
	for _, d := range c.queue {
		if out.Len() >= oneWrite || d.qos > 0 && len(c.inFlight) >= c.quota {
			break
		}
		sent++
		c.queueBytes -= d.size()
		c.encodeDelivery(out, d)
	}
	c.queue = slices.Delete(c.queue, 0, sent)
}

// encodeDelivery leaves out what the client said is too long for it
// ([MQTT-3.1.2-25]).
func (c *client) encodeDelivery(out *bytes.Buffer, d delivery) {
	m := d.message
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: d.qos, Retain: d.retain},
		TopicName:   m.Topic, Payload: m.Payload,
		Properties: packets.Properties{
			ContentType: m.ContentType, ResponseTopic: m.ResponseTopic, CorrelationData: m.CorrelationData,
			MessageExpiryInterval: m.Expiry,
		},
	}
	if m.Text {
		pk.Properties.PayloadFormat, pk.Properties.PayloadFormatFlag = 1, true
	}
	for _, p := range m.UserProperties {
		pk.Properties.User = append(pk.Properties.User, packets.UserProperty{Key: p[0], Val: p[1]})
	}
	if d.qos > 0 {
		pk.PacketID = c.freeID()
	}
	start := out.Len()
	c.encode(out, &pk)
	if c.maxPacket > 0 && uint64(out.Len()-start) > uint64(c.maxPacket) {
		out.Truncate(start)
	} else if d.qos > 0 {
		c.inFlight[pk.PacketID] = struct{}{}
	}
}

// freeID is a packet id that waits for no PUBACK.
func (c *client) freeID() uint16 {
	if c.inFlight == nil {
		c.inFlight = make(map[uint16]struct{}, maxInFlight)
	}
	for {
		c.lastID++
		if _, taken := c.inFlight[c.lastID]; !taken && c.lastID != 0 {
			return c.lastID
		}
	}
}

// encode writes a packet in the client's version of the protocol.
func (c *client) encode(out *bytes.Buffer, pk *packets.Packet) {
	pk.ProtocolVersion = c.version
	// Problem information is the reason strings of all but these three.
	kind := pk.FixedHeader.Type
	pk.Mods = packets.Mods{
		MaxSize: c.maxPacket, AllowResponseInfo: true,
		DisallowProblemInfo: !c.problemInfo && kind != packets.Publish && kind != packets.Connack && kind != packets.Disconnect,
	}
	var err error
	switch kind {
	case packets.Connack:
		err = pk.ConnackEncode(out)
	case packets.Publish:
		err = pk.PublishEncode(out)
	case packets.Puback:
		err = pk.PubackEncode(out)
	case packets.Suback:
		err = pk.SubackEncode(out)
	case packets.Unsuback:
		err = pk.UnsubackEncode(out)
	case packets.Pingresp:
		err = pk.PingrespEncode(out)
	case packets.Disconnect:
		err = pk.DisconnectEncode(out)
	}
	if err != nil {
		// The only error is a packet id of 0, and there is none.
		panic("local: " + err.Error())
	}
}
