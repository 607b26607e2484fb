package main

import (
	"context"
	"sync"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/event"
	"github.com/jitr-agent/jitr-agent/internal/report"
	"github.com/jitr-agent/jitr-agent/internal/state"
	"github.com/jitr-agent/jitr-agent/pkg/buffer"
	"github.com/jitr-agent/jitr-agent/pkg/mqtt"
)

// losses counts what is lost for good, and says it without repeating itself.
type losses struct {
	agent *agent

	mu      sync.Mutex
	drops   map[buffer.Why]int64 // since the start
	sayAt   map[buffer.Why]int64 // the next count that is worth a line
	refused map[string]bool      // topics whose refusal was said
	unsaved bool                 // there are counts that state.json does not have
}

// keepEvery is how often counts are made last: what a kill makes forgotten of
// them is a minute's.
const keepEvery = time.Minute

// keep makes the counts last until ctx ends.
func (l *losses) keep(ctx context.Context) {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			l.save()
		}
	}
}

func (l *losses) save() {
	l.mu.Lock()
	unsaved := l.unsaved
	l.unsaved = false
	l.mu.Unlock()
	if !unsaved {
		return
	}
	if err := l.agent.store.Save(); err != nil {
		l.mu.Lock()
		l.unsaved = true // the next minute tries again
		l.mu.Unlock()
		l.agent.NotSaved(err)
	}
}

// count changes the counts since installation.
func (l *losses) count(change func(*state.File)) {
	l.agent.store.Change(change)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unsaved = true
}

// reasons are the sentences' ends.
var reasons = map[buffer.Why]string{
	buffer.Full:    "the buffer was full",
	buffer.Aged:    "older than buffer.max_age",
	buffer.Expired: "past the expiry that its producer gave it",
	buffer.Damaged: "what was stored cannot be read",
}

func (l *losses) lost(messages uint64, why buffer.Why, records int) {
	l.count(func(f *state.File) {
		f.Dropped += int64(messages)
		f.Gaps += int64(records)
	})
	l.mu.Lock()
	if l.drops == nil {
		l.drops, l.sayAt = map[buffer.Why]int64{}, map[buffer.Why]int64{}
	}
	l.drops[why] += int64(messages)
	drops := l.drops[why]
	say := drops >= max(1, l.sayAt[why])
	if say {
		l.sayAt[why] = 2 * drops
	}
	l.mu.Unlock()
	if say {
		l.agent.report.Emit("messages-dropped", event.Fields{event.Value: report.Count(drops, "message"), event.Why: reasons[why]})
	}
}

func (l *losses) deadLetter(m buffer.Message, code byte) {
	l.count(func(f *state.File) { f.DeadLetters++ })
	l.say("message-refused", m.Topic, code)
}

func (l *losses) gapRefused(topic string, code byte) { l.say("gap-refused", topic, code) }

// maxRefused bounds the topics that are remembered, which come from outside:
// 1000 of 256 bytes are a quarter of a megabyte. Those beyond are not named.
const maxRefused = 1000

// say names each refused topic once.
func (l *losses) say(id, topic string, code byte) {
	l.mu.Lock()
	say := !l.refused[topic] && len(l.refused) < maxRefused
	if say {
		if l.refused == nil {
			l.refused = map[string]bool{}
		}
		l.refused[topic] = true
	}
	l.mu.Unlock()
	if say {
		l.agent.report.Emit(id, event.Fields{event.Object: topic, event.Why: mqtt.CodeName(code)})
	}
}
