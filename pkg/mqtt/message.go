package mqtt

// Message is one publish, always at QoS 1.
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
