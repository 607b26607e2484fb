package jitr

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/golden"
)

// TestSchedulePage holds the table of schedules in docs/first-connect.md to the
// rows.
func TestSchedulePage(t *testing.T) {
	const (
		page  = "../../docs/first-connect.md"
		begin = "<!-- go generate ./pkg/jitr writes schedules -->\n"
		end   = "<!-- end -->\n"
	)
	content, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(content), begin)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no place for the schedules", page)
	}
	golden.Check(t, "./pkg/jitr", map[string]string{page: before + begin + "\n" + scheduleTable() + "\n" + end + after})
}

func scheduleTable() string {
	var b strings.Builder
	b.WriteString("| schedule | causes | waits, each drawn evenly from its range |\n|---|---|---|\n")
	for _, r := range schedules {
		var causes []string
		for _, c := range r.causes {
			causes = append(causes, "`"+string(c)+"`")
		}
		name := r.name
		if r.long {
			name += " (an accepted certificate: after a session of " + inWords(LongSession) + ", or restarted while online)"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", name, strings.Join(causes, " "), waitsOf(r))
	}
	return b.String()
}

// waitsOf samples a row: its steps, or, where it has none, its waits after some
// time.
func waitsOf(r row) string {
	var ranges []string
	add := func(prefix string, n int, since time.Duration) bool {
		low, high := r.wait(n, since)
		text := inWords(high)
		if low != high {
			text = inWords(low) + "–" + text
		}
		if len(ranges) > 0 && strings.HasSuffix(ranges[len(ranges)-1], " "+text) {
			return false
		}
		ranges = append(ranges, prefix+" "+text)
		return true
	}
	if r.steady {
		for _, since := range []time.Duration{
			time.Second, 10 * time.Second, time.Minute, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour,
		} {
			add("after "+inWords(since)+":", 0, since)
		}
		if len(ranges) == 1 {
			return "each time" + strings.TrimPrefix(ranges[0], "after 1 s:")
		}
		return strings.Join(ranges, "; ")
	}
	for n := 0; add("", n, 0); n++ {
		continue
	}
	if len(ranges) > 5 {
		ranges = append(append(ranges[:3:3], " …"), ranges[len(ranges)-1])
	}
	return strings.TrimSpace(strings.Join(ranges, ",")) + " from then on"
}

func inWords(d time.Duration) string {
	switch {
	case d == 0:
		return "0"
	case d >= time.Hour && d%time.Hour == 0:
		return fmt.Sprintf("%d h", d/time.Hour)
	case d >= 2*time.Minute && d%time.Minute == 0:
		return fmt.Sprintf("%d min", d/time.Minute)
	default:
		return fmt.Sprintf("%g s", d.Seconds())
	}
}
