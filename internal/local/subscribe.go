package local

import (
	"context"
	"slices"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/jitr-agent/jitr-agent/pkg/buffer"
)

// subscribe answers a SUBSCRIBE, and sends the retained messages behind it.
func (c *client) subscribe(ctx context.Context, body []byte) error {
	in := cursor{rest: body}
	id := in.uint16()
	if err := c.noIdentifier(&in); err != nil {
		return err
	}
	ack := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Suback}, PacketID: id}
	var fresh []subscription // that want the retained messages
	for len(in.rest) > 0 && !in.bad {
		filter, options := in.string(), in.byte()
		// Bits 6 and 7 are reserved in MQTT 5; in 3.1.1 all but the QoS are.
		if options&3 == 3 || options>>4&3 == 3 || options>>6 != 0 || c.version < v5 && options > 2 {
			in.bad = true
		}
		if in.bad {
			break
		}
		s := subscription{filter: filter, qos: min(options&3, 1), noLocal: options&4 != 0}
		code, isNew := c.addSubscription(s)
		ack.ReasonCodes = append(ack.ReasonCodes, code)
		// Retain handling 0: always, 1: only for a new one, 2: never.
		if handling := options >> 4 & 3; code < 0x80 && (handling == 0 || handling == 1 && isNew) {
			fresh = append(fresh, s)
		}
	}
	if err := checkSubscription(&in, id, len(ack.ReasonCodes)); err != nil {
		return err
	}
	if err := c.answer(ctx, ack); err != nil {
		return err
	}
	for _, s := range fresh {
		c.server.feed.replay(c, s)
	}
	return nil
}

// noIdentifier reads the properties of a SUBSCRIBE: there are no subscription
// identifiers here, as in AWS IoT Core.
func (c *client) noIdentifier(in *cursor) error {
	if c.version < v5 {
		return nil
	}
	properties := in.properties()
	for len(properties.rest) > 0 {
		switch id := properties.byte(); id {
		case packets.PropUser:
			properties.text()
			properties.text()
		case packets.PropSubscriptionIdentifier:
			return faultf(packets.ErrSubscriptionIdentifiersNotSupported, "there are no subscription identifiers here")
		default:
			return faultf(packets.ErrProtocolViolationUnsupportedProperty, "property %d has no place there", id)
		}
	}
	in.bad = in.bad || properties.bad
	return nil
}

// checkSubscription says what is wrong with a SUBSCRIBE or UNSUBSCRIBE.
func checkSubscription(in *cursor, id uint16, filters int) error {
	switch {
	case in.bad:
		return faultf(packets.ErrMalformedPacket, "a malformed SUBSCRIBE or UNSUBSCRIBE")
	case id == 0: // [MQTT-2.2.1-3]
		return faultf(packets.ErrProtocolViolationNoPacketID, "a SUBSCRIBE or UNSUBSCRIBE without packet id")
	case filters == 0: // [MQTT-3.8.3-2]
		return faultf(packets.ErrProtocolViolationNoFilters, "a SUBSCRIBE or UNSUBSCRIBE without topic filter")
	}
	return nil
}

// addSubscription says with which code it is to be answered, and whether
// there was none with the same filter.
func (c *client) addSubscription(s subscription) (code byte, isNew bool) {
	refused := c.server.checkFilter(s.filter)
	c.mu.Lock()
	i := slices.IndexFunc(c.subscriptions, func(old subscription) bool { return old.filter == s.filter })
	switch {
	case refused != nil:
	case i >= 0:
		c.subscriptions[i] = s
	case len(c.subscriptions) == maxSubscriptions:
		refused = faultf(packets.ErrQuotaExceeded, "a client can have %d subscriptions", maxSubscriptions)
	default:
		c.subscriptions = append(c.subscriptions, s)
	}
	c.mu.Unlock()
	if refused != nil {
		c.server.tell(c, s.filter, refused)
		if c.version < v5 {
			return packets.ErrUnspecifiedError.Code, false
		}
		return refused.code, false
	}
	c.server.feed.change(c, true)
	return s.qos, i < 0
}

func (c *client) unsubscribe(ctx context.Context, body []byte) error {
	in := cursor{rest: body}
	id := in.uint16()
	if err := c.noIdentifier(&in); err != nil {
		return err
	}
	ack := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsuback}, PacketID: id}
	for len(in.rest) > 0 && !in.bad {
		filter := in.string()
		code := packets.CodeNoSubscriptionExisted
		c.mu.Lock()
		before := len(c.subscriptions)
		c.subscriptions = slices.DeleteFunc(c.subscriptions, func(s subscription) bool { return s.filter == filter })
		left := len(c.subscriptions)
		c.mu.Unlock()
		if left < before {
			code = packets.CodeSuccess
		}
		if left == 0 {
			c.server.feed.change(c, false)
		}
		ack.ReasonCodes = append(ack.ReasonCodes, code.Code)
	}
	if err := checkSubscription(&in, id, len(ack.ReasonCodes)); err != nil {
		return err
	}
	return c.answer(ctx, ack)
}

// offer delivers m if the client subscribed to it. own: it is its own message.
func (c *client) offer(m *buffer.Message, qos byte, own bool) {
	wanted, granted := false, byte(0)
	c.mu.Lock()
	for _, s := range c.subscriptions {
		if (!own || !s.noLocal) && matches(s.filter, m.Topic) {
			wanted, granted = true, max(granted, s.qos)
		}
	}
	c.mu.Unlock()
	if wanted {
		c.deliver(delivery{message: m, qos: min(qos, granted)})
	}
}

// deliver queues a message. Where there is no room, one at QoS 0 is lost; one
// at QoS 1 must not be, so the client has to come again.
func (c *client) deliver(d delivery) {
	c.mu.Lock()
	room := c.end == nil && (len(c.queue) == 0 || len(c.queue) < maxQueue && c.queueBytes+d.size() <= maxQueueBytes)
	if room {
		c.queue = append(c.queue, d)
		c.queueBytes += d.size()
	}
	c.mu.Unlock()
	switch {
	case room:
		signal(c.wake)
	case d.qos > 0:
		c.finish(faultf(packets.ErrQuotaExceeded, "the client does not fetch the messages that it subscribed to"))
	}
}

// acknowledged takes a client's PUBACK of a delivery.
func (c *client) acknowledged(body []byte) error {
	in := cursor{rest: body}
	id := in.uint16() // MQTT 5's reason code does not matter here
	if in.bad {
		return faultf(packets.ErrMalformedPacketID, "a malformed PUBACK")
	}
	c.mu.Lock()
	delete(c.inFlight, id)
	c.mu.Unlock()
	signal(c.wake)
	return nil
}
