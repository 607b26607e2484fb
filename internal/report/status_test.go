package report

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/clock"
	"github.com/jitr-agent/jitr-agent/pkg/jitr"
)

// golden has every key of schema 1. Keys are added here and never taken away:
// scripts of other people read them.
const golden = `
schema running written_at written_boot_ms dialled_boot_ms started_at pid pid_start boot_id version
stopped stopped.at stopped.reason stopped.exit_code stopped.message
state state_since_at state_for_ms cause event message remedy
next next.action next.at next.in_ms
attempts attempts.count attempts.first_at attempts.last_at attempts.last_phase
identity identity.thing_name identity.client_id identity.provider identity.algorithm identity.certificate_id
identity.ca_certificate_id identity.not_before_at identity.not_after_at identity.accepted identity.accepted_at
identity.init_at identity.next identity.next.certificate_id identity.next.not_after_at
cloud cloud.endpoint cloud.port cloud.alpn cloud.proxy cloud.tls_version cloud.connected_at cloud.session_for_ms
cloud.receive_maximum
clock clock.ok clock.floor_at clock.synchronized
tpm tpm.state tpm.device
buffer buffer.state buffer.messages buffer.bytes buffer.max_bytes buffer.oldest_at buffer.memory_messages
buffer.in_flight buffer.paused_for_ms
counters counters.connects counters.acked counters.refused_local counters.dropped counters.gaps counters.dead_letters
counters.bytes_sent counters.bytes_received counters.tpm_commands
shadow shadow.state shadow.version
overrides overrides.key overrides.value overrides.from
local local.state local.socket local.listen local.clients
`

// keys collects the paths of all keys.
func keys(v any, prefix string, into map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for k, sub := range v {
			into[prefix+k] = true
			keys(sub, prefix+k+".", into)
		}
	case []any:
		for _, sub := range v {
			keys(sub, prefix, into)
		}
	}
}

// The keys are those of the schema, whatever is known.
func TestKeys(t *testing.T) {
	want := strings.Fields(golden)
	slices.Sort(want)
	whole := Status{
		Stopped: &Stop{}, Next: &Next{}, Overrides: []Override{{}}, Identity: Identity{Next: &NextIdentity{}},
	}
	got := map[string]bool{}
	keys(encode(t, whole), "", got)
	if all := sorted(got); !slices.Equal(all, want) {
		t.Errorf("keys\n%v\nwant\n%v", all, want)
	}

	// Only what stands below something that can be null is absent with it.
	nothing, err := ReadStatus(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	bare := map[string]bool{}
	keys(encode(t, nothing), "", bare)
	for _, key := range want {
		optional := strings.HasPrefix(key, "stopped.") || strings.HasPrefix(key, "next.") ||
			strings.HasPrefix(key, "identity.next.") || strings.HasPrefix(key, "overrides.")
		if !bare[key] && !optional {
			t.Errorf("%s is absent where nothing is known", key)
		}
	}
	if overrides := encode(t, nothing)["overrides"]; overrides == nil {
		t.Error("overrides is null; want an empty list")
	}
}

func sorted(set map[string]bool) (all []string) {
	for k := range set {
		all = append(all, k)
	}
	slices.Sort(all)
	return all
}

func encode(t *testing.T, s Status) map[string]any {
	t.Helper()
	var data bytes.Buffer
	if err := s.Encode(&data); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(data.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	return got
}

// The values of a service that is online have the types of the schema.
func TestValues(t *testing.T) {
	r, _ := newReport(t, nil)
	s := newScript(t, r)
	s.begin()
	s.snap.History.AcceptedAt = time.Date(2026, 3, 5, 12, 0, 0, 123_456_789, time.FixedZone("x", 3600))
	s.enter(jitr.Online)
	got := onDisk(t, r)
	id := got["identity"].(map[string]any)
	if id["accepted"] != true || id["accepted_at"] != "2026-03-05T11:00:00.123Z" || id["init_at"] != nil {
		t.Errorf("identity %v", id)
	}
	stamp := regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`)
	flat := map[string]any{}
	flatten(got, "", flat)
	for key, v := range flat {
		switch {
		case v == nil:
		case strings.HasSuffix(key, "_at") || key == "at":
			if text, ok := v.(string); !ok || !stamp.MatchString(text) {
				t.Errorf("%s: %v is not RFC 3339 UTC with milliseconds", key, v)
			}
		case strings.HasSuffix(key, "_ms"), strings.HasSuffix(key, "_bytes"):
			if n, ok := v.(float64); !ok || n != float64(int64(n)) {
				t.Errorf("%s: %v is no integer", key, v)
			}
		}
	}
	for key, want := range map[string]any{
		"schema": 1.0, "running": true, "pid": float64(os.Getpid()), "boot_id": clock.BootID(), "version": "1.2.3",
		"stopped": nil, "state": "online", "cause": nil, "event": "online", "remedy": nil, "next": nil,
		"cloud.endpoint": "endpoint", "cloud.port": 8883.0, "cloud.alpn": nil, "cloud.proxy": "http://gw@proxy:3128",
		"cloud.tls_version": "1.2", "cloud.receive_maximum": 100.0, "clock.ok": true, "local.state": "off",
	} {
		if flat[key] != want {
			t.Errorf("%s: %v; want %v", key, flat[key], want)
		}
	}
}

func flatten(v map[string]any, prefix string, into map[string]any) {
	for k, sub := range v {
		into[prefix+k] = sub
		if m, ok := sub.(map[string]any); ok {
			flatten(m, prefix+k+".", into)
		}
	}
}

// < and > stay as they are: people read this too.
func TestEncode(t *testing.T) {
	var out bytes.Buffer
	if err := (Status{Message: text("a <b> & c")}).Encode(&out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), `"a <b> & c"`) || !strings.Contains(out.String(), "\n  \"schema\"") {
		t.Errorf("%s", out.String())
	}
}

// put writes a status as another process would have.
func put(t *testing.T, s Status) (dir string) {
	t.Helper()
	dir = t.TempDir()
	var data bytes.Buffer
	if err := s.Encode(&data); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, StatusFile), data.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// running is the status of process pid, written age ago.
func running(pid int, age time.Duration) Status {
	return Status{
		Schema: Schema, Running: true, WrittenBootMS: new((clock.Boot() - age).Milliseconds()),
		PID: &pid, PIDStart: text(processStart(pid)), BootID: text(clock.BootID()),
		State: text("connecting"), StateForMS: new(int64(1000)), Cloud: Cloud{SessionForMS: new(int64(500))},
		Next: &Next{Action: "connect", InMS: 90_000}, Overrides: []Override{},
	}
}

func TestReadStatusOfOneThatRuns(t *testing.T) {
	s, err := ReadStatus(put(t, running(os.Getpid(), time.Minute)))
	if err != nil {
		t.Fatal(err)
	}
	if !s.Running || s.Stopped != nil {
		t.Errorf("running %v, stopped %v", s.Running, s.Stopped)
	}
	about := func(name string, got, want int64) {
		if got < want || got > want+5000 {
			t.Errorf("%s is %d ms; want some %d", name, got, want)
		}
	}
	about("state_for_ms", *s.StateForMS, 61_000)
	about("session_for_ms", *s.Cloud.SessionForMS, 60_500)
	if s.Next == nil || s.Next.InMS > 30_000 || s.Next.InMS < 25_000 {
		t.Errorf("next %+v; want it in some 30 s", s.Next)
	}
	if s, err = ReadStatus(put(t, running(os.Getpid(), time.Hour))); err != nil || s.Next.InMS != 0 {
		t.Errorf("long due: %+v, %v; want 0", s.Next, err)
	}
}

func TestReadStatusOfOneThatDoesNot(t *testing.T) {
	killed := exec.CommandContext(t.Context(), "sleep", "1000")
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	ofKilled := running(killed.Process.Pid, 0)
	before, err := ReadStatus(put(t, ofKilled))
	if err != nil || !before.Running {
		t.Fatalf("while it ran: %+v, %v", before, err)
	}
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = killed.Wait() // its answer is the signal

	otherBoot, recycled, stopped, old := running(os.Getpid(), 0), running(os.Getpid(), 0), running(os.Getpid(), 0), running(os.Getpid(), 0)
	otherBoot.BootID = text("00000000-0000-4000-8000-000000000000")
	recycled.PIDStart = text("1")
	stopped.Stopped = &Stop{Reason: "signal"}
	old.PIDStart = nil

	for name, c := range map[string]struct {
		status Status
		reason string
	}{
		"killed":                       {ofKilled, "unknown"},
		"another boot":                 {otherBoot, "unknown"},
		"the pid is another process's": {recycled, "unknown"},
		"stopped":                      {stopped, "signal"},
		"no start time":                {old, "unknown"},
	} {
		s, err := ReadStatus(put(t, c.status))
		if err != nil {
			t.Fatal(err)
		}
		if s.Running || s.Stopped == nil || s.Stopped.Reason != c.reason || s.Next != nil {
			t.Errorf("%s: running %v, stopped %+v, next %v; want reason %s", name, s.Running, s.Stopped, s.Next, c.reason)
		}
		if *s.StateForMS != 1000 {
			t.Errorf("%s: the state lasts %d ms; want 1000, it ended with the process", name, *s.StateForMS)
		}
	}
}

func TestReadStatusErrors(t *testing.T) {
	s, err := ReadStatus(filepath.Join(t.TempDir(), "none"))
	if err != nil || s.Running || s.State != nil || s.Stopped != nil || s.Schema != Schema {
		t.Errorf("never started: %+v, %v", s, err)
	}
	for name, content := range map[string]string{
		"is damaged": "{", "schema 2": `{"schema":2,"running":true}`,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, StatusFile), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadStatus(dir); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v", name, err)
		}
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, StatusFile), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadStatus(dir); err == nil {
		t.Error("one that cannot be read: no error")
	}
}

// What a report writes, a reader understands.
func TestReadStatusOfReport(t *testing.T) {
	r, _ := newReport(t, nil)
	s := newScript(t, r)
	s.fail(jitr.PendingActivation, jitr.Pending, jitr.PhaseConnack, io.EOF, time.Second, time.Minute)
	got, err := ReadStatus(r.cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Running || *got.State != "pending-activation" || *got.Cause != "pending" || got.Next.InMS < 50_000 || got.Next.InMS > 60_000 {
		t.Errorf("%+v", got)
	}
}

func TestProcessStart(t *testing.T) {
	own := processStart(os.Getpid())
	if own == "" || own != processStart(os.Getpid()) {
		t.Errorf("%q, and then %q", own, processStart(os.Getpid()))
	}
	if other := processStart(1); other == own {
		t.Error("process 1 started when this one did")
	}
	if got := processStart(1 << 30); got != "" {
		t.Errorf("%q for no process", got)
	}
}
