package report

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/jitr-agent/jitr-agent/internal/event"
	"github.com/jitr-agent/jitr-agent/internal/netpath"
	"github.com/jitr-agent/jitr-agent/pkg/jitr"
)

// expect compares the new lines with patterns, one for each.
func expect(t *testing.T, when string, got []string, patterns ...string) {
	t.Helper()
	ok := len(got) == len(patterns)
	for i := range min(len(got), len(patterns)) {
		ok = ok && regexp.MustCompile("^"+patterns[i]+"$").MatchString(got[i])
	}
	if !ok {
		t.Errorf("%s: it said\n%s\nwant\n%s", when, strings.Join(got, "\n"), strings.Join(patterns, "\n"))
	}
}

// One line for each step of the schedule, none for an attempt; a warning when
// it lasts; one line when it is over.
func TestLinesOfAFirstConnect(t *testing.T) {
	r, lines := newReport(t, nil)
	s := newScript(t, r)
	r.Observe(s.snap)
	expect(t, "start", said(lines), `info jitr-agent 1\.2\.3 starts`)
	s.begin()
	expect(t, "the first attempt", said(lines))

	id := s.snap.Identity.CertificateID()
	pending := func(lasted, step time.Duration) []string {
		s.fail(jitr.PendingActivation, jitr.Pending, jitr.PhaseConnack, io.EOF, lasted, step)
		got := said(lines)
		s.begin()
		expect(t, "an attempt", said(lines))
		return got
	}
	line := func(level, attempt, span string) string {
		return level + " AWS IoT at endpoint:8883 does not let certificate " + id +
			` in yet, it waits for activation \(PENDING_ACTIVATION\): attempt ` + attempt + ", " + span + ` so far, next try in .* s \(\d\d:\d\d:\d\d\)`
	}
	expect(t, "pending", pending(0, time.Second), line("info", "1", `0\.0 s`))
	expect(t, "the same step", pending(time.Second, time.Second))
	expect(t, "a little more", pending(7*time.Second, 1400*time.Millisecond))
	expect(t, "half as much again", pending(8*time.Second, 1500*time.Millisecond), line("info", "4", `8\.0 s`))
	expect(t, "the next step", pending(20*time.Second, 4*time.Second), line("info", "5", "20 s"))
	expect(t, "just before the warning", pending(15*time.Minute-time.Second, 4*time.Second))
	expect(t, "the warning", pending(15*time.Minute, 4*time.Second), line("warn", "7", "15 min 0 s")+
		"; ask the operator: .*auto-registration on.*")
	expect(t, "it is said once", pending(16*time.Minute, 4*time.Second))
	expect(t, "a warning for the next step too", pending(20*time.Minute, 8*time.Second), line("warn", "9", "20 min 0 s")+"; ask the operator: .*")

	s.enter(jitr.Initializing)
	expect(t, "accepted", said(lines), "info AWS IoT at endpoint:8883 accepts certificate "+id+"; sending the init message for thing gw-1")
	s.succeed(20*time.Minute + 3*time.Second)
	s.enter(jitr.Online)
	online := `info Online at endpoint:8883 as thing gw-1 after 10 attempts and 20 min 3 s`
	expect(t, "online", said(lines), online)
	s.enter(jitr.Online) // after 30 s of session
	expect(t, "still online", said(lines))
	if got := onDisk(t, r)["message"]; got != strings.TrimPrefix(online, "info ") {
		t.Errorf("status.json says %q; want what the journal said", got)
	}
}

// An outage of one that was accepted before: it is online with the CONNACK, and
// the line tells what it took.
func TestLinesOfAnOutage(t *testing.T) {
	r, lines := newReport(t, nil)
	s := newScript(t, r)
	s.begin()
	s.enter(jitr.Online)
	s.succeed(0)
	s.enter(jitr.Online)
	expect(t, "online", said(lines), `info jitr-agent .*`, `info Online at endpoint:8883 as thing gw-1 after 1 attempt and 0\.0 s`)

	down := func(lasted, step time.Duration, err error, cause jitr.Cause) []string {
		s.fail(jitr.Offline, cause, jitr.PhaseTCP, err, lasted, step)
		s.begin()
		return said(lines)
	}
	refused := &netpath.Error{Phase: netpath.TCP, Peer: "x", Err: syscall.ECONNREFUSED}
	expect(t, "down", down(0, time.Second, refused, jitr.Network), `info endpoint:8883 cannot be reached: connection refused; next try in .*; check the link.*`)
	expect(t, "a step", down(time.Second, 2*time.Second, refused, jitr.Network), `info endpoint.*`)
	expect(t, "another cause", down(3*time.Second, 2*time.Second, io.EOF, jitr.ServerClosed), `info AWS IoT at endpoint:8883 closed the connection: .*`)
	expect(t, "two minutes", down(2*time.Minute, 2*time.Second, io.EOF, jitr.ServerClosed), `warn AWS IoT at endpoint:8883 closed .*`)
	s.enter(jitr.Online)
	expect(t, "up", said(lines), `info Online at endpoint:8883 as thing gw-1 after 4 attempts and 2 min 0 s`)
	s.succeed(2*time.Minute + 30*time.Second)
	s.enter(jitr.Online)
	expect(t, "proved", said(lines))
	if got, _ := onDisk(t, r)["message"].(string); !strings.HasSuffix(got, "after 4 attempts and 2 min 0 s") {
		t.Errorf("status.json says %q; want what the journal said", got)
	}
}

// What needs somebody is a warning from the first time on, and what a person
// has to do is in the line.
func TestLinesOfEachKind(t *testing.T) {
	for _, c := range []struct {
		state jitr.State
		cause jitr.Cause
		phase jitr.Phase
		err   error
		want  string
	}{
		{jitr.WaitingForIdentity, jitr.NoKey, jitr.PhaseIdentity, errors.New("device.key: there is no device key; run jitr-agent csr"),
			`warn There is no device key in /var/lib/jitr-agent; run: jitr-agent csr .*`},
		{jitr.WaitingForIdentity, jitr.KeyCorrupt, jitr.PhaseIdentity, errors.New("device.key: it is damaged; restore it"),
			`error The device key in /var/lib/jitr-agent cannot be read: device.key: it is damaged; restore device.key .*`},
		{jitr.WaitingForClock, jitr.Clock, jitr.PhaseClock, errors.New("the clock says 1970, and it cannot be before 2026"),
			`warn The clock is wrong, .*: the clock says 1970, .*; see: timedatectl.*`},
		{jitr.WaitingForConfiguration, "", "", nil,
			`info No endpoint is configured, .*; set cloud.endpoint in /etc/jitr-agent/agent.toml .*`},
		{jitr.Rejected, jitr.NotAuthorized, jitr.PhaseConnack, errors.New("CONNACK 0x87 (not authorized)"),
			`warn AWS IoT at endpoint:8883 does not authorize thing gw-1 .*: CONNACK 0x87 \(not authorized\); next try in .*`},
		{jitr.Initializing, "", jitr.PhaseSession, errors.New("PUBACK 0x97 (quota exceeded) to the init message"),
			`warn The server refused the init message of thing gw-1: PUBACK 0x97 .*`},
	} {
		r, lines := newReport(t, nil)
		s := newScript(t, r)
		s.fail(c.state, c.cause, c.phase, c.err, 0, time.Second)
		expect(t, string(c.state)+" "+string(c.cause), said(lines), c.want)
	}
}

// Every line has the fields by which programs find it.
func TestFields(t *testing.T) {
	r, lines := newReport(t, nil)
	s := newScript(t, r)
	r.Observe(s.snap)
	s.begin()
	s.fail(jitr.Connecting, jitr.DNS, jitr.PhaseDNS, io.EOF, 0, 8*time.Second)
	got := lines.TakeAll()[1].ContextMap()
	want := map[string]any{
		"message_id": event.ForCause(jitr.DNS).MessageID, "event": "dns", "state": "connecting", "previous_state": "starting",
		"cause": "dns", "phase": "dns", "attempt": int64(1), "thing": "gw-1", "endpoint": "endpoint:8883",
		"certificate_id": s.snap.Identity.CertificateID(), "ca_certificate_id": s.snap.Identity.CACertificateID(),
	}
	for key, value := range want {
		if got[key] != value {
			t.Errorf("%s: %v; want %v", key, got[key], value)
		}
	}
	if ms, ok := got["next_retry_ms"].(int64); !ok || ms <= 7000 || ms > 8000 {
		t.Errorf("next_retry_ms %v; want some 8000", got["next_retry_ms"])
	}
	if len(got) != len(want)+1 {
		t.Errorf("fields %v", got)
	}

	// Where something does not apply it is absent, not empty.
	r.Emit("configuration-reloaded", nil)
	r.Observe(jitr.Snapshot{State: jitr.WaitingForConfiguration})
	for key, value := range lines.TakeAll()[1].ContextMap() {
		if value == "" {
			t.Errorf("%s is empty", key)
		}
	}
}

// Port 443, by choice or by fallback, is named as it is.
func TestEndpoint(t *testing.T) {
	for want, s := range map[string]jitr.Snapshot{
		"":         {},
		"e:8883":   {Endpoint: jitr.Endpoint{Host: "e", Port: 8883}},
		"e:443":    {Endpoint: jitr.Endpoint{Host: "e", Port: 8883, Port443: true}},
		"e:444":    {Endpoint: jitr.Endpoint{Host: "e", Port: 8883}, Link: &jitr.Link{Port: 444}},
		"e.x:1883": {Endpoint: jitr.Endpoint{Host: "e.x", Port: 1883}},
	} {
		if got := endpoint(s); got != want {
			t.Errorf("%q; want %q", got, want)
		}
	}
}

func TestEmit(t *testing.T) {
	r, lines := newReport(t, nil)
	r.NotSaved(errors.New("no space left on device"))
	expect(t, "without an identity", said(lines), "warn state.json cannot be written: no space left on device; .*")
	s := newScript(t, r)
	s.begin()
	lines.TakeAll()
	r.Emit("message-refused", event.Fields{event.Object: "dt/x", event.Why: "not authorized"})
	expect(t, "with one", said(lines), "error The server refused a message on dt/x: not authorized; .*"+s.snap.Identity.CertificateID()+".*dt/x; .*")
}

// Each session is one connect, also where one takes the place of another.
func TestConnects(t *testing.T) {
	r, _ := newReport(t, nil)
	s := newScript(t, r)
	for range 2 {
		s.begin()
		s.enter(jitr.Online)
		s.enter(jitr.Online)
		s.fail(jitr.Offline, jitr.Network, jitr.PhaseSession, io.EOF, 0, time.Second)
	}
	s.enter(jitr.Online)
	next := *s.snap.Link
	s.snap.Link = &next // of a certificate that was proved
	s.enter(jitr.Online)
	if got := onDisk(t, r)["counters"].(map[string]any)["connects"]; got != 4.0 {
		t.Errorf("%v connects; want 4", got)
	}
}

// Between changes, status.json is written where a counter moved, and not for
// the time that passes.
func TestRunWritesWhatMoved(t *testing.T) {
	var mu sync.Mutex
	acked, fills := int64(0), 0
	r, _ := newReport(t, func(s *Status) {
		mu.Lock()
		defer mu.Unlock()
		fills++
		n := acked
		s.Counters.Acked = &n
	})
	path := filepath.Join(r.cfg.Dir, StatusFile)
	s := newScript(t, r)
	s.begin()
	s.enter(jitr.Online)
	inode := func() uint64 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != 0o644 {
			t.Errorf("mode %v; want 0644", info.Mode())
		}
		return info.Sys().(*syscall.Stat_t).Ino
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var work sync.WaitGroup
		work.Go(func() { r.Run(ctx) })
		before := inode()
		<-time.After(time.Minute)
		if inode() != before {
			t.Error("it was written though nothing had changed")
		}
		mu.Lock()
		looked := fills
		acked = 1
		mu.Unlock()
		if looked < 10 {
			t.Errorf("it looked %d times in a minute", looked)
		}
		<-time.After(refresh + time.Second)
		if inode() == before {
			t.Error("a counter moved and it was not written")
		}
		cancel()
		work.Wait()
	})
	if got := onDisk(t, r)["counters"].(map[string]any)["acked"]; got != 1.0 {
		t.Errorf("acked %v; want 1", got)
	}
}

// A directory that is not there yet is no reason to forget the status.
func TestWriteFails(t *testing.T) {
	r, _ := newReport(t, nil)
	dir := filepath.Join(r.cfg.Dir, "later")
	r.cfg.Dir = dir
	r.cfg.Log = zap.NewNop()
	s := newScript(t, r)
	s.begin()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	r.write(false, nil)
	r.mu.Unlock()
	if got := onDisk(t, r)["state"]; got != "starting" {
		t.Errorf("state %v", got)
	}
}

func TestStopped(t *testing.T) {
	r, _ := newReport(t, nil)
	s := newScript(t, r)
	s.fail(jitr.Connecting, jitr.DNS, jitr.PhaseDNS, io.EOF, 0, time.Minute)
	r.Stopped("signal", 0, "it was stopped by signal terminated")
	got := onDisk(t, r)
	stop, _ := got["stopped"].(map[string]any)
	if got["running"] != false || got["next"] != nil || got["state"] != "connecting" ||
		stop["reason"] != "signal" || stop["exit_code"] != 0.0 || stop["message"] != "it was stopped by signal terminated" || stop["at"] == nil {
		t.Errorf("running %v, next %v, stopped %v", got["running"], got["next"], stop)
	}
}

// The chip's state goes with the cause.
func TestTPM(t *testing.T) {
	for _, c := range []struct {
		cause    jitr.Cause
		provider string // "": no identity
		want     any
	}{
		{"", "", nil}, {"", "tpm", "ok"}, {"", "file", "unused"}, {jitr.DNS, "tpm", "ok"},
		{jitr.TPMAbsent, "", "absent"}, {jitr.TPMDenied, "", "denied"}, {jitr.TPMChanged, "", "changed"},
		{jitr.TPMLocked, "", "locked"}, {jitr.TPMFailing, "tpm", "failing"},
	} {
		r, _ := newReport(t, nil)
		s := newScript(t, r)
		s.snap.Cause = c.cause
		if s.snap.Identity.Provider = c.provider; c.provider == "" {
			s.snap.Identity = nil
		}
		r.Observe(s.snap)
		got := onDisk(t, r)["tpm"].(map[string]any)
		if got["state"] != c.want || got["device"] != "/dev/tpmrm0" {
			t.Errorf("%s with %q: %v; want %v", c.cause, c.provider, got, c.want)
		}
	}
}

func TestZapLevel(t *testing.T) {
	for l, want := range map[event.Level]zapcore.Level{
		event.Info: zap.InfoLevel, event.Warning: zap.WarnLevel, event.Error: zap.ErrorLevel,
	} {
		if got := zapLevel(l); got != want {
			t.Errorf("%v: %v; want %v", l, got, want)
		}
	}
}
