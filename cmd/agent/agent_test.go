package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/jitr-agent/jitr-agent/internal/clock"
	"github.com/jitr-agent/jitr-agent/internal/report"
	"github.com/jitr-agent/jitr-agent/internal/settings"
	"github.com/jitr-agent/jitr-agent/pkg/buffer"
)

// All that is lost counts; the lines get rarer.
func TestLosses(t *testing.T) {
	b := newBench(t, "")
	for range 9 {
		b.losses.lost(1, buffer.Full, 0)
	}
	ids, sentences := b.events()
	if want := slices.Repeat([]string{"messages-dropped"}, 4); !slices.Equal(ids, want) {
		t.Fatalf("%v; want %v, for 1, 2, 4 and 8 messages", ids, want)
	}
	if !strings.Contains(sentences[3], "8") {
		t.Errorf("%q; want 8 in it", sentences[3])
	}

	for range 3 {
		b.losses.deadLetter(buffer.Message{Topic: "dt/a"}, 0x87)
		b.losses.deadLetter(buffer.Message{Topic: "dt/b"}, 0x90)
	}
	ids, sentences = b.events()
	if want := []string{"message-refused", "message-refused"}; !slices.Equal(ids, want) {
		t.Fatalf("%v; want %v, one for each topic", ids, want)
	}
	if !strings.Contains(sentences[0], "dt/a: not authorized") || !strings.Contains(sentences[1], "dt/b: topic name invalid") {
		t.Errorf("%q", sentences)
	}
	b.losses.gapRefused("dt/a/gap", 0x87)
	b.losses.lost(5, buffer.Aged, 2)
	ids, sentences = b.events()
	if want := []string{"gap-refused", "messages-dropped"}; !slices.Equal(ids, want) || !strings.Contains(sentences[1], "5 messages: older than") {
		t.Fatalf("%v %q; want %v", ids, sentences, want)
	}
	if known := b.store.Get(); known.Dropped != 14 || known.DeadLetters != 6 || known.Gaps != 2 {
		t.Errorf("%d dropped, %d dead letters, %d gaps; want 14, 6 and 2", known.Dropped, known.DeadLetters, known.Gaps)
	}
}

// A run that follows another one keeps the second between two CONNECTs, and
// never waits longer than that, whatever the wall clock did meanwhile.
func TestEarliestDial(t *testing.T) {
	boot := clock.Boot()
	dialled := func(ago time.Duration, bootID string) report.Status {
		return report.Status{Schema: report.Schema, BootID: &bootID, DialledBootMS: new((boot - ago).Milliseconds())}
	}
	never := dialled(0, clock.BootID())
	never.DialledBootMS = nil

	for name, c := range map[string]struct {
		status report.Status
		want   time.Duration
	}{
		"300 ms ago":   {dialled(300*time.Millisecond, clock.BootID()), boot + 800*time.Millisecond},
		"an hour ago":  {dialled(time.Hour, clock.BootID()), boot - time.Hour + 1100*time.Millisecond},
		"never":        {never, 0},
		"another boot": {dialled(0, "another"), 0},
	} {
		dir := t.TempDir()
		var data bytes.Buffer
		if err := c.status.Encode(&data); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, report.StatusFile), data.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := earliestDial(dir); (got - c.want).Abs() > 2*time.Millisecond { // the file has milliseconds
			t.Errorf("%s: %v; want %v", name, got-boot, c.want-boot)
		}
	}
	if got := earliestDial(t.TempDir()); got != 0 {
		t.Errorf("without a status: %v; want 0", got)
	}
}

func TestLogLevel(t *testing.T) {
	for name, want := range map[string]string{"debug": "debug", "info": "info", "warn": "warn", "error": "error", "": "info"} {
		if got := logLevel(&settings.Settings{Log: settings.Log{Level: name}}); got.String() != want {
			t.Errorf("%q: %v; want %s", name, got, want)
		}
	}
}

// The settings of telemetry decide what is measured.
func TestSources(t *testing.T) {
	for _, names := range [][]string{nil, {"system"}} {
		s := &settings.Settings{Telemetry: settings.Telemetry{Sources: names}}
		if got := sources(s, t.TempDir()); len(got) != len(names) {
			t.Errorf("%v: %d sources", names, len(got))
		}
	}
}

func TestReload(t *testing.T) {
	b := newBench(t, "[cloud]\nendpoint = \"a.example\"\n")
	load := func(toml string) []string {
		t.Helper()
		b.configure(b.opts.config, toml)
		b.reload()
		ids, _ := b.events()
		return ids
	}

	// What can change takes effect.
	ids := load("[cloud]\nendpoint = \"a.example\"\npublish_rate = 7\n[log]\nlevel = \"debug\"\n" +
		"[telemetry]\ntopic = \"t/{source}\"\ninterval = \"5s\"\n[buffer]\nmax_size = \"1MiB\"\nwhen_full = \"refuse-new\"\n")
	if want := []string{"configuration-reloaded"}; !slices.Equal(ids, want) {
		t.Errorf("%v; want %v", ids, want)
	}
	s := b.settings.Load()
	if b.level.Level() != zap.DebugLevel || b.telemetry.Interval() != 5*time.Second || s.Telemetry.Topic != "t/{source}" ||
		s.Cloud.PublishRate != 7 || b.buffer.Stats().MaxBytes != 1<<20 {
		t.Errorf("level %v, interval %v, topic %s, rate %d, buffer of %d bytes", b.level.Level(), b.telemetry.Interval(),
			s.Telemetry.Topic, s.Cloud.PublishRate, b.buffer.Stats().MaxBytes)
	}

	// What cannot is named, once for all keys, and keeps its value.
	b.configure(b.opts.config, "[cloud]\nendpoint = \"b.example\"\nkeep_alive = \"90s\"\n[shadow]\nenabled = false\n")
	b.reload()
	ids, sentences := b.events()
	if want := []string{"configuration-reloaded", "restart-to-apply"}; !slices.Equal(ids, want) {
		t.Fatalf("%v; want %v", ids, want)
	}
	if !strings.Contains(sentences[1], "cloud.endpoint, cloud.keep_alive, shadow.enabled;") {
		t.Errorf("%q", sentences[1])
	}
	if s := b.settings.Load(); b.endpoint.Load().Host != "a.example" || s.Cloud.Endpoint != "a.example" || !s.Shadow.Enabled ||
		time.Duration(s.Cloud.KeepAlive) != time.Minute || b.level.Level() != zap.InfoLevel {
		t.Errorf("endpoint %s, settings %+v", b.endpoint.Load().Host, s)
	}

	// A wrong file changes nothing, and all that is wrong is in one line.
	before := b.settings.Load()
	b.configure(b.opts.config, "[log]\nlevel = \"loud\"\n[cloud]\nkeep_alive = \"1s\"\n")
	b.reload()
	ids, sentences = b.events()
	if want := []string{"configuration-invalid"}; !slices.Equal(ids, want) {
		t.Fatalf("%v; want %v", ids, want)
	}
	if strings.Contains(sentences[0], "\n") || !strings.Contains(sentences[0], "log.level") || !strings.Contains(sentences[0], "cloud.keep_alive") {
		t.Errorf("%q", sentences[0])
	}
	if ids := load("[cloud]\nserver_ca = \"/no/such/file\"\n"); !slices.Equal(ids, []string{"configuration-invalid"}) {
		t.Errorf("roots that cannot be read: %v", ids)
	}
	if b.settings.Load() != before {
		t.Error("a wrong file changed the settings")
	}
}

// The first endpoint takes effect, with all that belongs to it; others do not.
func TestReloadFirstEndpoint(t *testing.T) {
	b := newBench(t, "")
	if b.endpoint.Load().Host != "" {
		t.Fatalf("endpoint %q", b.endpoint.Load().Host)
	}
	b.configure(b.opts.config, "[cloud]\nendpoint = \"a.example:8884\"\ntls_max = \"1.3\"\nproxy = \"http://gw:geheim@proxy:3128\"\n")
	b.reload()
	ids, sentences := b.events()
	if want := []string{"configuration-reloaded"}; !slices.Equal(ids, want) {
		t.Errorf("%v; want %v", ids, want)
	}
	if strings.Contains(strings.Join(sentences, ""), "geheim") {
		t.Errorf("the password is in %q", sentences)
	}
	e := b.endpoint.Load()
	if e.Host != "a.example" || e.Port != 8884 || e.Proxy.Hostname() != "proxy" || b.settings.Load().Cloud.Endpoint == "" {
		t.Errorf("%+v", e)
	}
}

// Everything that status asks of the agent's parts is there before the first
// connect too.
func TestFillStatus(t *testing.T) {
	b := newBench(t, "")
	var s report.Status
	b.fillStatus(&s)
	if *s.Buffer.State != "ok" || *s.Buffer.Messages != 0 || s.Buffer.OldestAt != nil || *s.Counters.Acked != 0 ||
		*s.Counters.TPMCommands != 0 || *s.Shadow.State != "stale" || s.Identity.Next != nil {
		t.Errorf("%+v", s)
	}
	off := newBench(t, "[shadow]\nenabled = false\n[buffer]\nmax_size = \"1MiB\"\n[local]\nsocket = \"\"\n")
	if err := off.buffer.Put(t.Context(), buffer.Message{Payload: make([]byte, 100<<10)}, nil); err != nil {
		t.Fatal(err)
	}
	off.fillStatus(&s)
	if *s.Shadow.State != "off" || *s.Buffer.State != "ok" || *s.Buffer.Messages != 1 || *s.Buffer.MemoryMessages != 1 ||
		*s.Buffer.Bytes < 100<<10 || *s.Buffer.MaxBytes != 1<<20 || s.Buffer.OldestAt == nil || *s.Local.State != "off" || s.Local.Socket != nil {
		t.Errorf("shadow %s, buffer %+v, local %+v", *s.Shadow.State, s.Buffer, s.Local)
	}
	if err := os.WriteFile(filepath.Join(b.dir, "next.crt"), []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b.fillStatus(&s); s.Identity.Next != nil {
		t.Errorf("a damaged next.crt: %+v", s.Identity.Next)
	}
}
