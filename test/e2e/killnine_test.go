package e2e

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/test/rig"
)

// TestKillNine kills the service at random points of its first connect and
// while it is online, and finds the same gateway again each time.
func TestKillNine(t *testing.T) {
	t.Parallel()
	const thing, whilePending, whileConnecting, whileOnline = "gw-1", 4, 8, 3
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)

	sim := rig.StartSim(t)
	observer := sim.Observe(t, "init/#")
	agent := rig.NewAgent(t, sim.Settings(), file)
	id := agent.Enrol(sim.CA, thing)
	key, cert := agent.File("device.key"), agent.File("device.crt")

	// Most of what can be hit happens in the first moments of a run, so the
	// delays are drawn with their logarithm: 5 ms to 2 s.
	kill := func() {
		t.Helper()
		delay := time.Duration(float64(5*time.Millisecond) * math.Pow(400, random.Float64()))
		t.Logf("kill -9 in %s", delay)
		select {
		case <-time.After(delay):
		case <-agent.Exited():
			t.Fatal("the agent ended by itself")
		}
		agent.Kill()
	}
	marked := func() bool { return strings.Contains(agent.File("state.json"), "init_at") }

	for range whilePending {
		agent.Start()
		kill()
	}
	if sim.CertificateStatus(id) == "" { // all of them came before the first CONNECT
		agent.Start()
		awaitStatus(t, sim, id, "PENDING_ACTIVATION")
		agent.Kill()
	}
	if marked() {
		t.Fatal("state.json says that the init was sent before the activation")
	}
	sim.Activate(id, rig.AllowAll)
	stale := filepath.Join(agent.StateDir, ".state.json.123.tmp") // as a kill within a write leaves it
	if err := os.WriteFile(stale, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	unmarked := 0 // runs that may have sent the init and left no marker
	for range whileConnecting {
		agent.Start()
		kill()
		if !marked() {
			unmarked++
		}
	}
	agent.Start()
	agent.Await(soon, "online")
	if !marked() {
		t.Error("online, and state.json does not say that the init was sent")
	}

	// From here on the marker is on the disk, and the init never comes again.
	rig.Eventually(t, soon, func() error {
		if len(observer.Messages("init/")) == 0 {
			return fmt.Errorf("the observer saw no init")
		}
		return nil
	})
	inits := len(observer.Messages("init/"))
	for range whileOnline {
		kill()
		agent.Start()
		agent.Await(soon, "online")
	}

	// The contract allows an init again where the agent died between PUBACK and
	// fsync. These are some milliseconds of a run, so a second hit among the
	// eight kills comes once in hundreds of tests, and a third one never.
	got := observer.Messages("init/")
	if len(got) != inits {
		t.Errorf("%d more init messages although state.json had the marker", len(got)-inits)
	}
	if len(got) > 1+unmarked || len(got) > 3 {
		t.Errorf("%d init messages, and %d kills before the marker was written", len(got), unmarked)
	}
	if agent.File("device.key") != key || agent.File("device.crt") != cert {
		t.Error("device.key or device.crt changed")
	}
	if ids := sim.Certificates(); !slices.Contains(ids, id) || len(ids) != 2 {
		t.Errorf("the registry has %q, want that of the gateway and the observer's", ids)
	}
	if code := agent.Stop(); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
	wantOwnFiles(t, agent)
}

// TestRestartKeepsItsDistance: AWS IoT takes one CONNECT a second for a client
// id. Whoever is killed and started again knows of the last one, also when a
// run between them sent none.
func TestRestartKeepsItsDistance(t *testing.T) {
	t.Parallel()
	sim := rig.StartSim(t, "--activate-after", "never")
	agent := rig.NewAgent(t, sim.Settings(), file)
	id := agent.Enrol(sim.CA, "gw-1")
	connects := func(n int) {
		t.Helper()
		rig.Eventually(t, soon, func() error {
			if got := len(sim.Attempts(id)); got < n {
				return fmt.Errorf("%d connects, want %d", got, n)
			}
			return nil
		})
	}
	for round := range 3 {
		agent.Start()
		connects(2*round + 1)
		agent.Kill()
		agent.Start() // too early to connect
		rig.Eventually(t, soon, func() error {
			if s := agent.Status(); s.At(t, "pid") != float64(agent.PID()) {
				return fmt.Errorf("status.json is of pid %v, want %d", s["pid"], agent.PID())
			}
			return nil
		})
		agent.Kill()
		agent.Start()
		connects(2*round + 2)
		agent.Kill()
	}
	all := sim.Attempts(id)
	for i := 1; i < len(all); i++ {
		// The record is of the outcome, which a busy machine delays.
		if gap := all[i].At.Sub(all[i-1].At); gap < 800*time.Millisecond {
			t.Errorf("connects %d and %d are %s apart", i, i+1, gap)
		}
	}
}

// wantOwnFiles: a kill while a file is written leaves its temporary file, and
// the next run sweeps it away.
func wantOwnFiles(t *testing.T, agent *rig.Agent) {
	t.Helper()
	entries, err := os.ReadDir(agent.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	known := []string{"device.crt", "device.key", "identity.lock", "lock", "state.json"}
	for _, e := range entries {
		if !slices.Contains(known, e.Name()) {
			t.Errorf("the state directory holds %s", e.Name())
		}
	}
}
