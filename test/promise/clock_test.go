package promise

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/test/rig"
)

const day = 24 * time.Hour

// wallClock is the wall clock of one agent, which the test sets. That of the
// machine is not touched: the agent is built with a time.Now that adds what
// stands in a file, and is the same in all else. The clocks that nobody can
// set, CLOCK_MONOTONIC and CLOCK_BOOTTIME, are real.
type wallClock struct {
	t    *testing.T
	file string
}

// set makes it differ from the right time.
func (c wallClock) set(ahead time.Duration) {
	c.t.Helper()
	if err := os.WriteFile(c.file, binary.NativeEndian.AppendUint64(nil, uint64(ahead/time.Second)), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// buildWithClock builds an agent with such a clock.
func buildWithClock(t *testing.T, program string) {
	t.Helper()
	root := strings.TrimSpace(rig.MustRun(t, "go", "env", "GOROOT"))
	source, err := os.ReadFile(filepath.Join(root, "src/time/time.go"))
	if err != nil {
		t.Fatal(err)
	}
	const reading = "\tsec, nsec, mono := runtimeNow()\n"
	head, body, found := strings.Cut(string(source), "func Now() Time {\n"+reading)
	if !found {
		t.Fatalf("this Go reads the clock in another way: %s", filepath.Join(root, "src/time/time.go"))
	}
	dir := rig.TempDir(t)
	shifted := filepath.Join(dir, "time.go")
	if err := os.WriteFile(shifted, []byte(head+"func Now() Time {\n"+reading+"\tsec += *shift\n"+body), 0o600); err != nil {
		t.Fatal(err)
	}
	shift, err := filepath.Abs("testdata/shift.go.txt")
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(root, "src/time/time.go"): shifted, filepath.Join(root, "src/time/shift.go"): shift,
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	rig.MustRun(t, "env", "CGO_ENABLED=0", "go", "build", "-trimpath", "-buildvcs=false", "-overlay", file, "-o", program, "../../cmd/agent")
}

// TestClock: with messages stored, the wall clock is set in every way. Nothing
// that was acknowledged is dropped, aged or out of order, but what is really too old.
func TestClock(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("skipped: only root can give the agent another boot id")
	}
	program := filepath.Join(rig.TempDir(t), "jitr-agent")
	buildWithClock(t, program)
	// max_age is 7 days, its default.
	for _, tt := range []struct {
		name  string
		steps []step
		aged  bool // of the first load
	}{
		{"below the floor, then right", []step{{ahead: -20 * 365 * day}, {ahead: 0}}, false},
		{"below the floor after a reboot, then right", []step{{ahead: 0}, {reboot: true, ahead: -20 * 365 * day}, {ahead: 0}}, false},
		{"years back, then right", []step{{ahead: 0}, {ahead: -5 * 365 * day}, {ahead: 0}}, false},
		{"a month ahead", []step{{ahead: 0}, {ahead: 30 * day}}, false},
		{"a month back", []step{{ahead: 30 * day}, {ahead: 0}}, false},
		{"a month ahead, seen from the next boot", []step{{ahead: 30 * day}, {reboot: true, ahead: 0}}, false},
		{"below the floor, seen a month ahead from the next boot", []step{{ahead: -20 * 365 * day}, {reboot: true, ahead: 30 * day}}, false},
		// The control: a month of absence, as two right clocks see it.
		{"a month later, in the next boot", []step{{ahead: 0}, {reboot: true, ahead: 30 * day}}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			setClocks(t, program, tt.steps, tt.aged)
		})
	}
}

// step is a setting of the clock, with messages handed in after it.
type step struct {
	reboot bool // the agent is stopped before, and starts in another boot
	ahead  time.Duration
}

const perStep = 300

func setClocks(t *testing.T, program string, steps []step, aged bool) {
	t.Helper()
	dir := rig.TempDir(t)
	clock := wallClock{t, filepath.Join(dir, "shift")}
	clock.set(0)
	g := newGateway(t, "", nil)
	g.Stop()
	bootID := filepath.Join(dir, "boot_id")
	boot := func(n int) {
		t.Helper()
		if err := os.WriteFile(bootID, fmt.Appendf(nil, "00000000-0000-4000-8000-%012d\n", n), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// The kernel's boot id is what another file says, for the agent only.
	g.Program = []string{
		"unshare", "--mount", "--propagation", "private", "sh", "-c",
		`mount --bind "$1" /proc/sys/kernel/random/boot_id && shift && exec "$@"`, "sh", bootID,
		"env", "CLOCK_SHIFT=" + clock.file, program,
	}
	boot(0)
	g.gate.Shut()
	for i, s := range steps {
		if s.reboot {
			g.Stop()
			boot(i)
		}
		clock.set(s.ahead)
		if s.reboot || i == 0 {
			g.again()
		}
		if s.ahead < -day {
			g.Signal(syscall.SIGUSR1) // it looks at the clock when it dials
			g.Await(soon, "waiting-for-clock")
		}
		g.must(load{from: perStep * i, n: perStep, size: kib})
	}
	rig.Eventually(t, soon, func() error {
		n, _ := g.Status().At(t, "buffer.messages").(float64)
		if want := perStep * len(steps); n < float64(want) {
			return fmt.Errorf("%v messages are stored; want %d at least", n, want)
		}
		return nil
	})
	g.goOnline()
	n, missing := g.judge(soon)
	g.empty(soon)
	if want := len(steps) * perStep; n != want {
		t.Errorf("%d messages were acknowledged; want %d", n, want)
	}
	switch {
	case aged && (missing != perStep || g.cloud.counted("aged") < perStep):
		t.Errorf("%d messages are missing, %d are counted as aged; want %d", missing, g.cloud.counted("aged"), perStep)
	case !aged && (missing != 0 || g.cloud.counted("") != 0):
		t.Errorf("%d messages are missing, %d are counted", missing, g.cloud.counted(""))
	}
}
