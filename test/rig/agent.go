package rig

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Agent is a gateway: a jitr-agent with directories of its own, and its
// service where it runs.
type Agent struct {
	t testing.TB

	ConfigFile, StateDir, RunDir string
	// Program is what runs as jitr-agent: ours where it is empty, else that
	// binary, or a program that starts one, with its first arguments.
	Program []string

	*Process            // the service; nil before the first Start
	runs     []*Process // all of them, in their order
}

// NewAgent makes a gateway with these settings, as key and TOML value:
// {"telemetry.interval": `"1s"`}.
func NewAgent(t testing.TB, settings ...map[string]string) *Agent {
	t.Helper()
	dir := TempDir(t)
	a := &Agent{
		t: t, ConfigFile: filepath.Join(dir, "agent.toml"),
		StateDir: filepath.Join(dir, "state"), RunDir: filepath.Join(memoryDir(t, dir), "run"),
	}
	a.Configure(settings...)
	return a
}

// memoryDir is a directory in memory, as /run is on a gateway: a run-time file
// costs no disk write. Where there is no such file system it is dir.
func memoryDir(t testing.TB, dir string) string {
	t.Helper()
	memory, err := os.MkdirTemp("/dev/shm", "rig") //nolint:usetesting // t.TempDir may be on a disk
	if err != nil {
		return dir
	}
	t.Cleanup(func() { os.RemoveAll(memory) })
	if err := os.Chmod(memory, 0o755); err != nil {
		t.Fatal(err)
	}
	return memory
}

// Configure writes agent.toml anew. Later settings win.
func (a *Agent) Configure(settings ...map[string]string) {
	a.t.Helper()
	all := map[string]string{}
	for _, s := range settings {
		maps.Copy(all, s)
	}
	var lines strings.Builder
	for _, key := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&lines, "%s = %s\n", key, all[key])
	}
	if err := os.WriteFile(a.ConfigFile, []byte(lines.String()), 0o644); err != nil {
		a.t.Fatal(err)
	}
}

// command is the program and all its arguments.
func (a *Agent) command(args []string) (name string, all []string) {
	program := a.Program
	if len(program) == 0 {
		program = []string{Bin(a.t, "jitr-agent")}
	}
	return program[0], slices.Concat(program[1:], []string{"--config", a.ConfigFile, "--state-dir", a.StateDir}, args)
}

// Env is the agent's environment beside ours.
func (a *Agent) Env() []string { return []string{"RUNTIME_DIRECTORY=" + a.RunDir} }

// Run runs one of the agent's commands to its end.
func (a *Agent) Run(args ...string) Result {
	a.t.Helper()
	name, all := a.command(args)
	return RunEnv(a.t, a.Env(), name, all...)
}

// MustRun is Run for a command that must succeed.
func (a *Agent) MustRun(args ...string) Result {
	a.t.Helper()
	r := a.Run(args...)
	if r.Code != 0 {
		a.t.Fatal(r)
	}
	return r
}

// Enrol does the three steps of a new gateway: csr, sign, import. It returns
// the certificateId.
func (a *Agent) Enrol(ca *CA, thing string) string {
	a.t.Helper()
	csr := filepath.Join(filepath.Dir(a.ConfigFile), thing+".csr")
	a.MustRun("csr", "--subject", "CN="+thing, "--out", csr)
	cert := ca.Sign(a.t, csr)
	a.MustRun("import", "--cert", cert)
	return CertificateID(a.t, cert)
}

// Start starts the service. It does not wait for anything.
func (a *Agent) Start() {
	a.t.Helper()
	name, all := a.command([]string{"run"})
	a.Process = StartProcess(a.t, a.Env(), name, all...)
	a.runs = append(a.runs, a.Process)
}

// Log has the lines of all runs.
func (a *Agent) Log() []string {
	var all []string
	for _, p := range a.runs {
		all = append(all, p.Stderr.Lines()...)
	}
	return all
}

// LogLines are the lines of all runs that contain text.
func (a *Agent) LogLines(text string) []string {
	return slices.DeleteFunc(a.Log(), func(line string) bool { return !strings.Contains(line, text) })
}

// File is the content of a file in the state directory, "" for one that does
// not exist.
func (a *Agent) File(name string) string {
	a.t.Helper()
	data, err := os.ReadFile(filepath.Join(a.StateDir, name))
	if err != nil && !os.IsNotExist(err) {
		a.t.Fatal(err)
	}
	return string(data)
}

// Status is the object of status --json.
type Status map[string]any

// At finds a value by its path, "identity.certificate_id". A key that does not
// exist is an error of the test: unknown values are null, keys always there.
func (s Status) At(t testing.TB, path string) any {
	t.Helper()
	var value any = map[string]any(s)
	for name := range strings.SplitSeq(path, ".") {
		object, _ := value.(map[string]any)
		var ok bool
		if value, ok = object[name]; !ok {
			t.Fatalf("the status has no %s: %v", path, s)
		}
	}
	return value
}

// Status asks status --json, whatever its exit code.
func (a *Agent) Status() Status {
	a.t.Helper()
	r := a.Run("status", "--json")
	var s Status
	if err := json.Unmarshal([]byte(r.Stdout), &s); err != nil {
		a.t.Fatalf("%v\n%s", err, r)
	}
	return s
}

// Await waits until the running service says that it is in a state.
func (a *Agent) Await(d time.Duration, state string) Status {
	a.t.Helper()
	var s Status
	Eventually(a.t, d, func() error {
		s = a.Status()
		if s.At(a.t, "running") != true || s.At(a.t, "state") != state {
			return fmt.Errorf("the agent is %v (%v), running %v; want %s", s["state"], s["cause"], s["running"], state)
		}
		return nil
	})
	return s
}
