package iotcore

import (
	"slices"
	"sync/atomic"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
	"go.uber.org/zap"
)

// subscription is a filter of the SUBSCRIBE in work, and our answer to it.
type subscription struct {
	packets.Subscription
	code byte
}

// readSubscribe checks the form of a SUBSCRIBE.
func (h *hook) readSubscribe(cl *mqtt.Client, pk packets.Packet) error {
	if len(pk.Properties.SubscriptionIdentifier) > 0 {
		return h.disconnect(cl, packets.ErrSubscriptionIdentifiersNotSupported)
	}
	for _, f := range pk.Filters {
		if f.Qos > 1 {
			return h.disconnect(cl, packets.ErrQosNotSupported)
		}
	}
	return nil
}

// OnSubscribe decides and makes the subscriptions itself, because the broker
// would ask one question, OnACLCheck, where AWS asks two: iot:Subscribe for
// the filter, iot:Receive for each message. It hands the broker filters that
// it cannot take, and OnSubscribed puts the truth into the answer.
func (h *hook) OnSubscribe(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	l := linkOf(cl)
	if l == nil {
		return pk
	}
	l.filters = l.filters[:0]
	blank := slices.Clone(pk.Filters)
	for i, f := range pk.Filters {
		s := subscription{Subscription: f}
		s.code = h.subscribe(cl, l, &s.Subscription, len(pk.Filters))
		l.filters = append(l.filters, s)
		blank[i].Filter = ""
	}
	pk.Filters = blank
	return pk
}

// subscribe gives the reason code: the granted QoS, or why not.
func (h *hook) subscribe(cl *mqtt.Client, l *link, f *packets.Subscription, together int) byte {
	_, again := cl.State.Subscriptions.Get(f.Filter)
	switch {
	case !mqtt.IsValidFilter(f.Filter, false) || !validTopic(unshared(f.Filter)):
		return packets.ErrTopicFilterInvalid.Code
	case f.NoLocal && mqtt.IsSharedFilter(f.Filter):
		return packets.ErrProtocolViolation.Code
	case together > maxFilters || (!again && cl.State.Subscriptions.Len() >= maxSubscriptions):
		return packets.ErrQuotaExceeded.Code
	case !maySubscribe(f.Filter) || !h.allowed(l, "iot:Subscribe", "topicfilter", f.Filter):
		h.log.Info("A subscription was refused.", l.describe(), zap.String("filter", f.Filter))
		return packets.ErrNotAuthorized.Code
	}
	if h.broker.Topics.Subscribe(cl.ID, *f) {
		atomic.AddInt64(&h.broker.Info.Subscriptions, 1)
	}
	cl.State.Subscriptions.Add(f.Filter, *f)
	if hasWildcard(f.Filter) || (again && f.RetainHandling == 1) {
		f.RetainHandling = 2 // AWS delivers retained messages to exact filters only
	}
	return f.Qos
}

// OnSubscribed completes the answer before it is sent: both slices are the
// broker's own. MQTT 3.1.1 is closed where anything is denied, and sees no
// SUBACK.
func (h *hook) OnSubscribed(cl *mqtt.Client, pk packets.Packet, codes []byte) {
	l := linkOf(cl)
	if l == nil {
		return
	}
	denied := false
	for i, s := range l.filters {
		pk.Filters[i] = s.Subscription
		codes[i] = s.code
		denied = denied || s.code >= packets.ErrUnspecifiedError.Code
	}
	if denied && cl.Properties.ProtocolVersion < 5 {
		cl.Stop(errClosed)
	}
}

// OnACLCheck is asked by the broker whether a client may publish, which
// OnPublish answers, and whether a message may be delivered to it: iot:Receive,
// and AWS's reading of filters. A message that may not is dropped silently.
func (h *hook) OnACLCheck(cl *mqtt.Client, topic string, write bool) bool {
	l := linkOf(cl)
	if write || l == nil {
		return true
	}
	subscribed := false
	for filter := range cl.State.Subscriptions.GetAll() {
		if matches(unshared(filter), topic) {
			subscribed = true
			break
		}
	}
	return subscribed && h.allowed(l, "iot:Receive", "topic", topic)
}
