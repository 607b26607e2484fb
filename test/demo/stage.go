package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stage is the directory of the demo and the programs that run on it.
type stage struct {
	dir  string
	mqtt string // the emulator's addresses
	api  string
	temp []string // directories outside dir

	running []*exec.Cmd
	output  sync.WaitGroup
}

func (st *stage) path(name string) string { return filepath.Join(st.dir, name) }

// clear ends all programs, the last one first, and waits for them.
func (st *stage) clear() {
	for _, cmd := range slices.Backward(st.running) {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = cmd.Wait() // how it ended is of no interest
		}()
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
	}
	st.output.Wait()
	for _, dir := range st.temp {
		os.RemoveAll(dir)
	}
}

// command is a program in a process group of its own, so that Ctrl-C reaches
// the demo alone and the demo ends the others in order.
func (st *stage) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...) //nolint:noctx // clear ends it, in order; a context would end all at once
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+st.path("run"))
	return cmd
}

// run runs a program to its end, and shows what it prints.
func (st *stage) run(ctx context.Context, name string, args ...string) error {
	fmt.Println("$", strings.ReplaceAll(strings.Join(append([]string{name}, args...), " "), st.dir, "build/demo"))
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = st.command(name).Env
	out, err := cmd.CombinedOutput()
	if err != nil || name != "openssl" { // whose "-----" tells nobody anything
		os.Stdout.Write(out)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// start starts a program and hands its lines, stdout and stderr, to each.
func (st *stage) start(each func(line string), name string, args ...string) error {
	cmd := st.command(name, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	st.running = append(st.running, cmd)
	st.output.Go(func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			each(lines.Text())
		}
	})
	return nil
}

// startTPM starts a software TPM and returns the agent's name for it, "" where
// none can be had.
func (st *stage) startTPM(ctx context.Context) (device string, err error) {
	if _, err := exec.LookPath("swtpm"); err != nil {
		fmt.Println("There is no software TPM (swtpm), so the device key is a file.")
		return "", nil //nolint:nilerr // the demo goes on without
	}
	dir, err := os.MkdirTemp("", "demo") // short: the path of a unix socket has 107 bytes at most
	if err != nil {
		return "", err
	}
	st.temp = append(st.temp, dir)
	socket := filepath.Join(dir, "tpm")
	ignore := func(string) {} // it reports each command's connection
	err = st.start(ignore, "swtpm", "socket", "--tpm2",
		"--tpmstate", "dir="+dir, "--server", "type=unixio,path="+socket,
		"--ctrl", "type=unixio,path="+socket+".ctrl", "--flags", "not-need-init,startup-clear")
	if err != nil {
		return "", err
	}
	return "unix:" + socket, until(ctx, 5*time.Second, "the software TPM", func() bool {
		_, err := os.Stat(socket)
		return err == nil
	})
}

var readyLine = regexp.MustCompile(`^ready mqtt=(\S+) api=(\S+)$`)

// startCloud starts the emulator on free ports.
func (st *stage) startCloud(ctx context.Context, activate string) error {
	ready := make(chan []string, 1)
	err := st.start(func(line string) {
		if m := readyLine.FindStringSubmatch(line); m != nil {
			ready <- m
			return
		}
		fmt.Println("iotcore-sim:", line)
	}, "bin/iotcore-sim", "--mqtt", "127.0.0.1:0", "--api", "127.0.0.1:0", "--dir", st.path("cloud"),
		"--register-ca", st.path("ca/ca.crt"), "--activate-after", activate)
	if err != nil {
		return err
	}
	select {
	case m := <-ready:
		st.mqtt, st.api = m[1], "http://"+m[2]
		return nil
	case <-time.After(10 * time.Second):
		return errors.New("the emulator did not get ready")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// enrol is what technician and operator do once: request, signature, import.
func (st *stage) enrol(ctx context.Context, device string, s *summary) error {
	key := "tpm"
	if device == "" {
		key, device = "file", "/dev/tpmrm0"
	}
	config := fmt.Sprintf("[cloud]\nendpoint = %q\nserver_ca = %q\n\n[identity]\nkey = %q\ntpm_device = %q\n",
		st.mqtt, st.path("cloud/server-ca.pem"), key, device)
	if err := os.WriteFile(st.path("agent.toml"), []byte(config), 0o644); err != nil {
		return err
	}
	agent := []string{"--config", st.path("agent.toml"), "--state-dir", st.path("state")}
	if err := errors.Join(
		st.run(ctx, "bin/jitr-agent", append(agent, "csr", "--subject", "CN="+thing, "--out", st.path("gateway.csr"))...),
		st.run(ctx, "bin/jitrctl", "ca", "sign", "--dir", st.path("ca"), st.path("gateway.csr"), "--out", st.path("gateway.crt")),
		st.run(ctx, "bin/jitr-agent", append(agent, "import", "--cert", st.path("gateway.crt"))...),
	); err != nil {
		return err
	}
	ids, err := certificateIDs(st.path("gateway.crt"))
	if err != nil {
		return err
	}
	s.KeyProvider, s.CertificateID, s.CAID = key, ids[0], ids[1]
	return nil
}

func (st *stage) startAgent(context.Context) error {
	fmt.Println("$ bin/jitr-agent --config build/demo/agent.toml --state-dir build/demo/state run")
	return st.start(func(line string) { fmt.Println(line) },
		"bin/jitr-agent", "--config", st.path("agent.toml"), "--state-dir", st.path("state"), "run")
}

// until waits for a condition.
func until(ctx context.Context, limit time.Duration, what string, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s did not come within %v", what, limit)
		case <-tick.C:
		}
	}
	return nil
}
