package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/test/rig"
)

// box is a booted container. Its directory /share is ours too.
type box struct {
	t     *testing.T
	init  int    // its process 1, as we see it
	share string // /share, as we see it
}

// boot boots a fresh Debian. The options are more of systemd-nspawn's;
// privateNetwork is one. The container ends with the test; a failed test logs
// its journal.
func boot(t *testing.T, options ...string) *box {
	t.Helper()
	needRoot(t)
	root := strings.TrimSpace(rig.MustRun(t, "./root"))
	b := &box{t: t, share: rig.TempDir(t)}
	machine := filepath.Base(b.share)
	groups := controlGroups(t, machine)

	// In a pid namespace nothing outlives us, however the test ends.
	args := slices.Concat([]string{"--mount", "--propagation", "private", "--pid", "--mount-proc", "--kill-child", "./boot", root}, groups,
		[]string{"--", "--machine=" + machine, "--bind=" + b.share + ":/share"}, options)
	container := start(t, "unshare", args...)
	t.Cleanup(func() {
		container.kill()
		for _, group := range groups {
			removeGroups(t, group)
		}
		os.Remove("/run/systemd/nspawn/propagate/" + machine)
	})

	rig.Eventually(t, soon, func() (err error) {
		select {
		case <-container.exited:
			t.Fatalf("the container ended: %s", &container.output)
		default:
		}
		b.init, err = processOne(container.cmd.Process.Pid, 3) // ours, unshare's, the container's
		return err
	})
	rig.Eventually(t, soon, func() error {
		if r := b.try("systemctl", "is-system-running", "--wait"); r.Stdout != "running\n" {
			return errors.New(r.String())
		}
		return nil
	})
	// nspawn gives a container a boot id of its own by a mount on the old one,
	// which a service with a /proc of its own (ProtectProc=) does not see. A
	// gateway has one boot id.
	b.run("umount", "/proc/sys/kernel/random/boot_id")
	t.Cleanup(func() {
		if t.Failed() {
			// Not b.try: the test's context has ended.
			out, err := exec.CommandContext(context.Background(), "nsenter", b.enter("journalctl", "--no-pager", "--unit=jitr-agent.service")...).CombinedOutput()
			t.Logf("the journal of the unit (%v):\n%s", err, out)
		}
	})
	return b
}

// container is systemd-nspawn. It outlives the test's context, so that a failed
// test can still read the journal.
type container struct {
	cmd    *exec.Cmd
	output rig.Output
	exited chan struct{}
}

func start(t *testing.T, name string, args ...string) *container {
	t.Helper()
	c := &container{cmd: exec.CommandContext(context.Background(), name, args...), exited: make(chan struct{})}
	c.cmd.Stdout, c.cmd.Stderr = &c.output, &c.output
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(c.exited)
		_ = c.cmd.Wait() // it is killed as a rule
	}()
	return c
}

func (c *container) kill() {
	_ = c.cmd.Process.Kill() // fails where it has ended
	<-c.exited
}

// privateNetwork leaves a container nothing but a loopback interface of its
// own. Without it our loopback is its loopback, where the emulator listens.
const privateNetwork = "--private-network"

// controlGroups makes a group in each hierarchy.
func controlGroups(t *testing.T, name string) (groups []string) {
	t.Helper()
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"} {
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err != nil {
			continue
		}
		group := filepath.Join(dir, name)
		if err := os.Mkdir(group, 0o755); err != nil {
			t.Fatal(err)
		}
		groups = append(groups, group)
	}
	return groups
}

// removeGroups removes a group and those in it, once the last process has left.
func removeGroups(t *testing.T, group string) {
	t.Helper()
	rig.Eventually(t, soon, func() error {
		var dirs []string
		err := filepath.WalkDir(group, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return err
		})
		for _, dir := range slices.Backward(dirs) {
			err = errors.Join(err, os.Remove(dir))
		}
		return err
	})
}

// processOne finds the descendant that is number 1 of a pid namespace at this
// depth.
func processOne(parent, depth int) (int, error) {
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", parent))
	if err != nil {
		return 0, err
	}
	for child := range strings.FieldsSeq(string(children)) {
		pid, err := strconv.Atoi(child)
		if err != nil {
			return 0, err
		}
		ids, err := namespacePIDs(pid)
		if err != nil {
			return 0, err
		}
		if len(ids) == depth && ids[depth-1] == "1" {
			return pid, nil
		}
		if one, err := processOne(pid, depth); err == nil {
			return one, nil
		}
	}
	return 0, errors.New("the container has no process 1 yet")
}

// namespacePIDs are the numbers of a process, from our pid namespace inwards.
func namespacePIDs(pid int) ([]string, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return nil, err
	}
	_, ids, _ := strings.Cut(string(status), "\nNSpid:")
	ids, _, _ = strings.Cut(ids, "\n")
	return strings.Fields(ids), nil
}

// enter are nsenter's arguments for a command in the container.
func (b *box) enter(args ...string) []string {
	return append([]string{"--target", strconv.Itoa(b.init), "--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd", "--"}, args...)
}

// try runs a command in the container, as root, to its end.
func (b *box) try(args ...string) rig.Result {
	b.t.Helper()
	return rig.RunEnv(b.t, []string{"LC_ALL=C.UTF-8", "SYSTEMD_PAGER=", "DEBIAN_FRONTEND=noninteractive"}, "nsenter", b.enter(args...)...)
}

// run is try for a command that must succeed. It returns what it printed.
func (b *box) run(args ...string) string {
	b.t.Helper()
	r := b.try(args...)
	if r.Code != 0 {
		b.t.Fatal(r)
	}
	return r.Stdout
}

// sh runs a shell script that must succeed.
func (b *box) sh(script string) string {
	b.t.Helper()
	return b.run("sh", "-euc", script)
}

// nobody runs a command as a user who owns nothing.
func (b *box) nobody(args ...string) rig.Result {
	b.t.Helper()
	return b.try(append([]string{"setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"}, args...)...)
}

// give copies a file of ours into /share, and returns its name there.
func (b *box) give(file string) string {
	b.t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		b.t.Fatal(err)
	}
	name := filepath.Base(file)
	if err := os.WriteFile(filepath.Join(b.share, name), data, 0o644); err != nil {
		b.t.Fatal(err)
	}
	return "/share/" + name
}

// dpkg installs a package.
func (b *box) dpkg(deb string) {
	b.t.Helper()
	b.run("dpkg", "--install", b.give(deb))
}

// configure writes agent.toml anew, as its owner would: owner and mode stay.
func (b *box) configure(lines ...string) {
	b.t.Helper()
	b.run("sh", "-c", `printf '%s\n' "$@" >/etc/jitr-agent/agent.toml`, "sh", strings.Join(lines, "\n"))
}

// dropIn adds a drop-in to the unit. It counts from the next start.
func (b *box) dropIn(lines ...string) {
	b.t.Helper()
	b.run("sh", "-euc", `d=/run/systemd/system/jitr-agent.service.d
		mkdir -p $d; printf '%s\n' "$@" >$d/test.conf; systemctl daemon-reload`, "sh", strings.Join(lines, "\n"))
}

// property is what systemd knows of the unit.
func (b *box) property(name string) string {
	b.t.Helper()
	return strings.TrimSuffix(b.run("systemctl", "show", "--value", "--property", name, "jitr-agent.service"), "\n")
}

// status is the object of status --json, whatever its exit code.
func (b *box) status() rig.Status {
	b.t.Helper()
	r := b.try("jitr-agent", "status", "--json")
	var s rig.Status
	if err := json.Unmarshal([]byte(r.Stdout), &s); err != nil {
		b.t.Fatalf("%v\n%s", err, r)
	}
	return s
}

// await waits until the service is in a state.
func (b *box) await(state string) rig.Status {
	b.t.Helper()
	var s rig.Status
	rig.Eventually(b.t, soon, func() error {
		s = b.status()
		if s.At(b.t, "running") != true || s.At(b.t, "state") != state {
			return fmt.Errorf("the agent is %v (%v), running %v; want %s", s["state"], s["cause"], s["running"], state)
		}
		return nil
	})
	return s
}

// awaitProperty waits until systemd says so.
func (b *box) awaitProperty(d time.Duration, name, want string) {
	b.t.Helper()
	rig.Eventually(b.t, d, func() error {
		if got := b.property(name); got != want {
			return fmt.Errorf("%s is %q; want %q", name, got, want)
		}
		return nil
	})
}

// kill sends the service's process a signal.
func (b *box) kill(s syscall.Signal) {
	b.t.Helper()
	b.sh(fmt.Sprintf("kill -%d %s", s, b.property("MainPID")))
}

// journal are the agent's entries.
func (b *box) journal() (entries []map[string]any) {
	b.t.Helper()
	out := b.run("journalctl", "--output=json", "--identifier=jitr-agent")
	for line := range strings.Lines(out) {
		var e map[string]any
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			b.t.Fatalf("%v: %s", err, line)
		}
		entries = append(entries, e)
	}
	return entries
}
