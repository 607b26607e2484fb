package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/jitr-agent/jitr-agent/internal/swtpmtest"
	"github.com/jitr-agent/jitr-agent/test/rig"
)

// TestRunStaysUp: what is missing is a state that names the next command, and
// the service goes on by itself as soon as it is there.
func TestRunStaysUp(t *testing.T) {
	t.Parallel()
	sim := rig.StartSim(t, "--activate-after", "0s")
	agent := rig.NewAgent(t) // its configuration is empty

	wantState := func(state string, cause any, todo string) {
		t.Helper()
		rig.Eventually(t, soon, func() error {
			s := agent.Status()
			remedy, _ := s.At(t, "remedy").(string)
			if s.At(t, "running") != true || s.At(t, "state") != state || s.At(t, "cause") != cause || !strings.Contains(remedy, todo) {
				return fmt.Errorf("running %v, state %v, cause %v, remedy %q", s["running"], s["state"], s["cause"], remedy)
			}
			return nil
		})
		wantKeys(t, agent.Status())
		if r := agent.Run("status"); r.Code != 0 || !strings.Contains(r.Stdout, "What to do: ") || !strings.Contains(r.Stdout, todo) {
			t.Errorf("%v", r)
		}
	}

	if err := os.Remove(agent.ConfigFile); err != nil {
		t.Fatal(err)
	}
	agent.Start()
	wantState("waiting-for-configuration", nil, "set cloud.endpoint in "+agent.ConfigFile)
	if agent.File("device.key") != "" {
		t.Error("the service made a key by itself")
	}
	agent.Stop()

	agent.Configure(sim.Settings(), file)
	agent.Start()
	wantState("waiting-for-identity", "no-key", "jitr-agent csr")
	if agent.File("device.key") != "" {
		t.Error("the service made a key by itself")
	}
	csr := filepath.Join(rig.TempDir(t), "gw-1.csr")
	agent.MustRun("csr", "--subject", "CN=gw-1", "--out", csr)
	wantState("waiting-for-identity", "no-certificate", "jitr-agent import --cert")
	agent.MustRun("import", "--cert", sim.CA.Sign(t, csr))
	agent.Await(soon, "online") // nobody restarted it
	if len(agent.LogLines("starts")) != 2 {
		t.Errorf("the service was started twice: %q", agent.Log())
	}
}

// TestRun_refuses: what ends run, with its line, its exit code, and nothing
// changed on disk.
func TestRun_refuses(t *testing.T) {
	t.Parallel()
	sim := rig.StartSim(t)
	t.Run("a second run", func(t *testing.T) {
		t.Parallel()
		agent := rig.NewAgent(t, sim.Settings(), file)
		agent.Enrol(sim.CA, "gw-1")
		agent.Start()
		agent.Await(soon, "pending-activation")
		r := agent.Run("run")
		want := fmt.Sprintf("jitr-agent: cannot run with %s: another jitr-agent run has it (pid %d); stop that one first: systemctl stop jitr-agent\n", agent.StateDir, agent.PID())
		if r.Code != 1 || r.Stderr != want {
			t.Errorf("want exit code 1 and %s: %v", want, r)
		}
		if s := agent.Status(); s.At(t, "running") != true || s.At(t, "pid") != float64(agent.PID()) {
			t.Errorf("the status is no more that of the first: %v", s)
		}
	})
	t.Run("no common name", func(t *testing.T) {
		t.Parallel()
		agent := rig.NewAgent(t, sim.Settings(), file)
		agent.Enrol(sim.CA, "gw-1")
		installByHand(t, sim, agent, "/O=Acme", "9")
		r := agent.Run("run")
		if r.Code != 78 || !strings.HasSuffix(r.Stderr, "jitr-agent: device.crt has no usable common name; set cloud.thing_name\n") {
			t.Errorf("want exit code 78: %v", r)
		}
		wantValues(t, agent.Status(), map[string]any{"stopped.reason": "config", "stopped.exit_code": 78.0})
		// The remedy of the line works.
		agent.Configure(sim.Settings(), file, map[string]string{"cloud.thing_name": strconv.Quote("gw-2")})
		agent.Start()
		s := agent.Await(soon, "pending-activation")
		wantValues(t, s, map[string]any{"identity.thing_name": "gw-2"})
	})
}

// TestBadIdentityIsAState: a broken key, certificate or TPM never ends run,
// and run changes nothing about it.
func TestBadIdentityIsAState(t *testing.T) {
	t.Parallel()
	sim := rig.StartSim(t)
	other := rig.NewAgent(t, file)
	other.Enrol(sim.CA, "gw-2")
	tpm := swtpmtest.Start(t)
	inTPM := map[string]string{"identity.key": `"tpm"`, "identity.tpm_device": strconv.Quote(tpm.Device)}

	for cause, test := range map[string]struct {
		settings map[string]string
		spoil    func(t *testing.T, agent *rig.Agent)
	}{
		"key-mismatch": {file, func(t *testing.T, agent *rig.Agent) { replace(t, agent, "device.crt", other.File("device.crt")) }},
		"key-corrupt":  {file, func(t *testing.T, agent *rig.Agent) { replace(t, agent, "device.key", agent.File("device.key")[:60]) }},
		"tpm-absent":   {inTPM, func(t *testing.T, _ *rig.Agent) { tpm.PowerCut() }},
	} {
		t.Run(cause, func(t *testing.T) {
			t.Parallel()
			agent := rig.NewAgent(t, sim.Settings(), test.settings)
			id := agent.Enrol(sim.CA, "gw-1")
			test.spoil(t, agent)
			key, cert := agent.File("device.key"), agent.File("device.crt")
			agent.Start()
			s := agent.Await(soon, "waiting-for-identity")
			if remedy, _ := s.At(t, "remedy").(string); s.At(t, "cause") != cause || remedy == "" {
				t.Errorf("cause %v, remedy %q", s["cause"], remedy)
			}
			if code := agent.Stop(); code != 0 {
				t.Errorf("exit code %d after SIGTERM", code)
			}
			if agent.File("device.key") != key || agent.File("device.crt") != cert {
				t.Error("device.key or device.crt changed")
			}
			if n := len(sim.Attempts(id)); n != 0 {
				t.Errorf("%d connects without an identity", n)
			}
		})
	}
}

// TestExpiredCertificate: AWS IoT refuses it without a word, as it refuses a
// pending one, and only the gateway can know better.
func TestExpiredCertificate(t *testing.T) {
	t.Parallel()
	sim := rig.StartSim(t)
	agent := rig.NewAgent(t, sim.Settings(), file)
	agent.Enrol(sim.CA, "gw-1")
	installByHand(t, sim, agent, "/CN=gw-1", "-1")
	agent.Start()
	s := agent.Await(soon, "rejected")
	wantValues(t, s, map[string]any{"cause": "cert-expired", "event": "cert-expired", "attempts.last_phase": "connack"})
	wantKeys(t, s)
	if remedy, _ := s.At(t, "remedy").(string); !strings.Contains(remedy, "jitr-agent csr") {
		t.Errorf("the remedy is %q", remedy)
	}
}

// installByHand puts a certificate for the agent's key where import would
// refuse to: as a hand does, an older version, or time.
func installByHand(t *testing.T, sim *rig.Sim, agent *rig.Agent, subject, days string) {
	t.Helper()
	csr := filepath.Join(rig.TempDir(t), "csr")
	rig.MustRun(t, "openssl", "req", "-new", "-key", filepath.Join(agent.StateDir, "device.key"), "-subj", subject, "-out", csr)
	leaf := rig.MustRun(t, "openssl", "x509", "-req", "-in", csr, "-days", days,
		"-CA", sim.CA.Cert, "-CAkey", filepath.Join(sim.CA.Dir, "ca.key"), "-CAserial", csr+".srl", "-CAcreateserial")
	ca, err := os.ReadFile(sim.CA.Cert)
	if err != nil {
		t.Fatal(err)
	}
	replace(t, agent, "device.crt", leaf+string(ca))
}

func replace(t *testing.T, agent *rig.Agent, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(agent.StateDir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
