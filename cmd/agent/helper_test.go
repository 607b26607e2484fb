package main

import (
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/jitr-agent/jitr-agent/internal/settings"
	"github.com/jitr-agent/jitr-agent/internal/state"
)

// bench is an agent that is wired and does not run.
type bench struct {
	*agent
	t     *testing.T
	dir   string
	lines *observer.ObservedLogs
}

// newBench makes one with this agent.toml.
func newBench(t *testing.T, toml string) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir()}
	o := &options{config: filepath.Join(b.dir, "agent.toml"), stateDir: b.dir}
	b.configure(o.config, toml)
	s, overrides, err := settings.Load(o.config, nil)
	if err != nil {
		t.Fatal(err)
	}
	endpoint, err := endpointOf(s)
	if err != nil {
		t.Fatal(err)
	}
	store, setAside, err := state.Open(filepath.Join(b.dir, "state.json"))
	if err != nil || setAside != nil {
		t.Fatal(err, setAside)
	}
	core, lines := observer.New(zap.InfoLevel)
	b.lines = lines
	b.agent = newAgent(o, s, overrides, endpoint, store, b.dir, zap.New(core), zap.NewAtomicLevelAt(logLevel(s)))
	return b
}

func (b *bench) configure(path, toml string) {
	b.t.Helper()
	if err := os.WriteFile(path, []byte(toml), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// events are those of the new lines, each with its sentence.
func (b *bench) events() (ids, sentences []string) {
	for _, e := range b.lines.TakeAll() {
		id, _ := e.ContextMap()["event"].(string)
		ids, sentences = append(ids, id), append(sentences, e.Message)
	}
	return ids, sentences
}
