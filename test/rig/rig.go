// Package rig is what the end-to-end tests stand on: our real binaries, a real
// software TPM, and observers that are not ours (mosquitto_sub, plain HTTP).
//
// A test package calls Main from its TestMain. Whatever a test starts ends
// with the test, also a failed one, and its output is then in the test's log.
// Waiting is done by Eventually and Throughout and nowhere else.
package rig

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// binDir is the environment variable that names the directory with the
// binaries. Set by the caller, they are not built.
const binDir = "RIG_BIN"

const module = "github.com/jitr-agent/jitr-agent"

// Main builds our programs, once for the process, and runs the tests. With
// RIG_BIN=DIR in the environment it takes those that are there.
func Main(m *testing.M) {
	if os.Getenv(binDir) == "" {
		dir, err := build()
		defer os.RemoveAll(dir)
		if err != nil {
			fmt.Fprintln(os.Stderr, "rig:", err)
			os.RemoveAll(dir)
			os.Exit(1) //nolint:forbidigo // this is the TestMain of a test binary
		}
		os.Setenv(binDir, dir)
	}
	flag.Parse()
	if !given("test.parallel") {
		// The tests wait for processes most of the time, so they need not wait
		// for each other's processors.
		_ = flag.Set("test.parallel", "8") // it exists, and 8 is a number
	}
	m.Run() // its code becomes that of the process when TestMain returns
}

// given says whether a flag stands on the command line.
func given(name string) (is bool) {
	flag.Visit(func(f *flag.Flag) { is = is || f.Name == name })
	return is
}

func build() (dir string, err error) {
	if dir, err = Dir(); err != nil {
		return dir, err
	}
	cmd := exec.CommandContext(context.Background(), "go", "build", "-trimpath", "-buildvcs=false", "-o", dir, module+"/cmd/...")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	// As the Makefile names them.
	for from, to := range map[string]string{"agent": "jitr-agent", "activator": "jitr-activator"} {
		err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return dir, err
		}
	}
	return dir, nil
}

// Dir makes a temporary directory with a name that leaves room for a unix
// socket's 108 bytes, and that other users can enter.
func Dir() (string, error) {
	dir, err := os.MkdirTemp("", "rig")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
}

// TempDir is Dir for the duration of a test.
func TempDir(t testing.TB) string {
	t.Helper()
	dir, err := Dir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Bin is the path of one of our programs.
func Bin(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv(binDir)
	if dir == "" {
		t.Fatal("there are no binaries: TestMain must call rig.Main")
	}
	return filepath.Join(dir, name)
}

// Result is a command that has ended.
type Result struct {
	Args           []string
	Stdout, Stderr string
	Code           int
}

func (r Result) String() string {
	return fmt.Sprintf("%s: exit code %d\nstdout: %s\nstderr: %s", strings.Join(r.Args, " "), r.Code, r.Stdout, r.Stderr)
}

// Run runs a command to its end. It gives no opinion of the exit code.
func Run(t testing.TB, name string, args ...string) Result {
	t.Helper()
	return RunEnv(t, nil, name, args...)
}

// RunEnv is Run with more variables in the environment.
func RunEnv(t testing.TB, env []string, name string, args ...string) Result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(Environ(), env...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", name, err)
	}
	return Result{cmd.Args, stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// MustRun is Run for a command that must succeed. It returns its stdout.
func MustRun(t testing.TB, name string, args ...string) string {
	t.Helper()
	r := Run(t, name, args...)
	if r.Code != 0 {
		t.Fatal(r)
	}
	return r.Stdout
}

// Environ is our environment without what would change the agent.
func Environ() []string {
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		switch {
		case strings.HasPrefix(name, "JITR_AGENT_"):
		case name == "STATE_DIRECTORY", name == "RUNTIME_DIRECTORY", name == "JOURNAL_STREAM", name == "NOTIFY_SOCKET":
		default:
			env = append(env, kv)
		}
	}
	return env
}
