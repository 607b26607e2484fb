package clock

import (
	"regexp"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestFloor(t *testing.T) {
	day := func(n int) time.Time { return time.Date(2026, 3, n, 12, 0, 0, 0, time.UTC) }
	var never time.Time
	for name, c := range map[string]struct{ built, device, server, want time.Time }{
		"nothing is known":          {never, never, never, never},
		"the build alone":           {day(5), never, never, day(5)},
		"a new device certificate":  {day(5), day(10), never, day(9)},
		"an old device certificate": {day(5), day(1), never, day(5)},
		"within the day of grace":   {day(5), day(6).Add(-time.Second), never, day(5)},
		"a new server certificate":  {day(5), day(10), day(20), day(20)},
		"an old server certificate": {day(5), day(10), day(2), day(9)},
		"no build time":             {never, day(10), day(2), day(9)},
	} {
		if got := Floor(c.built, c.device, c.server); !got.Equal(c.want) {
			t.Errorf("%s: %v; want %v", name, got, c.want)
		}
	}
}

// Boot is the kernel's clock, suspends included, and never goes back.
func TestBoot(t *testing.T) {
	last := Boot()
	for range 10_000 {
		now := Boot()
		if now < last {
			t.Fatalf("it went from %v to %v", last, now)
		}
		last = now
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		t.Fatal(err)
	}
	if uptime := time.Duration(info.Uptime) * time.Second; (uptime - last).Abs() > 5*time.Second {
		t.Errorf("Boot says %v, the kernel %v", last, uptime)
	}
}

func TestBootID(t *testing.T) {
	id := BootID()
	if !regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`).MatchString(id) {
		t.Errorf("%q is not a UUID", id)
	}
	if again := BootID(); again != id {
		t.Errorf("%s, and then %s", id, again)
	}
}
