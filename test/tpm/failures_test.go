package tpm

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/swtpmtest"
	"github.com/jitr-agent/jitr-agent/test/rig"
)

// TestAbsent: a TPM that is not there at the start is a state, and is noticed
// when it comes. One that goes away later costs no connection until the next
// one has to be signed for.
func TestAbsent(t *testing.T) {
	t.Parallel()
	for _, provider := range []string{"tpm", "tpm-sealed"} {
		t.Run(provider, func(t *testing.T) {
			t.Parallel()
			sim := rig.StartSim(t, "--activate-after", "0s")
			tpm := swtpmtest.Start(t)
			agent := rig.NewAgent(t, sim.Settings(), in(tpm, provider))
			agent.Enrol(sim.CA, "gw-1")
			tpm.PowerCut()
			agent.Start()
			awaitCause(t, agent, soon, "tpm-absent", "is not there")
			tpm.PowerOn()
			agent.Await(soon, "online")

			tpm.PowerCut()
			reconnect(sim, agent)
			if provider == "tpm-sealed" {
				agent.Await(soon, "online") // its key is in memory
				return
			}
			awaitCause(t, agent, 30*time.Second, "tpm-absent")
			tpm.PowerOn()
			agent.Await(soon, "online")
		})
	}
}

// TestDenied: the service's user may not use the TPM.
func TestDenied(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can run the agent as another user")
	}
	sim := rig.StartSim(t)
	tpm := swtpmtest.Start(t)
	agent := rig.NewAgent(t, sim.Settings(), in(tpm, "tpm"))
	agent.Enrol(sim.CA, "gw-1")
	socket := strings.TrimPrefix(tpm.Device, "unix:")
	const nobody = 65534
	if err := os.Chmod(filepath.Dir(socket), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		t.Fatal(err)
	}
	give(t, agent.StateDir, nobody)
	if err := os.MkdirAll(agent.RunDir, 0o755); err != nil {
		t.Fatal(err)
	}
	give(t, filepath.Dir(agent.RunDir), nobody)
	agent.Process = rig.StartProcess(t, agent.Env(), "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
		rig.Bin(t, "jitr-agent"), "--config", agent.ConfigFile, "--state-dir", agent.StateDir, "run")
	awaitCause(t, agent, soon, "tpm-denied", "usermod")
}

func give(t *testing.T, dir string, uid int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(path, uid, uid)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestChanged: the TPM was cleared or exchanged. The key is gone, and no new
// one is made in its place.
func TestChanged(t *testing.T) {
	t.Parallel()
	for _, provider := range []string{"tpm", "tpm-sealed"} {
		sim := rig.StartSim(t)
		tpm := swtpmtest.Start(t)
		agent := rig.NewAgent(t, sim.Settings(), in(tpm, provider))
		agent.Enrol(sim.CA, "gw-1")
		key := agent.File("device.key")
		tpm.Exchange()
		agent.Start()
		awaitCause(t, agent, soon, "tpm-changed", "it was cleared since", "jitr-agent csr")
		if r := agent.Run("csr", "--subject", "CN=gw-1"); r.Code != 1 || !strings.Contains(r.Stderr, "put the TPM back") || strings.Count(r.Stderr, "\n") != 1 {
			t.Errorf("csr: %s", r)
		}
		agent.Stop()
		if agent.File("device.key") != key {
			t.Errorf("%s: device.key was replaced", provider)
		}
	}
}

// TestMeasured: a sealed key that is bound to a PCR which has changed.
func TestMeasured(t *testing.T) {
	t.Parallel()
	sim := rig.StartSim(t, "--activate-after", "0s")
	tpm := swtpmtest.Start(t)
	agent := rig.NewAgent(t, sim.Settings(), in(tpm, "tpm-sealed"), map[string]string{"identity.pcrs": "[16]"})
	agent.Enrol(sim.CA, "gw-1")
	tool(t, tpm, "tpm2_pcrextend", "16:sha256="+strings.Repeat("ab", 32))
	agent.Start()
	awaitCause(t, agent, soon, "tpm-changed", "PCR 16 changed", "put the TPM, or the firmware and system, back")
	tool(t, tpm, "tpm2_pcrreset", "16")
	agent.Signal(syscall.SIGUSR1)
	agent.Await(soon, "online")
}

// TestLocked: a key that another program made without noDA, in a TPM that was
// locked by failed guesses. Ours would sign on; this one waits.
func TestLocked(t *testing.T) {
	t.Parallel()
	sim := rig.StartSim(t, "--activate-after", "0s")
	tpm := swtpmtest.Start(t)
	agent := rig.NewAgent(t, sim.Settings(), in(tpm, "tpm"))
	if err := os.MkdirAll(agent.StateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	tool(t, tpm, "openssl", "genpkey", "-provider", "tpm2", "-provider", "default", "-propquery", "?provider=tpm2",
		"-algorithm", "EC", "-pkeyopt", "group:P-256", "-out", path(agent, "device.key"))
	agent.Enrol(sim.CA, "gw-1")
	lock(t, tpm)
	agent.Start()
	awaitCause(t, agent, soon, "tpm-locked", "tpm2_dictionarylockout --clear-lockout")
	if n := len(agent.LogLines("may lock the device key")); n != 1 {
		t.Errorf("%d warnings about noDA, want 1", n)
	}
	tool(t, tpm, "tpm2_dictionarylockout", "--clear-lockout")
	agent.Signal(syscall.SIGUSR1)
	agent.Await(soon, "online")
}

// lock guesses the password of a key until the TPM is in lockout.
func lock(t *testing.T, tpm *swtpmtest.TPM) {
	t.Helper()
	dir := rig.TempDir(t)
	f := func(name string) string { return filepath.Join(dir, name) }
	put(t, f("data"), "data")
	tool(t, tpm, "tpm2_dictionarylockout", "--setup-parameters", "--max-tries=1", "--recovery-time=1000", "--lockout-recovery-time=1000")
	tool(t, tpm, "tpm2_createprimary", "-C", "o", "-c", f("srk"))
	tool(t, tpm, "tpm2_create", "-C", f("srk"), "-G", "ecc256", "-p", "secret", "-u", f("pub"), "-r", f("priv"))
	tool(t, tpm, "tpm2_flushcontext", "-t")
	tool(t, tpm, "tpm2_load", "-C", f("srk"), "-u", f("pub"), "-r", f("priv"), "-c", f("key"))
	tool(t, tpm, "tpm2_flushcontext", "-t")
	r := rig.RunEnv(t, []string{"TPM2TOOLS_TCTI=" + tpm.TCTI}, "tpm2_sign", "-c", f("key"), "-p", "guess", "-o", f("sig"), f("data"))
	if r.Code == 0 {
		t.Fatalf("the guess was right: %s", r)
	}
	tool(t, tpm, "tpm2_flushcontext", "-t")
}

// TestFailing: the TPM hangs. The agent says so after the 10 s that a command
// has, while systemd's watchdog is fed and status answers.
func TestFailing(t *testing.T) {
	t.Parallel()
	sim := rig.StartSim(t, "--activate-after", "0s")
	tpm := swtpmtest.Start(t)
	agent := rig.NewAgent(t, sim.Settings(), in(tpm, "tpm"))
	agent.Enrol(sim.CA, "gw-1")

	socket := filepath.Join(rig.TempDir(t), "notify")
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { systemd.Close() })
	fed := make(chan time.Time, 1000)
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := systemd.Read(buf)
			if err != nil {
				return // closed
			}
			if strings.Contains(string(buf[:n]), "WATCHDOG=1") {
				fed <- time.Now()
			}
		}
	}()
	agent.Process = rig.StartProcess(t, append(agent.Env(), "NOTIFY_SOCKET="+socket, "WATCHDOG_USEC=3000000"),
		rig.Bin(t, "jitr-agent"), "--config", agent.ConfigFile, "--state-dir", agent.StateDir, "run")
	agent.Await(soon, "online")

	tpm.Hang()
	hung := time.Now()
	t.Cleanup(tpm.Resume)
	reconnect(sim, agent)
	awaitCause(t, agent, 40*time.Second, "tpm-failing", "does not answer within 10s")
	if d := time.Since(hung); d < 10*time.Second {
		t.Errorf("after %s already", d)
	}
	last, beats := hung, 0
	for len(fed) > 0 {
		at := <-fed
		if gap := at.Sub(last); at.After(hung) && gap > 3*time.Second {
			t.Errorf("the watchdog was not fed for %s", gap)
		}
		if at.After(hung) {
			last, beats = at, beats+1
		}
	}
	if beats < 8 {
		t.Errorf("the watchdog was fed %d times in %s", beats, time.Since(hung))
	}
	tpm.Resume()
	agent.Await(30*time.Second, "online")
	if code := agent.Stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestStopsWhileTheTPMHangs: SIGTERM is not held up by it.
func TestStopsWhileTheTPMHangs(t *testing.T) {
	t.Parallel()
	sim := rig.StartSim(t)
	tpm := swtpmtest.Start(t)
	agent := rig.NewAgent(t, sim.Settings(), in(tpm, "tpm"))
	agent.Enrol(sim.CA, "gw-1")
	tpm.Hang()
	t.Cleanup(tpm.Resume)
	agent.Start()
	rig.Eventually(t, soon, func() error {
		if agent.Status().At(t, "running") != true {
			return fmt.Errorf("it does not run yet")
		}
		return nil
	})
	if code := agent.Stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestKeyFiles: what a worn card or a wrong hand makes of the key file.
func TestKeyFiles(t *testing.T) {
	t.Parallel()
	sim := rig.StartSim(t)
	tpm := swtpmtest.Start(t)
	for _, test := range []struct {
		provider, cause, says string
		spoil                 func(t *testing.T, a *rig.Agent)
	}{
		{"tpm", "key-corrupt", "backup", func(t *testing.T, a *rig.Agent) {
			put(t, path(a, "device.key"), a.File("device.key")[:300])
		}},
		{"tpm-sealed", "key-corrupt", "backup", func(t *testing.T, a *rig.Agent) {
			put(t, path(a, "device.key"), a.File("device.key")[:300])
		}},
		{"tpm-sealed", "key-corrupt", "format version 2", func(t *testing.T, a *rig.Agent) {
			put(t, path(a, "device.key"), "-----BEGIN JITR SEALED KEY-----\nMAUwAwIBAg==\n-----END JITR SEALED KEY-----\n")
		}},
		{"tpm", "key-mismatch", "jitr-agent csr", func(t *testing.T, a *rig.Agent) {
			other := rig.NewAgent(t, in(tpm, "tpm"))
			other.Enrol(sim.CA, "gw-2")
			put(t, path(a, "device.crt"), other.File("device.crt"))
		}},
		{"tpm-sealed", "key-mismatch", "jitr-agent csr", func(t *testing.T, a *rig.Agent) {
			other := rig.NewAgent(t, in(tpm, "tpm-sealed"))
			other.Enrol(sim.CA, "gw-2")
			put(t, path(a, "device.key"), other.File("device.key"))
		}},
		{"tpm", "no-key", "jitr-agent csr", func(t *testing.T, a *rig.Agent) {
			if err := os.Remove(path(a, "device.key")); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		agent := rig.NewAgent(t, sim.Settings(), in(tpm, test.provider))
		agent.Enrol(sim.CA, "gw-1")
		test.spoil(t, agent)
		key := agent.File("device.key")
		agent.Start()
		awaitCause(t, agent, soon, test.cause, test.says)
		agent.Stop()
		if agent.File("device.key") != key {
			t.Errorf("%s, %s: device.key was changed", test.provider, test.cause)
		}
	}
}
