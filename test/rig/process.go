package rig

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// stopLimit is how long a program may take after SIGTERM: the agent's promise
// is 5 s.
const stopLimit = 5 * time.Second

// Process is a program that runs. Its methods are for the test's goroutine.
type Process struct {
	t      testing.TB
	name   string
	cmd    *exec.Cmd
	exited chan struct{} // closed when it has been waited for

	Stdout, Stderr *Output
}

// StartProcess starts a program. It is killed when the test ends, if it still
// runs; a failed test logs what it wrote.
func StartProcess(t testing.TB, env []string, name string, args ...string) *Process {
	t.Helper()
	return StartProcessInput(t, env, nil, name, args...)
}

// StartProcessInput is StartProcess with a standard input, which is the
// caller's to close.
func StartProcessInput(t testing.TB, env []string, in *os.File, name string, args ...string) *Process {
	t.Helper()
	p := &Process{t: t, name: name, exited: make(chan struct{}), Stdout: &Output{}, Stderr: &Output{}}
	p.cmd = exec.CommandContext(t.Context(), name, args...)
	p.cmd.Env = append(Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.Stdout, p.Stderr
	if in != nil { // a nil *os.File is no nil io.Reader
		p.cmd.Stdin = in
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait() // its outcome is in ProcessState
	}()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("%s %s\nstdout: %s\nstderr: %s", name, strings.Join(args, " "), tail(p.Stdout.String()), tail(p.Stderr.String()))
		}
	})
	return p
}

// tail is the end of a long output, which a reader of a log can take in.
func tail(s string) string {
	const enough = 64 << 10
	if len(s) <= enough {
		return s
	}
	return "…" + s[len(s)-enough:]
}

// PID is its process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Exited is closed when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Running says whether it has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// Signal sends a signal to a process that runs.
func (p *Process) Signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("signal %s: %v", p.name, err)
	}
}

// Kill ends it with SIGKILL and waits. One that has ended is no error.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // fails where it has ended
	<-p.exited
}

// Stop ends it with SIGTERM, waits, and returns its exit code. One that does
// not end within 5 s fails the test.
func (p *Process) Stop() int {
	p.t.Helper()
	p.Signal(syscall.SIGTERM)
	return p.Wait(stopLimit)
}

// Wait waits until it ends by itself, and returns its exit code.
func (p *Process) Wait(d time.Duration) int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(d):
		p.t.Fatalf("%s still runs after %s", p.name, d)
	}
	return p.cmd.ProcessState.ExitCode()
}

// Output collects what a process writes. It is safe for concurrent use.
type Output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// Lines are the complete lines so far.
func (o *Output) Lines() []string {
	s := o.String()
	end := strings.LastIndexByte(s, '\n')
	if end < 0 {
		return nil
	}
	return strings.Split(s[:end], "\n")
}
