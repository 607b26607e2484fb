package local

import (
	"bytes"
	"context"
	"errors"
	"time"
	"unicode/utf8"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/jitr-agent/jitr-agent/pkg/buffer"
)

// fullRetry is how often a message of a client of MQTT 3.1.1, which cannot be
// told that the buffer is full, is offered again, and how long nobody looks
// whether a client that waits for room is still there.
const fullRetry = 500 * time.Millisecond

// publish hands a message to the buffer, and to the local subscribers.
func (c *client) publish(ctx context.Context, header byte, body []byte) error {
	qos := header >> 1 & 3
	switch {
	case qos == 2:
		err := faultf(packets.ErrQosNotSupported, "there is no QoS 2 here; publish with QoS 1")
		c.server.refuse(c, "", err)
		return err
	case qos == 3, qos == 0 && header&0x08 != 0: // [MQTT-3.3.1-4], [MQTT-3.3.1-2]
		return faultf(packets.ErrMalformedFlags, "a PUBLISH with impossible flags")
	}
	m, id, err := c.parsePublish(qos, body)
	if err != nil {
		return err
	}
	slot := -1 // without PUBACK
	if qos == 1 {
		if slot, err = c.takeSlot(ctx, id); err != nil {
			return err
		}
	}
	refused, err := c.take(ctx, m, slot)
	if err != nil {
		return err
	}
	if refused != nil {
		return c.refuse(m.Topic, refused, slot)
	}
	if c.server.feed.subscribers.Load() > 0 {
		local := m // what the feed keeps is on the heap; m is not
		c.server.feed.send(c, &local, qos)
	}
	return nil
}

// parsePublish decodes what follows the fixed header of a PUBLISH. Nothing of
// body is kept.
func (c *client) parsePublish(qos byte, body []byte) (m buffer.Message, id uint16, err error) {
	in := cursor{rest: body}
	topic := in.text()
	if string(topic) != c.lastTopic { // most clients have one
		c.lastTopic = string(topic)
	}
	m.Topic = c.lastTopic
	if qos > 0 {
		id = in.uint16()
	}
	if c.version == v5 {
		if err := parseProperties(in.properties(), &m); err != nil {
			return m, 0, err
		}
	}
	switch {
	case in.bad:
		return m, 0, faultf(packets.ErrMalformedPacket, "a malformed PUBLISH")
	case qos > 0 && id == 0: // [MQTT-2.2.1-3]
		return m, 0, faultf(packets.ErrProtocolViolationNoPacketID, "a PUBLISH at QoS 1 without packet id")
	case len(in.rest) > MaxPayload:
		err := faultf(packets.ErrPacketTooLarge, "a message of %d bytes is too large; it can have %d", len(in.rest), MaxPayload)
		c.server.refuse(c, m.Topic, err)
		return m, 0, err
	}
	m.Payload = bytes.Clone(in.rest)
	return m, id, nil
}

// takeSlot takes the next slot of the window. A client of MQTT 5 knows how
// many there are; one of 3.1.1 waits.
func (c *client) takeSlot(ctx context.Context, id uint16) (slot int, err error) {
	for {
		c.mu.Lock()
		full := c.window.full()
		if !full {
			slot = c.window.add(id)
		}
		c.mu.Unlock()
		switch {
		case !full:
			return slot, nil
		case c.version == v5: // [MQTT-3.3.4-9]
			return 0, faultf(packets.ErrReceiveMaximum, "more than %d messages without PUBACK", receiveMaximum)
		}
		if err := c.waitRoom(ctx); err != nil {
			return 0, err
		}
	}
}

// take hands m to the buffer, or says why not. A client of MQTT 3.1.1 cannot
// be told that it is to try later: with a message at QoS 1 it waits.
func (c *client) take(ctx context.Context, m buffer.Message, slot int) (refused *fault, err error) {
	var explained byte
	for {
		refused, err := c.offerBuffer(ctx, m, slot)
		if err != nil || refused == nil || !refused.passing() || slot < 0 || c.version == v5 {
			return refused, err
		}
		if refused.code != explained {
			c.server.explain(c, m.Topic, refused)
			explained = refused.code
		}
		if !wait(ctx, fullRetry) {
			return nil, ctx.Err()
		}
		if hungUp(c.conn) {
			return nil, errGone
		}
	}
}

// offerBuffer hands m to the buffer once. With a slot, what becomes of m
// settles it.
func (c *client) offerBuffer(ctx context.Context, m buffer.Message, slot int) (refused *fault, err error) {
	if refused := c.prepare(&m); refused != nil {
		return refused, nil
	}
	var done func(error)
	if slot >= 0 {
		done = c.window.done(c, slot)
	}
	switch err := c.server.cfg.Buffer.Put(ctx, m, done); {
	case err == nil:
		return nil, nil
	case errors.Is(err, buffer.ErrFull):
		return faultf(packets.ErrQuotaExceeded, "%v", err), nil
	case errors.Is(err, buffer.ErrTooLarge):
		return nil, faultf(packets.ErrPacketTooLarge, "the message is too large with its properties")
	case errors.Is(err, buffer.ErrClosed):
		return nil, errStopping
	default:
		return nil, err
	}
}

// prepare makes the cloud's message of a local one.
func (c *client) prepare(m *buffer.Message) *fault {
	topic, refused := c.server.destination(m.Topic)
	if refused != nil {
		return refused
	}
	m.Topic = topic
	if m.ResponseTopic != "" {
		if refused := cloudTopic(m.ResponseTopic); refused != nil {
			refused.why = "the response topic cannot be used: " + refused.why
			return refused
		}
	}
	if m.Text && !utf8.Valid(m.Payload) {
		return faultf(packets.ErrPayloadFormatInvalid, "the payload is said to be text, and is not UTF-8")
	}
	return nil
}

// refuse answers a message that was not taken.
func (c *client) refuse(topic string, why *fault, slot int) error {
	c.server.refuse(c, topic, why)
	switch {
	case c.version < v5 && !why.passing():
		return why // MQTT 3.1.1 has no other answer
	case slot >= 0:
		c.settle(slot, why.code, why.why)
	}
	return nil
}

// outcome turns the buffer's answer into a PUBACK.
func (c *client) outcome(slot int, err error) {
	var dead *buffer.Refused
	switch {
	case err == nil:
		c.settle(slot, packets.CodeSuccess.Code, "")
	case errors.As(err, &dead):
		// It is among the dead letters. A client of 3.1.1 gets its PUBACK for
		// that: sent again it would be refused again, for ever.
		c.settle(slot, pubackCode(dead.Code), dead.Error())
	case errors.Is(err, buffer.ErrClosed):
		// Nobody knows; the client has to send it again.
	case c.version < v5:
		c.finish(err) // no PUBACK: the client has to send it again
	case errors.Is(err, buffer.ErrFull):
		c.settle(slot, packets.ErrQuotaExceeded.Code, err.Error())
	default:
		c.settle(slot, packets.ErrUnspecifiedError.Code, err.Error())
	}
}

// pubackCode is the cloud's reason code where MQTT 5 has it in a PUBACK
// ([MQTT-3.4.2-1]), else the unspecified error: 0x95, for one, is an end of the
// connection to a client.
func pubackCode(code byte) byte {
	switch code {
	case packets.ErrImplementationSpecificError.Code, packets.ErrNotAuthorized.Code, packets.ErrTopicNameInvalid.Code,
		packets.ErrQuotaExceeded.Code, packets.ErrPayloadFormatInvalid.Code:
		return code
	}
	return packets.ErrUnspecifiedError.Code
}

// settle lets the PUBACK of slot go out when it is its turn.
func (c *client) settle(slot int, code byte, why string) {
	c.mu.Lock()
	turn := c.window.settle(slot, code, why)
	c.mu.Unlock()
	if turn {
		signal(c.wake)
	}
}
