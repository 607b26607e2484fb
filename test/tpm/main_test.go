// Package tpm proves on the real agent, with a real software TPM, what a
// gateway does when its TPM or its key file fails, where a key must not live,
// and that the key works in other programs. Every sentence that a technician
// then reads is asserted here.
package tpm

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/swtpmtest"
	"github.com/jitr-agent/jitr-agent/test/rig"
)

func TestMain(m *testing.M) { rig.Main(m) }

// soon is enough for what needs no waiting in the agent, on a busy machine.
const soon = 15 * time.Second

// in are the settings of a gateway whose key is in a TPM.
func in(s *swtpmtest.TPM, key string) map[string]string {
	return map[string]string{
		"identity.key": strconv.Quote(key), "identity.tpm_device": strconv.Quote(s.Device), "telemetry.interval": `"1s"`,
	}
}

// tool runs a program of tpm2-tools or OpenSSL on the TPM.
func tool(t *testing.T, s *swtpmtest.TPM, name string, args ...string) {
	t.Helper()
	r := rig.RunEnv(t, []string{"TPM2TOOLS_TCTI=" + s.TCTI, "TPM2OPENSSL_TCTI=" + s.TCTI}, name, args...)
	if r.Code != 0 {
		t.Fatalf("%s\n(apt-get install openssl tpm2-openssl tpm2-tools)", r)
	}
}

// path is a file in the agent's state directory.
func path(a *rig.Agent, name string) string { return filepath.Join(a.StateDir, name) }

func put(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// awaitCause waits for a state that a technician can read: a cause, a sentence
// and what to do.
func awaitCause(t *testing.T, a *rig.Agent, d time.Duration, cause string, says ...string) {
	t.Helper()
	var s rig.Status
	rig.Eventually(t, d, func() error {
		s = a.Status()
		if s.At(t, "cause") != cause {
			return fmt.Errorf("the agent is %v (%v: %v), want %s", s["state"], s["cause"], s["message"], cause)
		}
		return nil
	})
	message, _ := s.At(t, "message").(string)
	remedy, _ := s.At(t, "remedy").(string)
	if s.At(t, "state") != "waiting-for-identity" || remedy == "" {
		t.Errorf("state %v, remedy %q", s["state"], remedy)
	}
	for _, text := range says {
		if !strings.Contains(message+"; "+remedy, text) {
			t.Errorf("%s: %q does not say %q", cause, message+"; "+remedy, text)
		}
	}
	if strings.Contains(message, "\n") {
		t.Errorf("more than one line: %q", message)
	}
	if want := map[string]string{
		"tpm-absent": "absent", "tpm-denied": "denied", "tpm-changed": "changed", "tpm-locked": "locked", "tpm-failing": "failing",
	}[cause]; want != "" && s.At(t, "tpm.state") != want {
		t.Errorf("%s: tpm.state is %v", cause, s.At(t, "tpm.state"))
	}
}

func rigError(s rig.Status) error {
	return fmt.Errorf("the agent is %v (%v), counters %v", s["state"], s["cause"], s["counters"])
}

// reconnect ends the agent's connection, and spares it the wait until the next
// one.
func reconnect(sim *rig.Sim, agent *rig.Agent) {
	sim.Stop()
	sim.Start()
	agent.Signal(syscall.SIGUSR1)
}
