// Package buffer is the promise on messages: one that was acknowledged to its
// producer is in the cloud or on the disk, and is delivered at least once, or
// counted in a gap record, or kept as a dead letter.
//
// # When a message is safe
//
// Put takes a message into memory. It is safe with the server's PUBACK or with
// the fsync of the segment log, whichever comes first, and only then its
// producer is told. While the link works and PUBACKs come in time nothing is
// written. A message goes to the disk when its PUBACK is late, when there are
// stored messages before it, when the link is down, and at the end.
//
// # When a message is lost
//
//   - It was not acknowledged: the process was killed, or the power cut, while
//     it was in memory only. Its producer was told nothing.
//   - It is dropped because the log is full, too old, expired or damaged. That is
//     counted in a gap record, which is on the disk before the message is given
//     up, and goes to the gap topic until the server has it. A kill between the
//     two counts the messages of one segment again: too many, never too few.
//   - The server refuses it for good. It is kept among the dead letters, of
//     which the oldest give way when there are too many.
//
// # Order
//
// One queue, first in, first out, over memory and disk. On a new connection it
// begins with the oldest that is not acknowledged, so what was in flight comes
// twice. Only a message that the server refused for now (PUBACK 0x97) is
// overtaken by those that were on their way already.
package buffer

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"sync"
	"time"

	"github.com/jitr-agent/jitr-agent/pkg/buffer/seglog"
)

const (
	// MemoryLimit is how much is held in memory, in bytes of all fields: at the
	// 512 KiB/s that AWS IoT takes on one connection that is 2 s, the default of
	// spill_after, and it is within the 16 MB that the agent may use.
	MemoryLimit = 1 << 20
	// MaxMessage is the longest message, in bytes of all fields: the 128 KiB of
	// payload that AWS IoT takes, and as much as is reasonable beside it. It
	// fits into the smallest segment.
	MaxMessage = 192 << 10
)

// Limits are what may change while the buffer is used.
type Limits struct {
	MaxSize    int64         // bytes on the disk
	KeepFree   int64         // bytes that stay free on the file system
	MaxAge     time.Duration // older messages are not sent any more; 0: no limit
	SpillAfter time.Duration // a message whose PUBACK is later goes to the disk
	RefuseNew  bool          // when full: refuse new messages instead of dropping the oldest
	Rate       int           // messages a second at most; 0: no limit
}

// Config is what a Buffer needs. The callbacks are optional; they are called
// without a lock held, from several goroutines, and must not call the buffer
// back.
type Config struct {
	Dir      string // of the log; made when it is needed
	Limits   Limits
	Clock    Clock
	GapTopic func() string
	// Lost is told of each message that was dropped and counted: how many, why,
	// and how many gap records are new with it.
	Lost func(messages uint64, why Why, records int)
	// DeadLetter is told of a message that the server will never take, when it
	// is kept, and of its PUBACK's reason code.
	DeadLetter func(m Message, code byte)
	// GapRefused is told that the server refused a gap record, which is tried
	// again on the next connection.
	GapRefused func(topic string, code byte)
	// Changed is told how the buffer stands when that has changed; err is why
	// it is not OK.
	Changed func(s State, err error)
	// SetAside is told of a file that cannot be used and was renamed.
	SetAside func(err error)
}

// entry is a message in memory, or a range of stored ones that are to be
// dropped.
type entry struct {
	message Message
	size    int64
	at      time.Time // when it was handed in, for one that was not stored
	stamp   stamp     // complete for one that was read from the log, else stream and seq
	done    func(error)
	log     uint64 // sequence number in the log, 0 for "in memory only"
	to      uint64 // the last one, where it stands for a range
	sent    bool   // in flight, on the present connection
	settled bool   // nothing more is to be done for it
	pending bool   // waits for a gap record or a dead letter to be written
	taken   bool   // and that is under way
	gap     Gap    // of one to be dropped
	code    byte   // of one to be a dead letter
}

// Buffer is the queue. It is safe for concurrent use. Run is to be called once,
// and Drain by one goroutine at a time.
type Buffer struct {
	cfg     Config
	stream  uint64
	opened  chan struct{} // closed when the log is open, or cannot be opened
	changed chan struct{} // a token: there may be something to send
	commit  chan struct{} // a token: there may be something to write

	mu     sync.Mutex
	limits Limits
	seq    uint64
	closed bool
	online bool          // Drain is at work
	room   chan struct{} // closed when there may be room, nil while nobody waits

	// The queue: what is in flight, then what is on the disk from readNext up to
	// logNext, then what is in memory. What was not stored is always behind
	// what was.
	flight      fifo[*entry]
	mixed       bool // flight is not in the order of the log, or reaches beyond readNext
	queue       fifo[*entry]
	memory      int64  // bytes in flight and queue
	inFlight    int64  // bytes in flight
	readNext    uint64 // in the log: the next one to send
	logNext     uint64 // in the log: the next one to be written
	generation  int    // of readNext: it was moved by another than the reader
	connection  int    // counts Drains
	again       []*entry
	paused      time.Time // nothing is sent before
	pause       patience
	acked       int64
	oldest      time.Time // when the oldest stored message was handed in, if known
	wakeAt      time.Time // when the committing goroutine looks again by itself
	gaps        []*gapEntry
	gapsBusy    bool // they are being written
	gapsDirty   bool // a gap record was delivered, which the file does not know
	drops       []*entry
	dead        []*entry
	pendingFrom time.Time // since when drops, dead or gapsDirty wait
	refusing    uint64    // when full and refusing: until all up to here is acknowledged
	over        State     // StateFull or StateDiskFull while messages give way to newer ones, else ""
	overErr     error     // what the disk lacks, for StateDiskFull
	lookAt      time.Time // when that is looked at again
	beyond      []span    // in the log: settled behind some that are not, not to be sent again
	sifting     bool      // the oldest are being looked at, so that nobody else may drop them
	ackedTo     uint64    // in the log: all up to here is acknowledged
	unflushed   int       // acknowledgements that the log may forget in a crash
	ackedAt     time.Time
	state       State // as last told
	writable    bool  // the last write succeeded

	log  *seglog.Log // nil until it is open, which may fail
	disk disk        // of the committing goroutine
	fs   seglog.FS   // of tests; nil is the machine's
}

// New makes a buffer; Run brings it to life. What is put before is held in
// memory.
func New(cfg Config) *Buffer {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	return &Buffer{
		cfg: cfg, limits: cfg.Limits, stream: binary.BigEndian.Uint64(id[:]),
		opened: make(chan struct{}), changed: make(chan struct{}, 1), commit: make(chan struct{}, 1),
	}
}

// Put hands m in. It waits while there is no room in memory but room can
// come.
//
// done, which may be nil, is called once and must not block: with nil when m is
// safe, else with the reason why it is not: ErrFull, ErrClosed, or *Refused
// for one that the server will not take. An error of Put itself is ErrFull,
// ErrTooLarge, ErrClosed or the context's; m was not taken then, and done is
// not called.
//
// The slices of m are kept and must not be changed any more.
func (b *Buffer) Put(ctx context.Context, m Message, done func(error)) error {
	size := m.size()
	if size > MaxMessage {
		return ErrTooLarge
	}
	b.mu.Lock()
	for {
		switch {
		case b.closed:
			b.mu.Unlock()
			return ErrClosed
		case b.refusing > 0:
			b.mu.Unlock()
			return ErrFull
		}
		if b.memory+size <= MemoryLimit {
			break
		}
		if !b.roomCanCome() {
			b.mu.Unlock()
			return ErrFull
		}
		if b.room == nil {
			b.room = make(chan struct{})
		}
		room := b.room
		b.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
		b.mu.Lock()
	}
	b.seq++
	e := &entry{message: m, size: size, at: time.Now(), stamp: stamp{stream: b.stream, seq: b.seq}, done: done}
	b.queue.push(e)
	b.memory += size
	write := b.wakeAt.IsZero() || b.due(e).Before(b.wakeAt)
	b.mu.Unlock()
	wake(b.changed)
	if write {
		wake(b.commit)
	}
	return nil
}

// roomCanCome says whether waiting for room in memory makes sense; the lock is
// held.
func (b *Buffer) roomCanCome() bool {
	select {
	case <-b.opened:
	default:
		return true
	}
	return b.online || b.writable
}

// makeRoom tells those who wait; the lock is held.
func (b *Buffer) makeRoom() {
	if b.room != nil {
		close(b.room)
		b.room = nil
	}
}

// SetLimits changes the limits while the buffer is used.
func (b *Buffer) SetLimits(l Limits) {
	b.mu.Lock()
	b.limits, b.refusing = l, 0
	if b.log != nil {
		b.log.SetLimits(l.MaxSize, l.KeepFree)
	}
	b.makeRoom()
	b.mu.Unlock()
	wake(b.changed)
	wake(b.commit)
}

func wake(token chan struct{}) {
	select {
	case token <- struct{}{}:
	default:
	}
}
