package buffer

// Message is what waits to be published, at QoS 1. Its fields are those of
// mqtt.Message, in the same order, so that one converts into the other.
type Message struct {
	Topic   string
	Payload []byte
	// MQTT 5 properties; zero values stand for "none".
	ContentType     string
	ResponseTopic   string
	CorrelationData []byte
	UserProperties  [][2]string // name, value
	Text            bool        // payload format indicator 1
	Expiry          uint32      // message expiry interval, seconds
}

// perMessage is what a message costs in memory beside its content, about.
const perMessage = 200

// size is what m counts against the limits, in bytes.
func (m *Message) size() int64 {
	n := perMessage + len(m.Topic) + len(m.Payload) + len(m.ContentType) + len(m.ResponseTopic) + len(m.CorrelationData)
	for _, p := range m.UserProperties {
		n += 32 + len(p[0]) + len(p[1])
	}
	return int64(n)
}
