package causes

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/test/rig"
)

// soon is enough for what needs no waiting in the agent, on a busy machine.
const soon = 20 * time.Second

// gateway is an agent whose certificate is installed.
type gateway struct {
	*rig.Agent
	t             *testing.T
	certificateID string
}

// newGateway enrols an agent for a server. Later settings win.
func newGateway(t *testing.T, settings ...map[string]string) *gateway {
	t.Helper()
	agent := rig.NewAgent(t, settings...)
	enrol(t, agent, issue(t, newAuthority(t, "Device CA"), thing, nil))
	return &gateway{agent, t, rig.CertificateID(t, agent.StateDir+"/device.crt")}
}

// line is an entry of the log.
type line struct {
	At          time.Time `json:"time"`
	Level       string
	Message     string
	Event       string
	State       string
	Cause       string
	Phase       string
	NextRetryMS *int64 `json:"next_retry_ms"`
}

// lines are the entries of the present run.
func (g *gateway) lines() []line {
	g.t.Helper()
	var all []line
	for _, text := range g.Stderr.Lines() {
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			g.t.Fatalf("the log has %q: %v", text, err)
		}
		all = append(all, l)
	}
	return all
}

// await waits for an entry of an event, behind the first skip entries. It
// returns the entry, and how many to skip to look behind it.
func (g *gateway) await(d time.Duration, event string, skip int) (found line, behind int) {
	g.t.Helper()
	rig.Eventually(g.t, d, func() error {
		lines := g.lines()
		var seen []string
		for i := skip; i < len(lines); i++ {
			if lines[i].Event == event {
				found, behind = lines[i], i+1
				return nil
			}
			seen = append(seen, lines[i].Event)
		}
		return fmt.Errorf("no entry of event %s, only %v", event, seen)
	})
	return found, behind
}

// retry makes the agent try now.
func (g *gateway) retry() { g.Signal(syscall.SIGUSR1) }

// text is what a status has at a path, "" for null.
func text(t *testing.T, s rig.Status, path string) string {
	t.Helper()
	value, _ := s.At(t, path).(string)
	return value
}

// wants checks values of a status.
func wants(t *testing.T, s rig.Status, want map[string]any) {
	t.Helper()
	for path, value := range want {
		if got := s.At(t, path); got != value {
			t.Errorf("%s is %v; want %v", path, got, value)
		}
	}
}

// says checks that a sentence holds all words.
func says(t *testing.T, what, sentence string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(sentence, word) {
			t.Errorf("%s does not say %q: %s", what, word, sentence)
		}
	}
}

// with is settings and some more.
func with(settings map[string]string, more ...string) map[string]string {
	all := maps.Clone(settings)
	for i := 0; i < len(more); i += 2 {
		all[more[i]] = more[i+1]
	}
	return all
}
