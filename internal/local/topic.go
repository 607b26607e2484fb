package local

import (
	"slices"
	"strings"
	"unicode"

	"github.com/mochi-mqtt/server/v2/packets"
)

const (
	// telemetry is where local programs publish.
	telemetry = "telemetry/"

	// What AWS IoT Core takes; it closes the connection on more.
	maxTopicBytes    = 256
	maxTopicSegments = 8
)

// destination is where a publish to topic goes in the cloud.
func (s *Server) destination(topic string) (string, *fault) {
	rest, ok := strings.CutPrefix(topic, telemetry)
	if !ok || rest == "" {
		return "", faultf(packets.ErrTopicNameInvalid, "local programs publish to %s<one or more segments>", telemetry)
	}
	mapped, err := s.cfg.Map(rest)
	if err != nil {
		return "", faultf(packets.ErrImplementationSpecificError, "%v", err)
	}
	if strings.HasPrefix(mapped, "$") {
		return "", faultf(packets.ErrTopicNameInvalid, "topics in the cloud that start with $ are reserved by AWS")
	}
	return mapped, cloudTopic(mapped)
}

// cloudTopic refuses what would make AWS IoT Core close the connection.
func cloudTopic(topic string) *fault {
	invalid := packets.ErrTopicNameInvalid
	segments := strings.Count(topic, "/") + 1
	switch {
	case topic == "":
		return faultf(invalid, "the topic is empty")
	case len(topic) > maxTopicBytes:
		return faultf(invalid, "the topic has %d bytes in the cloud; AWS IoT Core takes %d", len(topic), maxTopicBytes)
	case segments > maxTopicSegments:
		return faultf(invalid, "the topic has %d segments in the cloud; AWS IoT Core takes %d", segments, maxTopicSegments)
	case strings.ContainsAny(topic, "+#"): // [MQTT-3.3.2-2]
		return faultf(invalid, "a topic to publish to has no wildcards")
	case strings.ContainsFunc(topic, unicode.IsControl):
		return faultf(invalid, "the topic has a control character")
	}
	return nil
}

// checkFilter says whether a client may subscribe to filter.
func (s *Server) checkFilter(filter string) *fault {
	rest, own := strings.CutPrefix(filter, telemetry)
	switch {
	case !validFilter(filter):
		return faultf(packets.ErrTopicFilterInvalid, "the topic filter is not a valid one")
	case strings.HasPrefix(filter, "$share/"):
		return faultf(packets.ErrSharedSubscriptionsNotSupported, "there are no shared subscriptions here")
	case own && rest != "", slices.Contains(s.cfg.Feeds, filter):
		return nil
	}
	served := strings.Join(append([]string{telemetry + "…"}, s.cfg.Feeds...), ", ")
	return faultf(packets.ErrNotAuthorized, "local programs subscribe to %s", served)
}

// validFilter: + and # stand alone in their level, # in the last one
// ([MQTT-4.7.1-1], [MQTT-4.7.1-2]).
func validFilter(filter string) bool {
	for more := true; more; {
		var level string
		level, filter, more = strings.Cut(filter, "/")
		if len(level) > 1 && strings.ContainsAny(level, "+#") || level == "#" && more {
			return false
		}
	}
	return true
}

// matches: filter is valid and topic has no wildcards.
func matches(filter, topic string) bool {
	for {
		want, filters, moreFilter := strings.Cut(filter, "/")
		if want == "#" {
			return true
		}
		level, topics, moreTopic := strings.Cut(topic, "/")
		if want != "+" && want != level {
			return false
		}
		if !moreTopic { // "a/#" is "a" as well
			return !moreFilter || filters == "#"
		}
		if !moreFilter {
			return false
		}
		filter, topic = filters, topics
	}
}
