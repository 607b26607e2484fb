package buffer

import (
	"errors"
	"syscall"
	"time"

	"github.com/jitr-agent/jitr-agent/pkg/buffer/seglog"
)

// State is how the buffer stands. Each heals by itself when its reason has
// gone.
type State string

// The states of contract §6.
const (
	StateOK       State = "ok"
	StateFull     State = "full"      // messages give way to newer ones, or new ones are refused
	StateDiskFull State = "disk-full" // the file system has no space to spare
	StateReadOnly State = "read-only" // the file system takes no writes
	StateDamaged  State = "damaged"   // reading or writing failed
)

// Stats is how the buffer stands.
type Stats struct {
	State    State
	Messages int64 // not acknowledged, on the disk and in memory
	Bytes    int64 // of them, on the disk as it is there
	MaxBytes int64
	Memory   int64     // messages in memory only
	InFlight int64     // messages
	Acked    int64     // since the start
	Oldest   time.Time // when the oldest message was handed in, zero for none or unknown
	// PausedFor is how long nothing is sent, by the server's wish.
	PausedFor time.Duration
}

// Stats reads the counts. It waits for no disk.
func (b *Buffer) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := Stats{
		State: b.state, MaxBytes: b.limits.MaxSize, Acked: b.acked, Oldest: b.oldest,
		PausedFor: max(0, time.Until(b.paused)),
	}
	if s.State == "" {
		s.State = StateOK
	}
	var first time.Time
	b.unstored(func(e *entry) bool {
		if s.Memory == 0 {
			first = e.at
		}
		s.Memory++
		s.Bytes += e.size
		return true
	})
	for i := range b.flight.len() {
		if e := b.flight.at(i); !e.settled && !e.pending {
			s.InFlight++
		}
	}
	s.Messages = s.Memory
	if b.log != nil {
		stored := b.log.Stats()
		s.Messages += int64(stored.Next - stored.Oldest)
		s.Bytes += stored.Bytes
	}
	if s.Messages == s.Memory {
		s.Oldest = first
	}
	return s
}

// tell looks how the disk fares, and says it where that has changed.
func (b *Buffer) tell() {
	b.look()
	b.mu.Lock()
	state, err := b.stateNow()
	b.writable = b.log != nil && b.disk.log.err == nil
	if !b.writable {
		b.makeRoom() // those who wait see whether they still may
	}
	changed := state != b.state && (state != StateOK || b.state != "")
	b.state = state
	b.mu.Unlock()
	if changed && b.cfg.Changed != nil {
		b.cfg.Changed(state, err)
	}
}

// lookAfter is how long a disk that was full is not asked again, where nothing
// has to be written.
const lookAfter = 30 * time.Second

// look sees whether there is room again, where messages had to give way. A log
// that was full has it when it is less than half full: else it would be full and
// not full in turns.
func (b *Buffer) look() {
	b.mu.Lock()
	over := b.over
	b.mu.Unlock()
	if over == "" {
		return
	}
	stored := b.log.Stats()
	var why error
	room := stored.Bytes < stored.MaxSize/2
	if over == StateDiskFull {
		why = b.log.Room()
		room = why == nil || errors.Is(why, seglog.ErrFull) || stored.Messages == 0 // its files are used again
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.overErr, b.lookAt = why, time.Now().Add(lookAfter)
	if room {
		b.over, b.overErr = "", nil
	}
}

// stateNow is how the buffer stands, and why it is not OK; the lock is held.
func (b *Buffer) stateNow() (State, error) {
	if b.log != nil {
		stored := b.log.Stats()
		switch {
		case b.over == StateFull || b.refusing > 0:
			return StateFull, nil
		case b.over == StateDiskFull:
			return StateDiskFull, b.overErr
		case stored.State == seglog.Damaged:
			return StateDamaged, stored.Err
		}
	}
	err := b.disk.log.err
	if err == nil {
		err = b.disk.side.err
	}
	switch {
	case err == nil:
		return StateOK, nil
	case errors.Is(err, seglog.ErrNoSpace), errors.Is(err, seglog.ErrNoInodes), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return StateDiskFull, err
	case errors.Is(err, syscall.EROFS):
		return StateReadOnly, err
	default:
		return StateDamaged, err
	}
}
