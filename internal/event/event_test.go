package event

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/jitr-agent/jitr-agent/pkg/jitr"
)

// causes reads all causes from the source of package jitr, so that none that is
// added there can be forgotten here.
func causes(t *testing.T) (all []jitr.Cause) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../../pkg/jitr/state.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Cause" {
			value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, jitr.Cause(value))
		}
		return true
	})
	if !slices.Contains(all, jitr.Pending) || !slices.Contains(all, jitr.TPMFailing) {
		t.Fatalf("these are not the causes: %v", all)
	}
	return all
}

// fields are all that a sentence may have.
var fields = Fields{
	CertificateID: "aa11", CACertificate: "bb22", Thing: "gw-1", Endpoint: "endpoint:8883", Why: "it rains",
	Attempt: "7", For: "2 min 3 s", Next: "in 12 s (14:02:10)", Object: "/var/lib/jitr-agent", Value: "42", Version: "1.2.3",
}

// Those without a cause that stand for a state by themselves.
func TestStates(t *testing.T) {
	for _, s := range []jitr.State{jitr.Starting, jitr.WaitingForConfiguration, jitr.Initializing, jitr.Online} {
		if e := ByID(string(s)); e.Level != Info {
			t.Errorf("%s: level %v; want info", s, e.Level)
		}
	}
}

func TestTable(t *testing.T) {
	var (
		kebab  = regexp.MustCompile(`^[a-z]+(-[a-z0-9]+)*$`)
		id128  = regexp.MustCompile(`^[0-9a-f]{32}$`)
		braces = regexp.MustCompile(`[{}]`)
		ids    = map[string]bool{}
		uuids  = map[string]string{}
		// Warnings and errors that leave nothing to do, and why.
		idle = map[string]string{
			"telemetry-failed": "a sensor that comes back by itself; the sentence has the system's own reason",
		}
	)
	for _, e := range All() {
		t.Run(e.ID, func(t *testing.T) {
			if !kebab.MatchString(e.ID) {
				t.Error("the id is not kebab-case")
			}
			if ids[e.ID] {
				t.Error("the id is there twice")
			}
			ids[e.ID] = true
			// systemd-id128 makes UUIDs of version 4, variant 1.
			if !id128.MatchString(e.MessageID) || e.MessageID[12] != '4' || !strings.Contains("89ab", e.MessageID[16:17]) {
				t.Errorf("MESSAGE_ID %q is not made by systemd-id128", e.MessageID)
			}
			if other, ok := uuids[e.MessageID]; ok {
				t.Errorf("MESSAGE_ID of %s", other)
			}
			uuids[e.MessageID] = e.ID

			for name, sentence := range map[string]string{
				"sentence": e.Message(fields), "remedy": e.Todo(fields, 0), "late remedy": e.Todo(fields, e.WarnAfter),
			} {
				if braces.MatchString(sentence) {
					t.Errorf("the %s has an unknown field: %q", name, sentence)
				}
				if strings.HasSuffix(sentence, ".") || strings.Contains(sentence, "\n") || strings.TrimSpace(sentence) != sentence {
					t.Errorf("the %s is not one sentence without its period: %q", name, sentence)
				}
			}
			if first := []rune(e.Sentence)[0]; !unicode.IsUpper(first) && first != '{' &&
				!strings.HasPrefix(e.Sentence, "jitr-agent ") && !strings.HasPrefix(e.Sentence, "device.crt ") && !strings.HasPrefix(e.Sentence, "state.json ") {
				t.Errorf("it begins with %q", first)
			}
			if !strings.HasSuffix(e.Meaning, ".") || braces.MatchString(e.Meaning) {
				t.Errorf("the meaning is not whole sentences: %q", e.Meaning)
			}

			worst := e.LevelAfter(24 * time.Hour)
			todo := e.Todo(fields, 24*time.Hour)
			if _, ok := idle[e.ID]; worst > Info && (todo == "") != ok {
				t.Errorf("%v, and what to do is %q", worst, todo)
			}
			if e.Level != Info && e.WarnAfter != 0 {
				t.Errorf("%v from the start, and a warning after %v", e.Level, e.WarnAfter)
			}
			if e.LateRemedy != "" && e.WarnAfter == 0 {
				t.Error("a late remedy that never comes")
			}
		})
	}
	for id := range idle {
		if !ids[id] {
			t.Errorf("no event %s", id)
		}
	}
}

// How serious each cause is, from when on.
func TestCauses(t *testing.T) {
	type serious struct {
		level Level
		after time.Duration // until it is a warning
	}
	var (
		calm     = serious{Info, 15 * time.Minute}
		patience = serious{Info, 2 * time.Minute}
		warning  = serious{Warning, 0}
		lost     = serious{Error, 0}
	)
	want := map[jitr.Cause]serious{
		jitr.Pending: calm,
		jitr.DNS:     patience, jitr.Network: patience, jitr.Proxy: patience, jitr.ServerClosed: patience,
		jitr.KeepAlive: patience, jitr.Throttled: patience, jitr.ServerBusy: patience,
		jitr.Clock: warning, jitr.NotAuthorized: warning, jitr.ClientCertRefused: warning, jitr.CertExpired: warning,
		jitr.ServerUntrusted: warning, jitr.TLS: warning, jitr.Protocol: warning, jitr.DuplicateClientID: warning,
		jitr.NoKey: warning, jitr.NoCertificate: warning, jitr.KeyMismatch: warning,
		jitr.TPMAbsent: warning, jitr.TPMDenied: warning, jitr.TPMLocked: warning, jitr.TPMFailing: warning,
		jitr.KeyCorrupt: lost, jitr.TPMChanged: lost, // the key is gone
	}
	for _, c := range causes(t) {
		if _, ok := want[c]; !ok {
			t.Errorf("no level is known for %s", c)
		}
		n := 0
		for _, e := range All() {
			if e.ID == string(c) {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%s has %d events; want 1", c, n)
			continue
		}
		e := ForCause(c)
		got := serious{e.Level, e.WarnAfter}
		if got != want[c] {
			t.Errorf("%s: %v, warning after %v; want %v, %v", c, got.level, got.after, want[c].level, want[c].after)
		}
		if e.WarnAfter > 0 && (e.LevelAfter(e.WarnAfter-1) != Info || e.LevelAfter(e.WarnAfter) != Warning) {
			t.Errorf("%s does not become a warning after %v", c, e.WarnAfter)
		}
	}
	for id, level := range map[string]Level{
		"messages-dropped": Error, "message-refused": Error, // lost data
		"state-set-aside": Warning, "state-not-saved": Warning,
		"online": Info, "stopping": Info,
	} {
		if got := ByID(id).LevelAfter(24 * time.Hour); got != level {
			t.Errorf("%s: %v; want %v", id, got, level)
		}
	}
}

// After a quarter of an hour, what only the operator can look at is named.
func TestPendingNamesWhatTheOperatorChecks(t *testing.T) {
	e := ForCause(jitr.Pending)
	if todo := e.Todo(fields, 14*time.Minute); todo != "" {
		t.Errorf("too soon: %q", todo)
	}
	todo := e.Todo(fields, 15*time.Minute)
	for _, word := range []string{"operator", "aa11", "bb22", "ACTIVE", "INACTIVE", "iot:Connect", "account and Region", "auto-registration"} {
		if !strings.Contains(todo, word) {
			t.Errorf("%q is not in %q", word, todo)
		}
	}
}

func TestMessage(t *testing.T) {
	e := Event{Sentence: "{why} at {endpoint}", Remedy: "look at {object}"}
	f := Fields{Why: "{object}", Endpoint: "x", Object: "y"} // what a server says is not a template
	if got := Line(e.Message(f), e.Todo(f, 0)); got != "{object} at x; look at y" {
		t.Errorf("%q", got)
	}
	if got := Line("All is well", ""); got != "All is well" {
		t.Errorf("%q", got)
	}
	defer func() {
		if recover() == nil {
			t.Error("an id that does not exist must not pass")
		}
	}()
	ByID("no-such-event")
}

func TestLevelString(t *testing.T) {
	for l, want := range map[Level]string{Info: "info", Warning: "warning", Error: "error"} {
		if l.String() != want {
			t.Errorf("%s; want %s", l, want)
		}
	}
}
