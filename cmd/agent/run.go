package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/jitr-agent/jitr-agent/internal/atomicfile"
	"github.com/jitr-agent/jitr-agent/internal/cli"
	"github.com/jitr-agent/jitr-agent/internal/event"
	"github.com/jitr-agent/jitr-agent/internal/filelock"
	"github.com/jitr-agent/jitr-agent/internal/report"
	"github.com/jitr-agent/jitr-agent/internal/state"
	"github.com/jitr-agent/jitr-agent/pkg/identity"
)

func newRun(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Run the service",
		Long: `Run the service: connect, wait until the certificate is activated, announce
the gateway, and send telemetry from then on.

SIGTERM and SIGINT stop it, SIGUSR1 makes it try now, SIGHUP makes it read its
configuration again.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return run(cmd, o) },
	}
}

// processors is how many run the agent's goroutines at a time. A message goes
// through the hands of several; on one processor it goes from one to the next,
// and the others are neither woken nor wait to be. Measured on two: twice the
// messages a second when busy, a fifth less processor time at 100 a second.
const processors = 1

// gcPercent is half of Go's default. It keeps the resident memory under 100
// messages a second at 13 MB instead of 15, for no CPU time that can be measured
// there.
const gcPercent = 50

// run is the service from start to end.
func run(cmd *cobra.Command, o *options) error {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(processors)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	s, overrides, err := o.load(cmd, true)
	if err != nil {
		return err
	}
	endpoint, err := endpointOf(s)
	if err != nil {
		return err
	}
	lock, err := claim(o.stateDir)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	dir := runtimeDir()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot make the run-time directory: %w; run as root, or set RUNTIME_DIRECTORY", err)
	}
	path := filepath.Join(o.stateDir, "state.json")
	store, setAside, err := state.Open(path)
	if err != nil {
		return fmt.Errorf("cannot read %s: %w; give it to the service's user", path, err)
	}

	level := zap.NewAtomicLevelAt(logLevel(s))
	log := report.NewLog(s.Log.Format, level, cmd.ErrOrStderr())
	for _, file := range []string{path, filepath.Join(dir, report.StatusFile)} {
		if err := atomicfile.Sweep(file); err != nil { // they only take room
			log.Debug("temporary files of an earlier run were not removed", zap.Error(err))
		}
	}
	a := newAgent(o, s, overrides, endpoint, store, dir, log.Logger, level)
	a.format = log.SetFormat
	for _, o := range overrides {
		a.report.Emit("setting-overridden", event.Fields{event.Object: o.Key, event.Value: o.Value, event.Why: "the environment"})
	}
	if setAside != nil {
		a.report.Emit("state-set-aside", event.Fields{event.Why: setAside.Error()})
	}

	if volatile := identity.Volatile(a.identityOptions()); volatile != nil {
		a.warn(*volatile)
	}

	ctx, end := context.WithCancelCause(context.Background())
	defer end(nil)
	stopSignals := a.watchSignals(end)
	err = a.run(ctx, end)
	stopSignals()
	return a.farewell(err)
}

// claim makes the state directory if there is none, and takes its lock: one
// service works on it at a time.
func claim(stateDir string) (*filelock.Lock, error) {
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the state directory: %w; run as root, or give --state-dir", err)
	}
	lock, err := filelock.Try(filepath.Join(stateDir, "lock"))
	var held *filelock.Held
	switch {
	case errors.As(err, &held):
		return nil, fmt.Errorf("cannot run with %s: another jitr-agent run has it (pid %d); stop that one first: systemctl stop jitr-agent", stateDir, held.PID)
	case err != nil:
		return nil, fmt.Errorf("cannot lock %s: %w; give the directory to the user that runs the service", stateDir, err)
	}
	return lock, nil
}

// signalError is the end that somebody asked for.
type signalError struct{ os.Signal }

func (e signalError) Error() string { return "signal " + e.String() }

// watchSignals does what the signals say until the function it returns is
// called.
func (a *agent) watchSignals(end context.CancelCauseFunc) (stop func()) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt, syscall.SIGUSR1, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := range signals {
			switch s {
			case syscall.SIGUSR1:
				a.loop.Wake()
			case syscall.SIGHUP:
				a.reload()
			default:
				end(signalError{s})
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
		<-done
	}
}

// farewell writes how the run ended, and turns it into the exit code.
func (a *agent) farewell(err error) error {
	var (
		asked signalError
		exit  *cli.ExitError
	)
	switch {
	case errors.As(err, &asked):
		a.report.Emit("stopping", event.Fields{event.Why: asked.Error()})
		a.report.Stopped("signal", cli.ExitOK, "it was stopped by "+asked.Error())
		return nil
	case errors.As(err, &exit) && exit.Code == cli.ExitConfig:
		a.report.Stopped("config", exit.Code, exit.Error())
	default:
		a.report.Stopped("error", cli.ExitFailed, err.Error())
	}
	return err
}
