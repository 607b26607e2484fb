package iotcore

import (
	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
	"go.uber.org/zap"
)

// Message is a message that the broker accepted, for observers such as a
// rule engine.
type Message struct {
	Topic    string
	Payload  []byte // not to be changed
	ClientID string // empty: from the service itself or by REST

	// CertificateID is that of the connection that published it; empty as
	// ClientID is.
	CertificateID string
}

// readPublish checks the form of a PUBLISH.
func (h *hook) readPublish(cl *mqtt.Client, l *link, pk packets.Packet) (packets.Packet, error) {
	switch {
	case pk.FixedHeader.Qos > 1:
		return pk, h.disconnect(cl, packets.ErrQosNotSupported)
	case len(pk.Payload) > maxPayload || pk.FixedHeader.Remaining > maxPacketSize:
		return pk, h.disconnect(cl, packets.ErrPacketTooLarge)
	case pk.FixedHeader.Qos == 1 && !l.received():
		return pk, h.disconnect(cl, packets.ErrReceiveMaximum)
	}
	if p := &pk.Properties; p.TopicAliasFlag {
		if p.TopicAlias == 0 || p.TopicAlias > topicAliasMaximum {
			return pk, h.disconnect(cl, packets.ErrTopicAliasInvalid)
		}
		pk.TopicName = cl.State.TopicAliases.Inbound.Set(p.TopicAlias, pk.TopicName)
		if pk.TopicName == "" {
			return pk, h.disconnect(cl, packets.ErrTopicAliasInvalid)
		}
	}
	if !mqtt.IsValidFilter(pk.TopicName, true) { // $SYS and the like: the broker would drop it silently
		return pk, h.disconnect(cl, packets.ErrTopicNameInvalid)
	}
	return pk, nil
}

// OnPublish asks the policy, with the answers that were measured on AWS: QoS 1
// gets its PUBACK and goes on, QoS 0 and MQTT 3.1.1 are cut off.
//
// A reason code must be returned as it is: the broker panics on a wrapped one.
func (h *hook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	l := linkOf(cl)
	if l == nil {
		return pk, nil
	}
	code, ok := h.judgePublish(l, pk)
	switch {
	case ok:
		return pk, nil
	case cl.Properties.ProtocolVersion == 5 && pk.FixedHeader.Qos == 1:
		h.log.Info("A publish was refused.", l.describe(), zap.String("topic", pk.TopicName), zap.Uint8("code", code.Code))
		return pk, code
	default:
		h.log.Info("A publish was refused, and the connection closed.", l.describe(), zap.String("topic", pk.TopicName), zap.Uint8("code", code.Code))
		return pk, h.disconnect(cl, code)
	}
}

func (h *hook) judgePublish(l *link, pk packets.Packet) (packets.Code, bool) {
	topic := pk.TopicName
	if !validTopic(topic) {
		return packets.ErrTopicNameInvalid, false
	}
	if filter := h.faults.get().DenyPublish; filter != "" && matches(filter, topic) {
		return packets.ErrNotAuthorized, false
	}
	if !mayPublish(topic) || !h.allowed(l, "iot:Publish", "topic", topic) {
		return packets.ErrNotAuthorized, false
	}
	if pk.FixedHeader.Retain && !h.allowed(l, "iot:RetainPublish", "topic", topic) {
		return packets.ErrNotAuthorized, false
	}
	return packets.CodeSuccess, true
}

// OnPublished follows the delivery of any message: a client's, the service's
// own, and those of REST.
func (h *hook) OnPublished(cl *mqtt.Client, pk packets.Packet) {
	m := Message{Topic: pk.TopicName, Payload: pk.Payload}
	if l := linkOf(cl); l != nil {
		m.ClientID, m.CertificateID = cl.ID, l.principal.Load().id
		h.shadowRequest(pk.TopicName, pk.Payload)
	}
	h.mu.Lock()
	observers := h.observers
	h.mu.Unlock()
	for _, tell := range observers {
		tell(m)
	}
}

// shadowRequest answers a message to a request topic of the shadow service.
func (h *hook) shadowRequest(topic string, payload []byte) {
	t, ok := parseShadowTopic(topic)
	if !ok {
		return
	}
	h.send(h.shadows.mqtt(t, payload))
}

// send publishes messages of the service itself.
func (h *hook) send(messages []message) {
	for _, m := range messages {
		if err := h.broker.Publish(m.topic, m.payload, false, 1); err != nil {
			h.log.Error("A message of the shadow service was not published.", zap.String("topic", m.topic), zap.Error(err))
		}
	}
}

// OnWill asks the policy about a last will. One that it denies goes nowhere.
func (h *hook) OnWill(cl *mqtt.Client, will mqtt.Will) (mqtt.Will, error) {
	l := linkOf(cl)
	if l != nil && validTopic(will.TopicName) && mayPublish(will.TopicName) && h.allowed(l, "iot:Publish", "topic", will.TopicName) {
		return will, nil
	}
	return mqtt.Will{}, nil
}
