// Package report is where everything the agent has to say goes: the journal
// or console, and status.json. It decides what is worth a line (a change, a
// step of a schedule, never each attempt) and takes all its words from package
// event.
package report

import (
	"bytes"
	"context"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/jitr-agent/jitr-agent/internal/atomicfile"
	"github.com/jitr-agent/jitr-agent/internal/clock"
	"github.com/jitr-agent/jitr-agent/internal/event"
	"github.com/jitr-agent/jitr-agent/pkg/identity"
	"github.com/jitr-agent/jitr-agent/pkg/jitr"
)

// refresh is how often status.json is brought up to date between changes,
// where a counter moved.
const refresh = 5 * time.Second

const messageIDKey = "message_id"

// Config is what a Report needs.
type Config struct {
	Dir        string // the run-time directory
	ConfigFile string
	StateDir   string
	Version    string
	Log        *zap.Logger
	TPMDevice  string
	Proxy      string // without password
	Overrides  []Override
	// Fill adds what the other parts of the agent know; it may be called from
	// several goroutines, one at a time.
	Fill func(*Status)
	// Written is given the content of status.json each time it was written; it
	// must not block, and may keep it.
	Written func([]byte)
}

// Report keeps and publishes what is known. It is safe for concurrent use.
type Report struct {
	cfg     Config
	started time.Time
	process string // which process we are, see processStart
	bootID  string
	pulse   clock.Pulse

	mu       sync.Mutex
	snap     jitr.Snapshot
	current  event.Event
	fields   event.Fields
	lasted   time.Duration // how long the current event has
	step     time.Duration // of the schedule, at the last line
	level    event.Level   // of the last line
	connects int64
	written  Status

	candidate struct { // the last line about one
		cause jitr.Cause
		level event.Level
	}
}

// New makes a report.
func New(cfg Config) *Report {
	r := &Report{cfg: cfg, started: time.Now(), process: processStart(os.Getpid()), bootID: clock.BootID()}
	r.pulse.Beat(clock.Boot())
	return r
}

// Idle is the time since Run last came round.
func (r *Report) Idle() time.Duration { return r.pulse.Age(clock.Boot()) }

// Run keeps status.json fresh until ctx ends.
func (r *Report) Run(ctx context.Context) {
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			r.mu.Lock()
			r.write(false, nil)
			r.mu.Unlock()
			r.pulse.Beat(clock.Boot())
		}
	}
}

// Observe is told by the connection loop; see jitr.Observer.
func (r *Report) Observe(s jitr.Snapshot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	previous := r.snap
	if s.Link != nil && s.Link != previous.Link {
		r.connects++
	}
	e := eventOf(s)
	fields, lasted := r.describe(s)
	changed := e.ID != r.current.ID || s.State != previous.State
	level := e.LevelAfter(lasted)
	stepped := s.Step >= r.step*3/2 && s.Step > r.step
	r.snap, r.current, r.fields, r.lasted = s, e, fields, lasted
	if changed || stepped || level > r.level {
		r.step, r.level = s.Step, level
		r.line(e, level, fields, lasted, snapshotFields(previous.State, s)...)
	}
	r.notify("STATUS=" + event.Line(e.Message(fields), e.Todo(fields, lasted)))
	r.write(true, nil)
}

// NotSaved is told by the connection loop; see jitr.Observer.
func (r *Report) NotSaved(err error) {
	r.Emit("state-not-saved", event.Fields{event.Why: err.Error()})
}

// Candidate is told by the connection loop; see jitr.Observer. It has a line
// for each cause, for its becoming a warning, and for the end.
func (r *Report) Candidate(n jitr.News) {
	fields := event.Fields{event.Object: filepath.Join(r.cfg.StateDir, identity.NextCertFile)}
	if n.Identity != nil {
		fields[event.Thing], fields[event.CertificateID] = n.Identity.ThingName, n.Identity.CertificateID()
	}
	id := "next-waiting"
	switch {
	case n.Replaced != "":
		id, fields[event.Value] = "next-promoted", n.Replaced
	case n.Cause == "":
		id, fields[event.Why] = "next-unusable", words(n.Err, "")
	default:
		fields[event.Why], fields[event.Next] = words(n.Err, jitr.PhaseConnack), next(n.Next)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	level := event.ByID(id).LevelAfter(n.For)
	if id == "next-waiting" && n.Cause == r.candidate.cause && level == r.candidate.level {
		return
	}
	r.candidate.cause, r.candidate.level = n.Cause, level
	r.emit(id, fields, n.For)
}

// next says when something is due, since boot.
func next(due time.Duration) string {
	in := max(0, due-clock.Boot())
	return "in " + Span(in) + " (" + time.Now().Add(in).Format(time.TimeOnly) + ")"
}

// Emit says an event that is not about the connection.
func (r *Report) Emit(id string, fields event.Fields) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.emit(id, fields, 0)
}

// emit says an event that has lasted for so long; the lock is held.
func (r *Report) emit(id string, fields event.Fields, lasted time.Duration) {
	all := event.Fields{event.Version: r.cfg.Version}
	if who := r.snap.Identity; who != nil {
		all[event.Thing], all[event.CertificateID] = who.ThingName, who.CertificateID()
	}
	maps.Copy(all, fields)
	e := event.ByID(id)
	r.line(e, e.LevelAfter(lasted), all, lasted, snapshotFields(r.snap.State, r.snap)...)
}

// Stopped writes the last status: how this run ended.
func (r *Report) Stopped(reason string, exitCode int, message string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notify(daemon.SdNotifyStopping)
	now := Time(time.Now())
	r.write(true, &Stop{At: &now, Reason: reason, ExitCode: &exitCode, Message: text(message)})
}

// eventOf finds the row of the table for a snapshot.
func eventOf(s jitr.Snapshot) event.Event {
	switch {
	case s.Cause != "":
		return event.ForCause(s.Cause)
	case s.State == jitr.Initializing && s.Err != nil:
		return event.ByID("init-refused")
	default:
		return event.ByID(string(s.State))
	}
}

// describe fills the fields of a sentence about s, and says how long what it
// tells of has lasted.
func (r *Report) describe(s jitr.Snapshot) (event.Fields, time.Duration) {
	lasted := s.Attempts.For
	f := event.Fields{
		event.Version:  r.cfg.Version,
		event.Endpoint: endpoint(s),
		event.Why:      words(s.Err, s.Attempts.LastPhase),
		event.Attempt:  strconv.Itoa(s.Attempts.Count),
		event.For:      Span(lasted),
		event.Object:   r.cfg.StateDir,
		event.Next:     "now",
	}
	switch s.State {
	case jitr.WaitingForConfiguration:
		f[event.Object] = r.cfg.ConfigFile
	case jitr.Initializing:
		f[event.Next] = "on this connection"
	case jitr.Online:
		took := s.Attempts
		if s.Recovered != nil {
			took = *s.Recovered
		}
		f[event.Attempt], f[event.For] = Count(int64(max(took.Count, 1)), "attempt"), Span(took.For)
		if r.snap.State == jitr.Online { // what it took was said when it came true
			f[event.Attempt], f[event.For] = r.fields[event.Attempt], r.fields[event.For]
		}
	default:
	}
	if s.Next > 0 {
		f[event.Next] = next(s.Next)
	}
	if id := s.Identity; id != nil {
		f[event.Thing], f[event.CertificateID], f[event.CACertificate] = id.ThingName, id.CertificateID(), id.CACertificateID()
	}
	return f, lasted
}

func endpoint(s jitr.Snapshot) string {
	if s.Endpoint.Host == "" {
		return ""
	}
	port := s.Endpoint.Port
	if s.Endpoint.Port443 {
		port = 443
	}
	if s.Link != nil {
		port = s.Link.Port
	}
	return s.Endpoint.Host + ":" + strconv.Itoa(port)
}

// snapshotFields are the journal fields that go with every entry.
func snapshotFields(previous jitr.State, s jitr.Snapshot) []zap.Field {
	fields := []zap.Field{zap.String("state", string(s.State))}
	add := func(key, value string) {
		if value != "" {
			fields = append(fields, zap.String(key, value))
		}
	}
	if previous != s.State {
		add("previous_state", string(previous))
	}
	add("cause", string(s.Cause))
	if s.Cause != "" {
		add("phase", string(s.Attempts.LastPhase))
	}
	if s.Attempts.Count > 0 {
		fields = append(fields, zap.Int("attempt", s.Attempts.Count))
	}
	if s.Next > 0 {
		fields = append(fields, zap.Int64("next_retry_ms", max(0, s.Next-clock.Boot()).Milliseconds()))
	}
	if id := s.Identity; id != nil {
		add("thing", id.ThingName)
		add("certificate_id", id.CertificateID())
		add("ca_certificate_id", id.CACertificateID())
	}
	add("endpoint", endpoint(s))
	return fields
}

// line says an event.
func (r *Report) line(e event.Event, level event.Level, f event.Fields, lasted time.Duration, more ...zap.Field) {
	fields := append([]zap.Field{zap.String(messageIDKey, e.MessageID), zap.String("event", e.ID)}, more...)
	r.cfg.Log.Log(zapLevel(level), event.Line(e.Message(f), e.Todo(f, lasted)), fields...)
}

func zapLevel(l event.Level) zapcore.Level {
	switch l {
	case event.Info:
		return zapcore.InfoLevel
	case event.Warning:
		return zapcore.WarnLevel
	default:
		return zapcore.ErrorLevel
	}
}

// write brings status.json up to date; without force only where something but
// the time has changed. An error has nowhere to go: the file is a report.
func (r *Report) write(force bool, stop *Stop) {
	s := r.status(stop)
	if !force && reflect.DeepEqual(ageless(s), ageless(r.written)) {
		return
	}
	var data bytes.Buffer
	err := s.Encode(&data)
	if err == nil {
		err = atomicfile.Write(filepath.Join(r.cfg.Dir, StatusFile), data.Bytes(), 0o644)
	}
	if err != nil {
		r.cfg.Log.Debug("status.json was not written", zap.Error(err))
		return
	}
	r.written = s
	if r.cfg.Written != nil {
		r.cfg.Written(data.Bytes())
	}
}

// ageless is s without what changes by itself.
func ageless(s Status) Status {
	s.WrittenAt, s.WrittenBootMS, s.StateForMS, s.Cloud.SessionForMS = nil, nil, nil, nil
	if s.Next != nil {
		next := *s.Next
		next.InMS, next.At = 0, Time{}
		s.Next = &next
	}
	return s
}

func (r *Report) status(stop *Stop) Status {
	now, boot := time.Now(), clock.Boot()
	s, pid := r.snap, os.Getpid()
	st := Status{
		Schema: Schema, Running: stop == nil, Stopped: stop,
		WrittenAt: At(now), WrittenBootMS: new(boot.Milliseconds()), StartedAt: At(r.started),
		PID: &pid, PIDStart: text(r.process), BootID: text(r.bootID), Version: text(r.cfg.Version),
		State: text(s.State), StateSinceAt: At(s.SinceAt), StateForMS: new((boot - s.Since).Milliseconds()),
		Cause: text(s.Cause), Event: text(r.current.ID),
		Message: text(r.current.Message(r.fields)), Remedy: text(r.current.Todo(r.fields, r.lasted)),
		Attempts: Attempts{
			Count: s.Attempts.Count, FirstAt: At(s.Attempts.FirstAt), LastAt: At(s.Attempts.LastAt),
			LastPhase: text(s.Attempts.LastPhase),
		},
		Cloud:     Cloud{Endpoint: text(s.Endpoint.Host), Proxy: text(r.cfg.Proxy)},
		Clock:     Clock{FloorAt: At(s.Floor), Synchronized: new(clock.Synchronized())},
		TPM:       r.tpm(s),
		Counters:  Counters{Connects: new(r.connects)},
		Overrides: r.cfg.Overrides,
		Local:     Local{State: text("off")},
	}
	if st.Overrides == nil {
		st.Overrides = []Override{}
	}
	if s.Dialled > 0 {
		st.DialledBootMS = new(s.Dialled.Milliseconds())
	}
	if !s.Floor.IsZero() {
		st.Clock.OK = &s.ClockOK
	}
	if s.Next > 0 && s.Link == nil && stop == nil {
		in := max(0, s.Next-boot)
		st.Next = &Next{Action: "connect", At: Time(now.Add(in)), InMS: in.Milliseconds()}
	}
	if s.Endpoint.Host != "" {
		st.Cloud.Port = &s.Endpoint.Port
	}
	if l := s.Link; l != nil {
		st.Cloud.Port, st.Cloud.ALPN, st.Cloud.TLSVersion = &l.Port, text(l.ALPN), text(l.TLSVersion)
		st.Cloud.ConnectedAt, st.Cloud.SessionForMS = At(l.ConnectedAt), new((boot - l.Connected).Milliseconds())
		st.Cloud.ReceiveMaximum = &l.ReceiveMaximum
	}
	if id := s.Identity; id != nil {
		leaf := id.Leaf()
		st.Identity = Identity{
			ThingName: text(id.ThingName), ClientID: text(id.ThingName), Provider: text(id.Provider), Algorithm: text(id.Algorithm),
			CertificateID: text(id.CertificateID()), CACertificateID: text(id.CACertificateID()),
			NotBeforeAt: At(leaf.NotBefore), NotAfterAt: At(leaf.NotAfter),
			Accepted: new(!s.History.AcceptedAt.IsZero()), AcceptedAt: At(s.History.AcceptedAt), InitAt: At(s.History.InitAt),
		}
	}
	if r.cfg.Fill != nil {
		r.cfg.Fill(&st)
	}
	return st
}

// tpm is the chip's state, which the connection loop's cause tells.
func (r *Report) tpm(s jitr.Snapshot) TPM {
	t := TPM{Device: text(r.cfg.TPMDevice)}
	switch s.Cause {
	case jitr.TPMAbsent:
		t.State = text("absent")
	case jitr.TPMDenied:
		t.State = text("denied")
	case jitr.TPMChanged:
		t.State = text("changed")
	case jitr.TPMLocked:
		t.State = text("locked")
	case jitr.TPMFailing:
		t.State = text("failing")
	default:
		switch {
		case s.Identity == nil:
		case s.Identity.Provider == "file":
			t.State = text("unused")
		default:
			t.State = text("ok")
		}
	}
	return t
}
