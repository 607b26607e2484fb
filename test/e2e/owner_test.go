package e2e

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jitr-agent/jitr-agent/internal/swtpmtest"
	"github.com/jitr-agent/jitr-agent/test/rig"
)

// nobody is the uid and gid of Debian's users nobody and nogroup.
const nobody = 65534

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: two users are part of it")
	}
}

// TestRootGivesFilesToTheOwner: the technician's sudo leaves nothing that the
// service cannot read.
func TestRootGivesFilesToTheOwner(t *testing.T) {
	needRoot(t)
	t.Parallel()
	sim := rig.StartSim(t, "--activate-after", "0s")
	agent := rig.NewAgent(t, sim.Settings(), file)
	if err := os.Mkdir(agent.StateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(agent.StateDir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	agent.Enrol(sim.CA, "gw-1")
	agent.Start()
	agent.Await(soon, "online")
	sim.Kill()
	agent.Await(soon, "offline")
	agent.MustRun("publish", "telemetry/x", "to be stored")
	agent.Stop()
	want := []string{"buffer", "device.crt", "device.key", "identity.lock", "lock", "state.json"}
	entries, err := os.ReadDir(agent.StateDir)
	if err != nil || !slices.EqualFunc(entries, want, func(e fs.DirEntry, name string) bool { return e.Name() == name }) {
		t.Fatalf("%v, %v", entries, err)
	}
	stored := 0
	err = filepath.WalkDir(agent.StateDir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o600)
		switch {
		case e.IsDir():
			mode = 0o700
		case e.Name() == "device.crt":
			mode = 0o644
		case filepath.Ext(path) == ".seg":
			stored++
		}
		st := info.Sys().(*syscall.Stat_t)
		if st.Uid != nobody || st.Gid != nobody || info.Mode().Perm() != mode {
			t.Errorf("%s: owner %d:%d, mode %v, want %d:%d and %v", path, st.Uid, st.Gid, info.Mode(), nobody, nobody, mode)
		}
		return nil
	})
	if err != nil || stored == 0 {
		t.Errorf("%d segments, %v", stored, err)
	}
	if info, err := os.Stat(filepath.Join(agent.RunDir, "status.json")); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("status.json: %v, %v", info, err)
	}
}

// TestUnreadableTPM: another user may not open the TPM. No key is made, not
// even in a file.
func TestUnreadableTPM(t *testing.T) {
	needRoot(t)
	t.Parallel()
	node := filepath.Join(rig.TempDir(t), "tpmrm0")
	if err := syscall.Mknod(node, syscall.S_IFCHR|0o600, 1<<8|3); err != nil { // /dev/null's numbers
		t.Skipf("needs the right to make a device node: %v", err)
	}
	for name, device := range map[string]string{"socket": swtpmtest.Start(t).Device, "node": node} {
		for _, key := range []string{"auto", "tpm"} {
			t.Run(name+" "+key, func(t *testing.T) {
				t.Parallel()
				agent := rig.NewAgent(t, map[string]string{"identity.key": strconv.Quote(key), "identity.tpm_device": strconv.Quote(device)})
				if err := os.Mkdir(agent.StateDir, 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.Chown(agent.StateDir, nobody, nobody); err != nil {
					t.Fatal(err)
				}
				r := rig.Run(t, "setpriv", "--reuid", strconv.Itoa(nobody), "--regid", strconv.Itoa(nobody), "--clear-groups",
					rig.Bin(t, "jitr-agent"), "--config", agent.ConfigFile, "--state-dir", agent.StateDir, "csr", "--subject", "CN=gw-1")
				if r.Code != 1 || r.Stdout != "" || strings.Count(r.Stderr, "\n") != 1 {
					t.Errorf("want exit code 1 and one line: %v", r)
				}
				for _, part := range []string{"jitr-agent: cannot make a certificate request", device, "permission denied", "group tss"} {
					if !strings.Contains(r.Stderr, part) {
						t.Errorf("the line lacks %q: %s", part, r.Stderr)
					}
				}
				if agent.File("device.key") != "" {
					t.Error("a key was made")
				}
				// The lock file alone may have come.
				if left, _ := filepath.Glob(filepath.Join(agent.StateDir, "*")); len(left) > 1 {
					t.Errorf("the state directory has %q", left)
				}
			})
		}
	}
}
