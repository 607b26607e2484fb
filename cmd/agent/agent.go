package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/jitr-agent/jitr-agent/internal/cli"
	"github.com/jitr-agent/jitr-agent/internal/clock"
	"github.com/jitr-agent/jitr-agent/internal/event"
	"github.com/jitr-agent/jitr-agent/internal/local"
	"github.com/jitr-agent/jitr-agent/internal/netpath"
	"github.com/jitr-agent/jitr-agent/internal/report"
	"github.com/jitr-agent/jitr-agent/internal/settings"
	"github.com/jitr-agent/jitr-agent/internal/state"
	"github.com/jitr-agent/jitr-agent/internal/version"
	"github.com/jitr-agent/jitr-agent/pkg/buffer"
	"github.com/jitr-agent/jitr-agent/pkg/identity"
	"github.com/jitr-agent/jitr-agent/pkg/jitr"
	"github.com/jitr-agent/jitr-agent/pkg/mqtt"
	"github.com/jitr-agent/jitr-agent/pkg/telemetry"
)

// agent is the parts of the service and how they reach each other.
type agent struct {
	opts     *options
	settings atomic.Pointer[settings.Settings]
	endpoint atomic.Pointer[jitr.Endpoint]
	store    *state.Store
	log      *zap.Logger
	level    zap.AtomicLevel
	format   func(string) // changes the log's format

	dialer    netpath.Dialer
	loop      *jitr.Loop
	buffer    *buffer.Buffer
	local     *local.Server
	localBusy atomic.Bool // that was said last
	telemetry *telemetry.Reporter
	shadow    shadowing
	report    *report.Report
	losses    losses

	floor      atomic.Pointer[time.Time]         // the clock floor
	identity   atomic.Pointer[identity.Identity] // the last one that the loop had
	tpmBefore  atomic.Int64                      // TPM commands of those before it
	identified chan struct{}                     // closed when there is one
	warned     map[identity.Warning]bool         // of the goroutine that loads
	identify   sync.Once
	end        context.CancelCauseFunc
}

func newAgent(o *options, s *settings.Settings, overrides []settings.Override, endpoint jitr.Endpoint,
	store *state.Store, dir string, log *zap.Logger, level zap.AtomicLevel,
) *agent {
	a := &agent{opts: o, store: store, log: log, level: level, format: func(string) {}, identified: make(chan struct{}), warned: map[identity.Warning]bool{}}
	a.settings.Store(s)
	a.endpoint.Store(&endpoint)
	built := version.BuildTime()
	a.floor.Store(&built)
	a.report = report.New(report.Config{
		Dir: dir, ConfigFile: o.config, StateDir: o.stateDir, Version: version.Number(), Log: log,
		TPMDevice: s.Identity.TPMDevice, Proxy: s.Cloud.Proxy.String(), Overrides: reported(overrides), Fill: a.fillStatus,
		Written: func(status []byte) { a.local.Publish(statusTopic, status, true) },
	})
	a.losses.agent = a
	a.buffer = a.newBuffer(s)
	a.local = a.newLocal(s, dir)
	a.telemetry = a.newTelemetry(s)
	a.shadow.agent = a
	a.loop = jitr.New(jitr.Config{
		Endpoint:   func() jitr.Endpoint { return *a.endpoint.Load() },
		Identities: a,
		Dialer:     &a.dialer,
		Store:      store,
		Observer:   a,
		Built:      built,
		Init: func(id *identity.Identity) mqtt.Message {
			return makeInit(a.settings.Load().Init.Topic, id, store.Get(), a.endpoint.Load().Host)
		},
		OnMessage: a.shadow.handle,
		Serve:     a.serve,
		NotBefore: earliestDial(dir),
	})
	return a
}

// run works until ctx ends, and returns why it did.
func (a *agent) run(ctx context.Context, end context.CancelCauseFunc) error {
	a.end = end
	// The buffer ends last: what the others still hand in is made safe.
	last, endBuffer := context.WithCancel(context.WithoutCancel(ctx))
	var work, storing sync.WaitGroup
	storing.Go(func() { a.buffer.Run(last) })
	work.Go(func() { a.report.Run(ctx) })
	work.Go(func() { a.report.FeedWatchdog(ctx, a.loop.Idle, a.report.Idle) })
	work.Go(func() { a.loop.Run(ctx) })
	work.Go(func() { a.watch("network links", netpath.WatchLinks(ctx, a.loop.LinkUp)) })
	work.Go(func() { a.watch("the clock", clock.WatchSet(ctx, a.loop.ClockSet)) })
	work.Go(func() {
		select {
		case <-a.identified:
			a.telemetry.Run(ctx)
		case <-ctx.Done():
		}
	})
	work.Go(func() { a.local.Serve(ctx) })
	work.Go(func() { a.losses.keep(ctx) })
	a.report.Ready()
	<-ctx.Done()
	work.Wait()
	a.shadow.stop()
	endBuffer()
	storing.Wait()
	a.losses.save()
	return context.Cause(ctx)
}

// watch says that a watcher could not do its work. The loop's own schedule
// stays, so nothing depends on it.
func (a *agent) watch(what string, err error) {
	if err != nil {
		a.log.Debug("cannot watch "+what, zap.Error(err))
	}
}

// serve uses a session until it ends.
func (a *agent) serve(ctx context.Context, session *mqtt.Session, id *identity.Identity) {
	a.shadow.start(ctx, session, id)
	a.buffer.Drain(ctx, bufferSession{session})
}

// Load and Stamp find the identity for the connection loop.
func (a *agent) Load(ctx context.Context) (*identity.Identity, error) {
	opts := a.identityOptions()
	opts.Owner = true
	if last := a.identity.Load(); last != nil && last.TPMCommands != nil {
		a.tpmBefore.Add(int64(last.TPMCommands()))
		counted := *last
		counted.TPMCommands = nil
		a.identity.Store(&counted)
	}
	id, err := identity.Load(ctx, opts)
	if errors.Is(err, identity.ErrNoThingName) {
		a.end(&cli.ExitError{Code: cli.ExitConfig, Err: err})
	}
	if id != nil {
		a.warn(id.Warnings...)
	}
	return id, err
}

// warn says each warning once in the life of the service.
func (a *agent) warn(warnings ...identity.Warning) {
	for _, w := range warnings {
		if !a.warned[w] {
			a.warned[w] = true
			a.report.Emit(w.ID, event.Fields{event.Object: w.Object, event.Why: w.Why})
		}
	}
}

func (a *agent) Stamp() string { return identity.Stamp(a.identityOptions()) }

// LoadNext, NextStamp and Promote are about the certificate that is installed
// beside the present one.
func (a *agent) LoadNext(ctx context.Context) (*identity.Identity, error) {
	return identity.LoadNext(ctx, a.identityOptions())
}

func (a *agent) NextStamp() string { return identity.NextStamp(a.identityOptions()) }

func (a *agent) Promote(ctx context.Context, next *identity.Identity) error {
	return identity.Promote(ctx, a.identityOptions(), next.CertificateID())
}

func (a *agent) identityOptions() identity.Options {
	return a.opts.identityOptions(a.settings.Load())
}

// Observe, NotSaved and Candidate hear from the connection loop.
func (a *agent) Observe(s jitr.Snapshot) {
	if floor := s.Floor; !floor.IsZero() {
		a.floor.Store(&floor)
	}
	if s.Identity != nil {
		a.identity.Store(s.Identity)
		a.identify.Do(func() { close(a.identified) })
	}
	a.report.Observe(s)
}

func (a *agent) NotSaved(err error) { a.report.NotSaved(err) }

func (a *agent) Candidate(n jitr.News) { a.report.Candidate(n) }

// newTelemetry measures into the buffer.
func (a *agent) newTelemetry(s *settings.Settings) *telemetry.Reporter {
	return telemetry.NewReporter(telemetry.ReporterOptions{
		Sources:   sources(s, a.opts.stateDir),
		Interval:  time.Duration(s.Telemetry.Interval),
		Publisher: toBuffer{a},
		BootID:    clock.BootID(), Synchronized: clock.Synchronized,
		Topic: func(source string) string {
			return settings.Expand(a.settings.Load().Telemetry.Topic,
				map[string]string{"thing_name": a.thingName(), "source": source})
		},
		Trouble: func(source string, err error) {
			if err != nil {
				a.report.Emit("telemetry-failed", event.Fields{event.Object: source, event.Why: err.Error()})
			}
		},
	})
}

func sources(s *settings.Settings, stateDir string) []telemetry.Source {
	var all []telemetry.Source
	for _, name := range s.Telemetry.Sources {
		if name == "system" {
			all = append(all, telemetry.NewSystem(telemetry.SystemOptions{StateDir: stateDir}))
		}
	}
	return all
}

func logLevel(s *settings.Settings) zapcore.Level {
	level, err := zapcore.ParseLevel(s.Log.Level)
	if err != nil {
		return zapcore.InfoLevel // the settings allow only zap's own names
	}
	return level
}

// earliestDial keeps the distance of a second to the last CONNECT of a run
// that ended just now, as its status.json tells it. The time in there counts
// from the same boot, or it is of no concern.
func earliestDial(dir string) time.Duration {
	last, err := report.ReadStatus(dir)
	if err != nil || last.BootID == nil || *last.BootID != clock.BootID() || last.DialledBootMS == nil {
		return 0
	}
	return time.Duration(*last.DialledBootMS+1)*time.Millisecond + jitr.MinGap // +1: it was rounded down
}
