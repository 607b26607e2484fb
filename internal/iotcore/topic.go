package iotcore

import "strings"

// validTopic says whether AWS takes a topic name or filter of this size.
func validTopic(topic string) bool {
	return topic != "" && len(topic) <= maxTopicBytes && strings.Count(topic, "/") < maxTopicSegments
}

// matches says whether a topic filter describes a topic, by the rules of
// AWS: as MQTT's, but a/# does not match a.
func matches(filter, topic string) bool {
	if strings.HasPrefix(topic, "$") != strings.HasPrefix(filter, "$") {
		return false // wildcards do not reach $ topics
	}
	for {
		f, filterRest, filterMore := strings.Cut(filter, "/")
		if f == "#" {
			return true
		}
		t, topicRest, topicMore := strings.Cut(topic, "/")
		if f != "+" && f != t {
			return false
		}
		if !filterMore || !topicMore {
			return filterMore == topicMore
		}
		filter, topic = filterRest, topicRest
	}
}

func hasWildcard(filter string) bool { return strings.ContainsAny(filter, "+#") }

// unshared is the topic filter of a shared subscription, $share/GROUP/FILTER;
// others are given back as they are.
func unshared(filter string) string {
	if rest, ok := strings.CutPrefix(filter, "$share/"); ok {
		_, filter, _ = strings.Cut(rest, "/")
	}
	return filter
}

// maySubscribe says whether clients may ask for such a filter at all: of the
// $ topics only those of AWS services.
func maySubscribe(filter string) bool {
	filter = unshared(filter)
	return !strings.HasPrefix(filter, "$") || strings.HasPrefix(filter, "$aws/")
}

// mayPublish says whether clients may publish to such a topic at all: of the
// $ topics only shadow requests.
func mayPublish(topic string) bool {
	if !strings.HasPrefix(topic, "$") {
		return true
	}
	_, ok := parseShadowTopic(topic)
	return ok
}

// shadowTopic is a request topic of the shadow service:
// $aws/things/THING/shadow[/name/NAME]/VERB.
type shadowTopic struct {
	shadowKey
	verb string // get, update or delete
}

func parseShadowTopic(topic string) (shadowTopic, bool) {
	parts := strings.Split(topic, "/")
	if len(parts) < 5 || parts[0] != "$aws" || parts[1] != "things" || parts[2] == "" || parts[3] != "shadow" {
		return shadowTopic{}, false
	}
	t := shadowTopic{shadowKey: shadowKey{thing: parts[2]}}
	rest := parts[4:]
	if rest[0] == "name" {
		if len(rest) != 3 || rest[1] == "" {
			return shadowTopic{}, false
		}
		t.name, rest = rest[1], rest[2:]
	}
	if len(rest) != 1 || (rest[0] != "get" && rest[0] != "update" && rest[0] != "delete") {
		return shadowTopic{}, false
	}
	t.verb = rest[0]
	return t, true
}
