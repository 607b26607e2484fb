// Package buffer holds messages from the moment they are handed in until AWS
// IoT has acknowledged them: one queue, first in, first out, sent again from
// the oldest unacknowledged one on each new connection.
//
// It keeps them in memory, bounded by bytes, so what it holds is lost when the
// process ends. It never loses one silently: each message is acknowledged,
// counted as dropped, or counted as a dead letter.
package buffer

import (
	"errors"
	"slices"
	"sync"
	"time"
)

// ErrFull is Put's answer where the buffer is full and is to refuse new
// messages.
var ErrFull = errors.New("the buffer is full")

// MemoryLimit is how much is held in memory, in bytes of payload and topic:
// two days of the agent's own telemetry at one message a minute, and within
// the 16 MB that the agent may use.
const MemoryLimit = 1 << 20

// Message is what waits to be published, at QoS 1.
type Message struct {
	Topic       string
	Payload     []byte
	ContentType string // "" for none
}

// Config is what a Buffer needs. The callbacks are optional; they are called
// without a lock held and must not block.
type Config struct {
	MaxBytes  int64 // at most MemoryLimit is used
	RefuseNew bool  // when full: refuse new messages instead of dropping the oldest
	Rate      int   // messages a second at most, 0: no limit
	// Dropped is told of each message that gave way to a newer one.
	Dropped func()
	// DeadLetter is told of a message that the server will never take, and why.
	DeadLetter func(m Message, code byte)
}

// entry is a message in the queue.
type entry struct {
	message Message
	at      time.Time
	sent    bool // on the present connection, and not yet acknowledged
	done    bool // acknowledged, dropped or dead: to be taken out
}

func (e *entry) size() int64 { return int64(len(e.message.Payload) + len(e.message.Topic)) }

// Buffer is the queue. It is safe for concurrent use, but Drain runs once at a
// time.
type Buffer struct {
	mu      sync.Mutex
	cfg     Config
	queue   []*entry // oldest first
	again   []*entry // refused for now, to be sent once more
	bytes   int64
	acked   int64
	paused  time.Time     // nothing is sent before
	changed chan struct{} // a token: there may be something to send
	pause   pause
}

// New makes an empty buffer.
func New(cfg Config) *Buffer {
	return &Buffer{cfg: cfg, changed: make(chan struct{}, 1)}
}

// Put hands a message in. It never waits. The only error is ErrFull, and then
// the message was not taken.
func (b *Buffer) Put(m Message) error {
	e := &entry{message: m, at: time.Now()}
	b.mu.Lock()
	limit := min(b.cfg.MaxBytes, MemoryLimit)
	dropped := 0
	for b.bytes+e.size() > limit {
		i := slices.IndexFunc(b.queue, func(old *entry) bool { return !old.sent && !old.done })
		if b.cfg.RefuseNew || i < 0 {
			b.mu.Unlock()
			return ErrFull
		}
		b.remove(b.queue[i])
		dropped++
	}
	b.queue = append(b.queue, e)
	b.bytes += e.size()
	tell := b.cfg.Dropped
	b.mu.Unlock()
	for range dropped {
		if tell != nil {
			tell()
		}
	}
	b.notify()
	return nil
}

// remove takes e out; the lock is held.
func (b *Buffer) remove(e *entry) {
	if e.done {
		return
	}
	e.done = true
	b.bytes -= e.size()
	b.again = slices.DeleteFunc(b.again, func(a *entry) bool { return a == e })
	b.queue = slices.DeleteFunc(b.queue, func(q *entry) bool { return q == e })
}

func (b *Buffer) notify() {
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

// SetLimits changes size and rate while the buffer is used.
func (b *Buffer) SetLimits(maxBytes int64, refuseNew bool, rate int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cfg.MaxBytes, b.cfg.RefuseNew, b.cfg.Rate = maxBytes, refuseNew, rate
}

// Stats is how the buffer stands.
type Stats struct {
	Messages  int64
	Bytes     int64
	MaxBytes  int64
	InFlight  int64
	Acked     int64     // since the start
	Oldest    time.Time // when the oldest message was handed in, zero for none
	PausedFor time.Duration
	Full      bool
}

// Stats reads the counts.
func (b *Buffer) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := Stats{
		Messages: int64(len(b.queue)), Bytes: b.bytes, MaxBytes: min(b.cfg.MaxBytes, MemoryLimit), Acked: b.acked,
		PausedFor: max(0, time.Until(b.paused)),
	}
	for _, e := range b.queue {
		if e.sent {
			s.InFlight++
		}
	}
	if len(b.queue) > 0 {
		s.Oldest = b.queue[0].at
		s.Full = s.MaxBytes-b.bytes < b.queue[0].size()
	}
	return s
}
