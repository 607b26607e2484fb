package telemetry

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pi is a copy of the fixture that a test may change.
func pi(t *testing.T) (SystemOptions, string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/pi")); err != nil {
		t.Fatal(err)
	}
	// Not in the fixture: the Go module format takes no colon in a file name.
	write(t, filepath.Join(dir, "sys/devices/platform/soc/soc:firmware/get_throttled"), "50005\n")
	return SystemOptions{
		ProcFS:   filepath.Join(dir, "proc"),
		SysFS:    filepath.Join(dir, "sys"),
		BootTime: func() time.Duration { return 12345678 * time.Microsecond },
	}, dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestSystemOnAPi(t *testing.T) {
	opts, dir := pi(t)
	s := NewSystem(opts)
	want := map[string]any{
		"uptime_ms": int64(12345), "load_1m": 0.42, "load_5m": 0.31,
		"memory_total_bytes": uint64(949328 * 1024), "memory_available_bytes": uint64(734112 * 1024),
		"temperature_celsius": 48.3, "throttled": uint64(0x50005),
	}
	got, err := s.Measure(t.Context())
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("first: got %v, %v\nwant %v", got, err, want)
	}

	// 1000 ticks later: 300 of user (10 of them as guest), 200 of system, 50
	// waiting for disks, 450 idle.
	write(t, filepath.Join(dir, "proc/stat"), "cpu  10300 500 4200 80450 2550 0 300 0 10 0\n")
	want["cpu_percent"] = 50.0
	if got, err = s.Measure(t.Context()); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("second: got %v, %v\nwant %v", got, err, want)
	}

	// No time has passed: no share of it either.
	delete(want, "cpu_percent")
	if got, err = s.Measure(t.Context()); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("third: got %v, %v\nwant %v", got, err, want)
	}

	// Idle time cannot be above all time, even where iowait runs backwards.
	write(t, filepath.Join(dir, "proc/stat"), "cpu  10200 500 4200 80750 2550 0 300 0 10 0\n")
	if got, _ = s.Measure(t.Context()); got["cpu_percent"] != 0.0 {
		t.Errorf("cpu_percent is %v, want 0", got["cpu_percent"])
	}
}

func TestSystemWithoutABoard(t *testing.T) {
	opts, dir := pi(t)
	if err := os.RemoveAll(filepath.Join(dir, "sys")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "proc/loadavg")); err != nil { // as systemd's ProcSubset=pid has it
		t.Fatal(err)
	}
	got, err := NewSystem(opts).Measure(t.Context())
	if err != nil {
		t.Errorf("what is not there is an error: %v", err)
	}
	if keys := slices.Sorted(maps.Keys(got)); !slices.Equal(keys, []string{"memory_available_bytes", "memory_total_bytes", "uptime_ms"}) {
		t.Errorf("got %v", keys)
	}
}

// TestSystemNamesWhatItCannotRead: what is there and broken is told, and costs
// nothing else.
func TestSystemNamesWhatItCannotRead(t *testing.T) {
	opts, dir := pi(t)
	write(t, filepath.Join(dir, "sys/class/thermal/thermal_zone0/temp"), "hot\n")
	write(t, filepath.Join(dir, "sys/devices/platform/soc/soc:firmware/get_throttled"), "zz\n")
	write(t, filepath.Join(dir, "proc/loadavg"), "?\n")
	got, err := NewSystem(opts).Measure(t.Context())
	for _, part := range []string{"temperature", "throttled", "load"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not name %s: %v", part, err)
		}
	}
	if keys := slices.Sorted(maps.Keys(got)); !slices.Equal(keys, []string{"memory_available_bytes", "memory_total_bytes", "uptime_ms"}) {
		t.Errorf("got %v", keys)
	}
}

func TestTemperatureIsTheProcessors(t *testing.T) {
	opts, dir := pi(t)
	zones := filepath.Join(dir, "sys/class/thermal")
	write(t, filepath.Join(zones, "thermal_zone0/type"), "wifi\n")
	write(t, filepath.Join(zones, "thermal_zone3/type"), "cpu-thermal\n")
	write(t, filepath.Join(zones, "thermal_zone3/temp"), "-1250\n")
	got, err := NewSystem(opts).Measure(t.Context())
	if err != nil || got["temperature_celsius"] != -1.3 {
		t.Errorf("got %v, %v", got["temperature_celsius"], err)
	}
}

// TestSystemOnThisMachine reads the real files, and statfs.
func TestSystemOnThisMachine(t *testing.T) {
	dir := t.TempDir()
	s := NewSystem(SystemOptions{StateDir: dir})
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	got, err := s.Measure(t.Context())
	if err != nil {
		t.Error(err)
	}
	if want := st.Blocks * uint64(st.Frsize); got["disk_total_bytes"] != want {
		t.Errorf("disk_total_bytes is %v, want %d", got["disk_total_bytes"], want)
	}
	if free, ok := got["disk_free_bytes"].(uint64); !ok || free > got["disk_total_bytes"].(uint64) {
		t.Errorf("disk_free_bytes is %v", got["disk_free_bytes"])
	}
	for _, key := range []string{"uptime_ms", "load_1m", "load_5m", "memory_total_bytes", "memory_available_bytes"} {
		if _, ok := got[key]; !ok {
			t.Errorf("no %s: %v", key, got)
		}
	}
	if _, ok := got["cpu_percent"]; ok {
		t.Error("cpu_percent after a single sample")
	}

	if _, err := NewSystem(SystemOptions{StateDir: filepath.Join(dir, "none")}).Measure(t.Context()); err != nil {
		t.Errorf("a state directory that does not exist yet is an error: %v", err)
	}
}
