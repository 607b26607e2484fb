package peers

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/swtpmtest"
	"github.com/jitr-agent/jitr-agent/test/rig"
)

// board is a gateway's processor, as qemu-user plays it.
type board struct {
	name   string
	goarch string
	goarm  string
	arch   string // the processor's own name, as the kernel and the init tell it
	qemu   []string
}

var boards = []board{
	{"arm64", "arm64", "", "aarch64", []string{"qemu-aarch64-static"}},
	// The ARM1176 of the first Raspberry Pi and of the Zero: it has nothing of
	// ARMv7, which a GOARM=7 binary shows below.
	{"armv6", "arm", "6", "armv6l", arm1176},
}

var arm1176 = []string{"qemu-arm-static", "-cpu", "arm1176"}

// build makes the agent for a board.
func (b board) build(t *testing.T) (file string) {
	t.Helper()
	file = filepath.Join(rig.TempDir(t), "jitr-agent")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-o", file, "github.com/jitr-agent/jitr-agent/cmd/agent")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+b.goarch, "GOARM="+b.goarm)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the agent for %s: %v\n%s", b.name, err, out)
	}
	return file
}

// install makes this board's binary the jitr-agent of the test. All the other
// programs stay this machine's.
func (b board) install(t *testing.T) {
	t.Helper()
	need(t, b.qemu[0], "qemu-user-static")
	dir := rig.TempDir(t)
	for _, name := range []string{"jitrctl", "iotcore-sim"} {
		if err := os.Symlink(rig.Bin(t, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	script := fmt.Sprintf("#!/bin/sh\nexec %s %s \"$@\"\n", strings.Join(b.qemu, " "), b.build(t))
	if err := os.WriteFile(filepath.Join(dir, "jitr-agent"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("RIG_BIN", dir) // so these tests cannot be parallel
}

// TestARM is the whole first connect, with a key in a software TPM, of the
// binaries that gateways run.
func TestARM(t *testing.T) {
	for _, b := range boards {
		t.Run(b.name, func(t *testing.T) {
			b.install(t)
			sim := rig.StartSim(t)
			observer := sim.Observe(t, "init/#", "dt/#")
			agent := rig.NewAgent(t, sim.Settings(), map[string]string{
				"identity.key": `"tpm"`, "identity.tpm_device": strconv.Quote(swtpmtest.Start(t).Device), "telemetry.interval": `"1s"`,
			})
			if err := contains(agent.MustRun("version").Stdout, "linux/"+b.goarch); err != nil {
				t.Fatal(err)
			}
			id := agent.Enrol(sim.CA, "gw-1")
			agent.Start()

			rig.Eventually(t, 2*soon, func() error {
				if status, n := sim.CertificateStatus(id), len(sim.Attempts(id)); status != "PENDING_ACTIVATION" || n < 2 {
					return fmt.Errorf("the registry says %q after %d connections", status, n)
				}
				return nil
			})
			// The negative control: not active, not seen.
			rig.Throughout(t, 2*time.Second, func() error { return count(len(observer.Messages("")), 0) })
			for _, a := range sim.Attempts(id) {
				if a.ClientCertificates != 2 || a.ClientID != "gw-1" {
					t.Errorf("the emulator saw %+v", a)
				}
			}

			sim.Activate(id, rig.AllowAll)
			rig.Eventually(t, 2*soon, func() error {
				if len(observer.Messages("init/gw-1")) == 0 || len(observer.Messages("dt/gw-1/system")) < 2 {
					return fmt.Errorf("the observer saw %q", observer.Messages(""))
				}
				return nil
			})
			var init struct {
				CertificateID string `json:"certificate_id"`
				KeyProvider   string `json:"key_provider"`
				Hardware      struct{ Arch string }
			}
			if err := json.Unmarshal(observer.Messages("init/gw-1")[0].Payload, &init); err != nil {
				t.Fatal(err)
			}
			if init.CertificateID != id || init.KeyProvider != "tpm" || init.Hardware.Arch != b.arch {
				t.Errorf("the init says %+v", init)
			}
			if status := sim.CertificateStatus(id); status != "ACTIVE" {
				t.Errorf("the registry says %q, want ACTIVE", status)
			}
			rig.Eventually(t, soon, func() error {
				if got := fmt.Sprint(sim.Shadow("gw-1")["reported"]); got != "map[telemetry:map[interval:1s]]" {
					return fmt.Errorf("the shadow's reported is %s", got)
				}
				return nil
			})
			if code := agent.Stop(); code != 0 {
				t.Errorf("run ended with exit code %d after SIGTERM", code)
			}
		})
	}
}

// TestARMv6IsNotARMv7 is the negative control of the board: code for ARMv7
// dies there of an illegal instruction.
func TestARMv6IsNotARMv7(t *testing.T) {
	b := board{"armv7 on ARM1176", "arm", "7", "", arm1176}
	b.install(t)
	r := rig.Run(t, rig.Bin(t, "jitr-agent"), "version")
	if err := contains(r.Stderr, "Illegal instruction"); err != nil || r.Code == 0 {
		t.Errorf("%v: %v", err, r)
	}
}
