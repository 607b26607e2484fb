package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// patience is how long something that needs no waiting may take.
	patience = 30 * time.Second
	// stopLimit is how long a program may take to end after SIGTERM.
	stopLimit = 10 * time.Second
	// look is how often a process's memory is read while it runs.
	look = 10 * time.Millisecond
)

// command is a program that dies with us, with its output kept for an error.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = &bytes.Buffer{}
	return cmd
}

// output runs a program to its end and returns what it printed.
func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := command(ctx, name, args...)
	out, err := cmd.Output()
	return string(out), described(cmd, err)
}

// described adds to the end of a program what it said.
func described(cmd *exec.Cmd, err error) error {
	if err == nil {
		return nil
	}
	said, _ := cmd.Stderr.(*bytes.Buffer)
	return fmt.Errorf("%s: %w\n%s", filepath.Base(cmd.Path), err, tail(said.String(), 2000))
}

func tail(s string, most int) string { return s[max(0, len(s)-most):] }

// process is a program that runs until it is stopped.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{}
	err    error // valid when exited is closed
}

func start(cmd *exec.Cmd) (*process, error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, exited: make(chan struct{})}
	go func() {
		defer close(p.exited)
		p.err = described(cmd, cmd.Wait())
	}()
	return p, nil
}

// stop ends it and waits.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	select {
	case <-p.exited:
	case <-time.After(stopLimit):
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
}

// cpu is the CPU time that it has used, user and system, of all its threads.
func (p *process) cpu() (time.Duration, error) {
	// MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED) of the kernel: nanoseconds,
	// where /proc/PID/stat counts hundredths of a second.
	clock := int32(^p.cmd.Process.Pid)<<3 | 2
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0, fmt.Errorf("CPU time of %s: %w", p.cmd.Path, err)
	}
	return time.Duration(t.Nano()), nil
}

// memory reads a line of /proc/PID/status, VmRSS or VmHWM, in bytes. It is 0
// for a process that has ended.
func (p *process) memory(line string) int64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for l := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(l, line+":"); ok {
			kb, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
			return kb << 10
		}
	}
	return 0
}

// spent is what a program that ran to its end has cost, without the broker's
// part.
func spent(cmd *exec.Cmd) (cost, error) {
	began := time.Now()
	p, err := start(cmd)
	if err != nil {
		return cost{}, err
	}
	var c cost
	tick := time.NewTicker(look)
	defer tick.Stop()
	for ended := false; !ended; {
		select {
		case <-p.exited:
			ended = true
		case <-tick.C:
			// Its rusage would count our own memory, from before the exec.
			c.rss = max(c.rss, p.memory("VmHWM"))
		}
	}
	c.wall = time.Since(began)
	c.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return c, p.err
}
