// Package swtpmtest gives a test a software TPM of its own: a real TPM 2.0
// (swtpm with libtpms) that can lose its power, hang, or be exchanged. It is
// for tests only; a guard keeps it out of the agent.
package swtpmtest

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// TPM is a running swtpm. Its methods are for the test's own goroutine.
type TPM struct {
	// Device names it as the agent's setting tpm_device does.
	Device string
	// TCTI names it for tpm2-tools (--tcti, TPM2TOOLS_TCTI) and OpenSSL's tpm2
	// provider (TPM2OPENSSL_TCTI).
	TCTI string

	t      testing.TB
	dir    string
	server []string

	process *os.Process   // nil: powered off
	exited  chan struct{} // closed when process has been waited for
}

// Start starts a new TPM on a unix socket. It is stopped, and what it stored
// removed, when the test ends.
func Start(t testing.TB) *TPM {
	t.Helper()
	s := prepare(t)
	path := filepath.Join(s.dir, "s")
	s.Device = "unix:" + path
	s.TCTI = "swtpm:path=" + path
	// tpm2-tools look for the control channel at <path>.ctrl.
	s.server = []string{"--server", "type=unixio,path=" + path, "--ctrl", "type=unixio,path=" + path + ".ctrl"}
	s.PowerOn()
	return s
}

// StartTCP starts a new TPM on a TCP port of the loopback interface.
func StartTCP(t testing.TB) *TPM {
	t.Helper()
	s := prepare(t)
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("find a free port: %v", err)
	}
	address := l.Addr().String()
	_, port, _ := net.SplitHostPort(address)
	l.Close()
	s.Device = "tcp:" + address
	s.server = []string{"--server", "type=tcp,port=" + port}
	s.PowerOn()
	return s
}

func prepare(t testing.TB) *TPM {
	t.Helper()
	// Not t.TempDir(): with a long test name its path does not fit into the
	// 108 bytes of a unix address.
	dir, err := os.MkdirTemp("", "x") //nolint:usetesting // as said above
	if err != nil {
		t.Fatal(err)
	}
	s := &TPM{t: t, dir: dir}
	t.Cleanup(func() {
		s.PowerCut()
		os.RemoveAll(dir)
	})
	return s
}

// PowerOn starts the TPM with what it has stored. It returns when the TPM
// takes connections.
func (s *TPM) PowerOn() {
	s.t.Helper()
	state := filepath.Join(s.dir, "state")
	if err := os.MkdirAll(state, 0o700); err != nil {
		s.t.Fatal(err)
	}
	// swtpm writes its pid when its sockets listen: that is the sign to wait
	// for. It takes a pipe only by name. Opened for both directions, it does
	// not block before swtpm has opened it.
	pid := filepath.Join(s.dir, "pid")
	os.Remove(pid)
	if err := syscall.Mkfifo(pid, 0o600); err != nil {
		s.t.Fatal(err)
	}
	ready, err := os.OpenFile(pid, os.O_RDWR, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	var log bytes.Buffer
	// No context: the test's own ends before its clean-ups, and a client that
	// one of them stops may still need its TPM. PowerCut ends it.
	cmd := exec.Command("swtpm", append([]string{ //nolint:noctx // as said above
		"socket", "--tpm2", "--tpmstate", "dir=" + state,
		"--flags", "not-need-init,startup-clear", "--pid", "file=" + pid,
	}, s.server...)...)
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		s.t.Fatalf("start swtpm: %v; install it with: apt-get install swtpm", err)
	}
	s.process, s.exited = cmd.Process, make(chan struct{})
	go func() {
		defer close(s.exited)
		_ = cmd.Wait() // "signal: killed" is the rule here
		ready.Close()
	}()
	if _, err := ready.Read(make([]byte, 16)); err != nil {
		s.PowerCut()
		s.t.Fatalf("swtpm did not start: %s", &log)
	}
}

// PowerCut kills the TPM without a shutdown, as a power cut does. A TPM that
// is off already stays off.
func (s *TPM) PowerCut() {
	if s.process == nil {
		return
	}
	_ = s.process.Kill() // an error says that it is dead already
	<-s.exited
	s.process = nil
}

// PowerCycle is a power cut and a new start.
func (s *TPM) PowerCycle() {
	s.t.Helper()
	s.PowerCut()
	s.PowerOn()
}

// Exchange puts another, new TPM in the place of this one.
func (s *TPM) Exchange() {
	s.t.Helper()
	s.PowerCut()
	if err := os.RemoveAll(filepath.Join(s.dir, "state")); err != nil {
		s.t.Fatal(err)
	}
	s.PowerOn()
}

// Hang stops the TPM in its tracks: connections succeed, answers do not come.
func (s *TPM) Hang() { s.signal(syscall.SIGSTOP) }

// Resume lets a hung TPM go on.
func (s *TPM) Resume() { s.signal(syscall.SIGCONT) }

func (s *TPM) signal(sig os.Signal) {
	s.t.Helper()
	if err := s.process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}
