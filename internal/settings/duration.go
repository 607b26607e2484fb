package settings

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Duration is a time.Duration that is written as "90s", "168h" or "1h30m".
type Duration time.Duration

var (
	durationForm = regexp.MustCompile(`^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`)
	dayForm      = regexp.MustCompile(`^[0-9]+d$`)
)

// UnmarshalText takes one or more numbers, each with a unit of ms, s, m or h;
// no sign, no spaces. On an error the value is unchanged.
func (d *Duration) UnmarshalText(b []byte) error {
	text := string(b)
	switch {
	case dayForm.MatchString(text):
		return fmt.Errorf("%q is not a duration: there is no unit for days; write 24h for 1d", text)
	case !durationForm.MatchString(text):
		return fmt.Errorf("%q is not a duration; write a number and a unit, such as 90s, 20m or 168h", text)
	}
	v, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%q is too long for a duration", text)
	}
	*d = Duration(v)
	return nil
}

// MarshalText is the inverse of UnmarshalText.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// String gives the form that people write: "60s" rather than "1m0s", "168h"
// rather than "168h0m0s". UnmarshalText of it gives the same duration where it
// is not negative and a whole number of milliseconds.
func (d Duration) String() string {
	switch v := time.Duration(d); {
	case v != 0 && v%time.Hour == 0:
		return fmt.Sprintf("%dh", v/time.Hour)
	case v%time.Minute == 0 && v > time.Minute:
		return fmt.Sprintf("%dm", v/time.Minute)
	case v%time.Second == 0:
		return fmt.Sprintf("%ds", v/time.Second)
	case v > 0 && v < time.Second && v%time.Millisecond == 0:
		return fmt.Sprintf("%dms", v/time.Millisecond)
	default:
		return strings.ReplaceAll(v.String(), "m0s", "m")
	}
}
