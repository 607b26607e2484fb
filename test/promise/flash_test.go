package promise

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/test/rig"
)

// roundTrip is that of a mobile network: longer than an offline gateway gathers
// messages before it writes them (100 ms), and shorter than spill_after (2 s).
const roundTrip = 300 * time.Millisecond

// TestNoFlashOnline: while the link works a message costs the card nothing, by
// the kernel's count of what reaches the device. With SLOW=1 for ten minutes.
func TestNoFlashOnline(t *testing.T) {
	const rate = 100
	seconds := 15
	if os.Getenv(slowTests) != "" {
		seconds = 600
	}
	d := newDisk(t)
	g := newGateway(t, d.Folder, map[string]string{
		"telemetry.interval": `"1h"`, "cloud.publish_rate": "0",
	})
	g.gate.Delay(roundTrip)
	before := d.written()
	used := processorTime(t, g.PID())
	idle := resident(t, g.PID())
	begin := time.Now()
	p := g.produce(load{n: seconds * rate, size: 200, rate: rate})
	most := int64(0)
	rig.Eventually(t, time.Duration(seconds)*time.Second+soon, func() error {
		most = max(most, resident(t, g.PID()))
		if p.Running() {
			return fmt.Errorf("%d of %d messages are acknowledged", len(p.acked()), seconds*rate)
		}
		return nil
	})
	took := time.Since(begin)
	used = processorTime(t, g.PID()) - used
	written := d.written() - before
	t.Logf("%d messages in %.1f s: %d bytes reached the device; resident memory %.1f MB before, %.1f MB at most; %.0f ms of processor time, %.2f ms a second, %.3f ms a message",
		seconds*rate, took.Seconds(), written, float64(idle)/1e6, float64(most)/1e6, float64(used.Milliseconds()),
		float64(used.Microseconds())/1e3/took.Seconds(), float64(used.Microseconds())/1e3/float64(seconds*rate))
	if n, missing := g.judge(soon); n != seconds*rate || missing != 0 {
		t.Errorf("%d of %d messages are acknowledged, %d of them not delivered", n, seconds*rate, missing)
	}
	if written != 0 {
		t.Errorf("%d bytes were written to the device; want none", written)
	}

	// The same offline: the count can see us.
	g.goOffline()
	before = d.written()
	g.must(load{from: seconds * rate, n: 3 * rate, size: 200, rate: rate})
	offline := d.written() - before
	t.Logf("offline: %d bytes for %d messages", offline, 3*rate)
	if offline < 3*rate*200 {
		t.Errorf("%d bytes reached the device for %d messages of 200 bytes", offline, 3*rate)
	}
	g.gate.Delay(0)
	g.goOnline()
	g.judge(soon)
}

// TestFlashOffline prints what an outage costs the card, a message and a day, at
// several rates: a log whose files are there, with messages of 200 bytes.
func TestFlashOffline(t *testing.T) {
	if os.Getenv(slowTests) == "" {
		t.Skipf("skipped: it takes four minutes; set %s=1", slowTests)
	}
	const seconds = 60
	d := newDisk(t)
	g := newGateway(t, d.Folder, map[string]string{"buffer.max_size": `"2MiB"`})
	g.goOffline()
	next := 12_000
	g.must(load{n: next, size: 200, rate: 1000}) // both files are made
	for _, rate := range []int{1, 10, 100} {
		before := d.written()
		g.must(load{from: next, n: seconds * rate, size: 200, rate: rate})
		next += seconds * rate
		written := d.written() - before
		t.Logf("%3d messages a second: %4d bytes a message, %4d MB a day", rate, written/int64(seconds*rate), written*86400/seconds/1e6)
	}
	before := d.written()
	rig.Throughout(t, seconds*time.Second, func() error { return nil })
	written := d.written() - before
	t.Logf("  0 messages a second: %d bytes in %d s, %d MB a day", written, seconds, written*86400/seconds/1e6)
}

// resident is a process's resident memory, in bytes.
func resident(t *testing.T, pid int) int64 {
	t.Helper()
	for line := range strings.Lines(proc(t, pid, "status")) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kilobytes, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kilobytes << 10
		}
	}
	t.Fatalf("process %d has no VmRSS", pid)
	return 0
}

// processorTime is what a process has used, in user and kernel mode.
func processorTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	// The name of the program is in parentheses; the fields behind it are 3, 4, …
	_, rest, _ := strings.Cut(proc(t, pid, "stat"), ") ")
	fields := strings.Fields(rest)
	var ticks int64
	for _, f := range fields[14-3 : 16-3] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100 // the kernel's USER_HZ
}

func proc(t *testing.T, pid int, file string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), file))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
