package settings

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
)

// Size is a number of bytes that is written as "64MiB", "512KiB" or "1024B".
// The units are binary only, so that nobody has to guess what "MB" means.
type Size int64

var sizeForm = regexp.MustCompile(`^([0-9]+)(B|KiB|MiB|GiB|TiB)$`)

// sizeUnits in falling order; each is 1024 of the next.
var sizeUnits = [...]struct {
	name  string
	bytes Size
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1},
}

// UnmarshalText takes a whole number and a unit. On an error the value is
// unchanged.
func (s *Size) UnmarshalText(b []byte) error {
	text := string(b)
	m := sizeForm.FindStringSubmatch(text)
	if m == nil {
		return fmt.Errorf("%q is not a size; write a whole number and B, KiB, MiB, GiB or TiB, such as 64MiB", text)
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	for _, u := range sizeUnits {
		if u.name != m[2] {
			continue
		}
		if err != nil || n > math.MaxInt64/int64(u.bytes) {
			return fmt.Errorf("%q is too large for a size", text)
		}
		*s = Size(n) * u.bytes
	}
	return nil
}

// MarshalText is the inverse of UnmarshalText.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// String uses the largest unit that gives a whole number. UnmarshalText of it
// gives the same size where it is not negative.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if s != 0 && s%u.bytes == 0 {
			return fmt.Sprintf("%d%s", int64(s/u.bytes), u.name)
		}
	}
	return "0B"
}
