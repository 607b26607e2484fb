package tpm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/swtpmtest"
	"github.com/jitr-agent/jitr-agent/test/rig"
)

// TestStateDirInMemory: on the overlay of raspi-config a key would be lost at
// the next restart. csr refuses, run says it once.
func TestStateDirInMemory(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	base, err := os.MkdirTemp("/var/tmp", "x") //nolint:usetesting // /tmp may be in memory itself, /var/tmp is not
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	for _, d := range []string{"lower", "memory", "merged", "run"} {
		if err := os.Mkdir(filepath.Join(base, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put(t, filepath.Join(base, "agent.toml"), "[identity]\nkey = \"file\"\n")
	// TMPDIR: what lies below it is nobody's gateway.
	script := `cd "$1"; bin=$2; mount -t tmpfs tmpfs memory; mkdir memory/upper memory/work
mount -t overlay -o "lowerdir=lower,upperdir=$1/memory/upper,workdir=$1/memory/work" overlay merged
export TMPDIR=/nowhere RUNTIME_DIRECTORY=$1/run
agent() { "$bin" --config agent.toml --state-dir merged/state "$@"; }
agent csr --subject CN=gw-1 && echo "csr was not refused"
test ! -e merged/state/device.key || echo "a key was made"
agent csr --subject CN=gw-1 --force >/dev/null
timeout 2 "$bin" --config agent.toml --state-dir merged/state run`
	r := rig.RunEnv(t, nil, "unshare", "-m", "bash", "-uc", script, "bash", base, rig.Bin(t, "jitr-agent"))
	const ended = 124 // timeout(1)
	if r.Code != ended || strings.TrimSpace(r.Stdout) != "" {
		t.Fatal(r)
	}
	for text, want := range map[string]int{
		"a key made there would be lost: the overlay at " + base + "/merged keeps what is written in memory": 1,
		"say --force":                  1,
		"warning: what is written to":  1,
		"is lost at the next restart:": 2, // csr --force, and run
	} {
		if n := strings.Count(r.Stderr, text); n != want {
			t.Errorf("%q stands %d times, want %d:\n%s", text, n, want, r.Stderr)
		}
	}
}

// TestCopiedCard: the key was made on another board, as it says itself.
func TestCopiedCard(t *testing.T) {
	t.Parallel()
	serial, err := os.ReadFile("/sys/class/dmi/id/product_serial")
	if _, tree := os.Stat("/proc/device-tree/serial-number"); tree != nil && (err != nil || strings.TrimSpace(string(serial)) == "") {
		t.Skip("this board tells no serial number")
	}
	sim := rig.StartSim(t, "--activate-after", "0s")
	agent := rig.NewAgent(t, sim.Settings(), map[string]string{"identity.key": `"file"`})
	agent.Enrol(sim.CA, "gw-1")
	line, rest, _ := strings.Cut(agent.File("device.key"), "\n")
	if !strings.HasPrefix(line, "Board serial number: ") {
		t.Skipf("this board's serial number is a placeholder: %q", line)
	}
	put(t, path(agent, "device.key"), "Board serial number: another\n"+rest)
	agent.Start()
	agent.Await(soon, "online")
	if n := len(agent.LogLines("comes from another board: it was made on the one with serial number another")); n != 1 {
		t.Errorf("%d warnings, want 1", n)
	}
}

// TestImportIntoTPM: a software key moves into the TPM and works from there.
func TestImportIntoTPM(t *testing.T) {
	t.Parallel()
	sim := rig.StartSim(t, "--activate-after", "0s")
	tpm := swtpmtest.Start(t)
	agent := rig.NewAgent(t, sim.Settings(), in(tpm, "tpm"))
	old := sim.CA.Issue(t, "gw-1")
	if r := agent.Run("import", "--cert", old.Cert, "--into-tpm"); r.Code != 64 || !strings.Contains(r.Stderr, "--key") {
		t.Errorf("without --key: %s", r)
	}
	r := agent.MustRun("import", "--cert", old.Cert, "--key", old.Key, "--into-tpm")
	if !strings.Contains(r.Stderr, old.Key+" still holds the key in clear: destroy it") {
		t.Error(r)
	}
	if key := agent.File("device.key"); !strings.Contains(key, "BEGIN TSS2 PRIVATE KEY") || strings.Contains(key, "BEGIN PRIVATE KEY") {
		t.Errorf("device.key is\n%s", key)
	}
	agent.Start()
	s := agent.Await(soon, "online")
	if s.At(t, "identity.provider") != "tpm" || s.At(t, "tpm.state") != "ok" {
		t.Errorf("identity %v, tpm %v", s["identity"], s["tpm"])
	}
}

// TestSealed: the whole way of a gateway with a sealed key; the status says
// so, and once online nothing is asked of the TPM.
func TestSealed(t *testing.T) {
	t.Parallel()
	sim := rig.StartSim(t, "--activate-after", "0s")
	tpm := swtpmtest.Start(t)
	agent := rig.NewAgent(t, sim.Settings(), in(tpm, "tpm-sealed"), map[string]string{"identity.algorithm": `"rsa-2048"`})
	agent.Enrol(sim.CA, "gw-1")
	agent.Start()
	s := agent.Await(soon, "online")
	before := s.At(t, "counters.tpm_commands")
	if s.At(t, "identity.provider") != "tpm-sealed" || s.At(t, "identity.algorithm") != "rsa-2048" || s.At(t, "tpm.state") != "ok" || before == 0.0 {
		t.Errorf("identity %v, tpm %v, %v commands", s["identity"], s["tpm"], before)
	}
	reconnect(sim, agent)
	rig.Eventually(t, soon, func() error {
		if s = agent.Status(); s.At(t, "state") != "online" || s.At(t, "counters.connects") == 1.0 {
			return rigError(s)
		}
		return nil
	})
	if after := s.At(t, "counters.tpm_commands"); after != before {
		t.Errorf("%v TPM commands, %v before the reconnect", after, before)
	}
}

// TestReconnectCostsOneCommand, as the service counts it, and the TPM's
// resets and leftovers of a kill -9 do not stop it.
func TestReconnectCostsOneCommand(t *testing.T) {
	t.Parallel()
	const patience = time.Minute // the server's farewells add up on the schedule
	sim := rig.StartSim(t, "--activate-after", "0s")
	tpm := swtpmtest.Start(t)
	agent := rig.NewAgent(t, sim.Settings(), in(tpm, "tpm"))
	agent.Enrol(sim.CA, "gw-1")
	for range 4 { // more than the TPM has slots
		agent.Start()
		agent.Await(soon, "online")
		agent.Kill()
	}
	agent.Start()
	commands := agent.Await(soon, "online").At(t, "counters.tpm_commands").(float64)
	for connects := 1.0; connects < 3; connects++ {
		reconnect(sim, agent)
		var s rig.Status
		rig.Eventually(t, patience, func() error {
			if s = agent.Status(); s.At(t, "state") != "online" || s.At(t, "counters.connects") == connects {
				return rigError(s)
			}
			return nil
		})
		now := s.At(t, "counters.tpm_commands").(float64)
		if made := s.At(t, "counters.connects").(float64) - connects; now-commands != made {
			t.Errorf("%v commands for %v connects", now-commands, made)
		}
		commands = now
	}
	tpm.PowerCycle()
	reconnect(sim, agent)
	agent.Await(patience, "online")
}

// TestOwnerPassword: with a password on the owner hierarchy and no persistent
// SRK, the credential makes the difference, for csr and for the service.
func TestOwnerPassword(t *testing.T) {
	t.Parallel()
	sim := rig.StartSim(t, "--activate-after", "0s")
	tpm := swtpmtest.Start(t)
	tool(t, tpm, "tpm2_changeauth", "-c", "owner", "the owner's")
	agent := rig.NewAgent(t, sim.Settings(), in(tpm, "tpm"))
	dir := rig.TempDir(t)
	env := append(agent.Env(), "CREDENTIALS_DIRECTORY="+dir)
	flags := []string{"--config", agent.ConfigFile, "--state-dir", agent.StateDir}
	csr := func() rig.Result {
		return rig.RunEnv(t, env, rig.Bin(t, "jitr-agent"), append(flags, "csr", "--subject", "CN=gw-1", "--out", filepath.Join(dir, "gw.csr"))...)
	}
	if r := csr(); r.Code != 1 || !strings.Contains(r.Stderr, "give it as the systemd credential tpm-owner-auth") {
		t.Error(r)
	}
	put(t, filepath.Join(dir, "tpm-owner-auth"), "a guess\n")
	if r := csr(); r.Code != 1 || !strings.Contains(r.Stderr, "correct the credential tpm-owner-auth") {
		t.Error(r)
	}
	put(t, filepath.Join(dir, "tpm-owner-auth"), "the owner's\n")
	if r := csr(); r.Code != 0 {
		t.Fatal(r)
	}
	agent.MustRun("import", "--cert", sim.CA.Sign(t, filepath.Join(dir, "gw.csr")))
	agent.Process = rig.StartProcess(t, env, rig.Bin(t, "jitr-agent"), append(flags, "run")...)
	agent.Await(soon, "online")
	for _, line := range agent.Stderr.Lines() {
		if strings.Contains(line, "the owner's") {
			t.Errorf("the password was logged: %s", line)
		}
	}
}
