package local

import (
	"bytes"
	"strings"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/jitr-agent/jitr-agent/pkg/buffer"
)

// parseProperties adds the properties of a PUBLISH to m.
func parseProperties(in cursor, m *buffer.Message) error {
	var seen uint64 // bit n: property n
	for len(in.rest) > 0 {
		id := in.byte()
		if id != packets.PropUser && id < 64 {
			if seen&(1<<id) != 0 {
				return faultf(packets.ErrProtocolViolation, "property %d is there twice", id)
			}
			seen |= 1 << id
		}
		switch id {
		case packets.PropPayloadFormat:
			format := in.byte()
			if format > 1 {
				return faultf(packets.ErrProtocolViolation, "payload format indicator %d", format)
			}
			m.Text = format == 1
		case packets.PropMessageExpiryInterval:
			m.Expiry = max(in.uint32(), 1) // 0 is "none" to the buffer, and 1 to AWS
		case packets.PropContentType:
			m.ContentType = in.string()
		case packets.PropResponseTopic:
			m.ResponseTopic = in.string()
			if strings.ContainsAny(m.ResponseTopic, "+#") { // [MQTT-3.3.2-14]
				return faultf(packets.ErrProtocolViolation, "a response topic with wildcards")
			}
		case packets.PropCorrelationData:
			m.CorrelationData = bytes.Clone(in.binary())
		case packets.PropUser:
			name, value := in.string(), in.string()
			// Those two are the buffer's.
			if name != "stream" && name != "seq" {
				m.UserProperties = append(m.UserProperties, [2]string{name, value})
			}
		case packets.PropTopicAlias:
			return faultf(packets.ErrTopicAliasInvalid, "there are no topic aliases here")
		default:
			return faultf(packets.ErrProtocolViolationUnsupportedProperty, "property %d has no place in a PUBLISH", id)
		}
	}
	if in.bad {
		return faultf(packets.ErrMalformedProperties, "malformed properties of a PUBLISH")
	}
	return nil
}
