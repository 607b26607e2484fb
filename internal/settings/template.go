package settings

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// AWS IoT Core's limits of a topic (developer guide, "Message broker and
// protocol limits and quotas").
const (
	maxTopicBytes    = 256
	maxTopicSegments = 8
)

var variable = regexp.MustCompile(`\{[a-z_]+\}`)

// Expand puts the values of vars for their names in braces: {thing_name},
// {source}, {topic}. A name that vars does not hold stays as it is, and a
// value is not expanded again.
func Expand(template string, vars map[string]string) string {
	return variable.ReplaceAllStringFunc(template, func(v string) string {
		if value, ok := vars[v[1:len(v)-1]]; ok {
			return value
		}
		return v
	})
}

// checkTopic refuses a template that no values of its variables could make a
// topic that AWS IoT Core takes a publish on.
func checkTopic(template string, vars []string) error {
	// The shortest value that a variable can have. What is then left of
	// braces is not a variable.
	shortest := variable.ReplaceAllStringFunc(template, func(v string) string {
		if slices.Contains(vars, v[1:len(v)-1]) {
			return "x"
		}
		return v
	})
	switch {
	case template == "":
		return errors.New("a topic cannot be empty")
	case strings.ContainsAny(shortest, "{}"):
		return fmt.Errorf("%q has a variable that is not known here; known: {%s}", template, strings.Join(vars, "}, {"))
	case strings.ContainsAny(shortest, "+#"):
		return fmt.Errorf("%q has a wildcard; a topic to publish on cannot have + or #", template)
	case strings.HasPrefix(shortest, "$"):
		return fmt.Errorf("%q starts with $; such topics are reserved by AWS", template)
	case strings.ContainsFunc(shortest, unicode.IsControl):
		return fmt.Errorf("%q has a control character", template)
	case len(shortest) > maxTopicBytes:
		return fmt.Errorf("the topic is longer than %d bytes, the limit of AWS IoT Core", maxTopicBytes)
	case strings.Count(shortest, "/") >= maxTopicSegments:
		return fmt.Errorf("%q has more than %d segments, the limit of AWS IoT Core", template, maxTopicSegments)
	}
	return nil
}
