package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// A person's console has whole sentences, and no fields but at debug level.
func TestConsole(t *testing.T) {
	t.Setenv("JOURNAL_STREAM", "")
	for _, format := range []string{"console", "auto"} {
		var out bytes.Buffer
		level := zap.NewAtomicLevelAt(zap.InfoLevel)
		log := NewLog(format, level, &out).With(zap.String("with", "x")).Named("name")
		log.Info("It works", zap.String("event", "online"))
		log.Warn("It does not", zap.String("event", "dns"))
		log.Debug("not yet")
		level.SetLevel(zap.DebugLevel)
		log.Debug("and now", zap.Int("number", 7))
		got := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		want := []string{`^\d\d:\d\d:\d\d  info   It works$`, `^\d\d:\d\d:\d\d  warn   It does not$`, `^\d\d:\d\d:\d\d  debug  and now  \{"number": 7\}$`}
		if len(got) != len(want) {
			t.Fatalf("%s: %q", format, got)
		}
		for i, pattern := range want {
			if !regexp.MustCompile(pattern).MatchString(got[i]) {
				t.Errorf("%s: %q; want %s", format, got[i], pattern)
			}
		}
	}
}

func TestJSON(t *testing.T) {
	var out bytes.Buffer
	NewLog("json", zap.NewAtomicLevelAt(zap.InfoLevel), &out).Warn("It rains", zap.String("event", "dns"), zap.Duration("took", time.Second))
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if at, err := time.Parse(timeFormat, fmt.Sprint(got["time"])); err != nil || time.Since(at).Abs() > time.Hour*24 {
		t.Errorf("time %v", got["time"])
	}
	delete(got, "time")
	want := map[string]any{"level": "warn", "message": "It rains", "event": "dns", "took": "1s"}
	if !maps.Equal(got, want) {
		t.Errorf("%v; want %v", got, want)
	}
}

func TestJournalVariables(t *testing.T) {
	core := zapcore.Core(&journalCore{LevelEnabler: zap.InfoLevel})
	with := core.With([]zapcore.Field{zap.String("state", "online")}).(*journalCore)
	got := with.variables([]zapcore.Field{
		zap.String(messageIDKey, "6fd25e29e7354dc0bfcf413b2a39176e"), zap.String("event", "online"),
		zap.Int("attempt", 7), zap.Int64("next_retry_ms", 1200), zap.String("ca_certificate_id", "aa"),
	})
	want := map[string]string{
		"SYSLOG_IDENTIFIER": "jitr-agent", "MESSAGE_ID": "6fd25e29e7354dc0bfcf413b2a39176e",
		"JITR_STATE": "online", "JITR_EVENT": "online", "JITR_ATTEMPT": "7", "JITR_NEXT_RETRY_MS": "1200",
		"JITR_CA_CERTIFICATE_ID": "aa",
	}
	if !maps.Equal(got, want) {
		t.Errorf("%v; want %v", got, want)
	}
	if plain := core.(*journalCore).variables(nil); len(plain) != 1 {
		t.Errorf("With changed the core that it was called on: %v", plain)
	}
}

// Without a journald nothing is lost: stderr gets the line, with the priority
// as systemd reads it.
func TestJournalFallback(t *testing.T) {
	if journal.Enabled() {
		t.Skip("a journald runs here, and would get the lines")
	}
	var out bytes.Buffer
	log := NewLog("journal", zap.NewAtomicLevelAt(zap.InfoLevel), &out)
	log.Debug("no")
	log.Info("It works", zap.String("event", "online"))
	log.Error("It is lost")
	if got, want := out.String(), "<6>It works\n<3>It is lost\n"; got != want {
		t.Errorf("%q; want %q", got, want)
	}
}

func TestPriority(t *testing.T) {
	for l, want := range map[zapcore.Level]journal.Priority{
		zap.DebugLevel: journal.PriDebug, zap.InfoLevel: journal.PriInfo, zap.WarnLevel: journal.PriWarning,
		zap.ErrorLevel: journal.PriErr, zap.PanicLevel: journal.PriErr,
	} {
		if got := priority(l); got != want {
			t.Errorf("%v: %v; want %v", l, got, want)
		}
	}
}

// Only the stderr that systemd itself connected is the journal.
func TestUnderJournal(t *testing.T) {
	var st syscall.Stat_t
	if err := syscall.Fstat(int(os.Stderr.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	for stream, want := range map[string]bool{
		"": false, "1:2": false, fmt.Sprintf("%d:%d", st.Dev, st.Ino): true, fmt.Sprintf("%d:%d", st.Dev, st.Ino+1): false,
	} {
		t.Setenv("JOURNAL_STREAM", stream)
		if got := underJournal(); got != want {
			t.Errorf("JOURNAL_STREAM=%q: %v; want %v", stream, got, want)
		}
	}
}

// A reload can change the format under way.
func TestFormatCanChange(t *testing.T) {
	var out bytes.Buffer
	log := NewLog("console", zap.NewAtomicLevelAt(zap.InfoLevel), &out)
	log.Info("one")
	log.SetFormat("json")
	log.Info("two")
	lines := strings.Split(out.String(), "\n")
	if json.Valid([]byte(lines[0])) || !json.Valid([]byte(lines[1])) {
		t.Errorf("%q; want a sentence, then JSON", lines)
	}
}
