package buffer

import (
	"context"
	"slices"
	"time"
)

const (
	// commitAfter is how long messages gather before they are written where a
	// producer waits for it and the link does not help.
	commitAfter = 100 * time.Millisecond
	// idleCommit is the same where nobody waits: our own telemetry, QoS 0. A
	// message a second costs 110 MB of flash a day so, at 1 s it would be 430.
	idleCommit = 10 * time.Second
	// pendAfter is how long gap records and dead letters gather.
	pendAfter = 200 * time.Millisecond
	// flushAfter is how long the log waits for an Append that carries the last
	// acknowledgement along, and flushEvery after how many it does not wait:
	// that many come twice after a power cut, at most.
	flushAfter = 5 * time.Second
	flushEvery = 1000
	// chunk is how many bytes are written at once.
	chunk = 256 << 10
)

// Run keeps the promise until ctx ends: it opens the log, writes what must be
// written, and at the end everything that is still in memory. It is to end
// after Drain and after the last Put.
func (b *Buffer) Run(ctx context.Context) {
	b.open()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			b.finish()
			return
		case <-b.commit:
		case <-timer.C:
		}
		wait := b.work()
		if wait < 0 {
			timer.Stop()
		} else {
			timer.Reset(wait)
		}
	}
}

// work writes what is due, and says how long it is until something else is;
// below 0: nothing is.
func (b *Buffer) work() time.Duration {
	for {
		now := time.Now()
		b.mu.Lock()
		j, at := b.nextJob(now)
		b.wakeAt = at
		b.mu.Unlock()
		if j.do == nil {
			if at.IsZero() {
				return -1
			}
			return max(0, at.Sub(now))
		}
		j.trial.ended(j.do(), now)
		b.tell()
	}
}

// job is something to write, and how that went so far.
type job struct {
	do    func() error
	trial *trial
}

// nextJob is what is due now, or none and when something will be. The lock is
// held.
func (b *Buffer) nextJob(now time.Time) (next job, at time.Time) {
	// ready says that it is time for what is due, and that what it is to be tried
	// on did not fail a moment ago. Else it notes when that will be.
	ready := func(due time.Time, t *trial) bool {
		if t.retryAt.After(due) {
			due = t.retryAt
		}
		if due.After(now) && (at.IsZero() || due.Before(at)) {
			at = due
		}
		return !due.After(now)
	}
	log, side := &b.disk.log, &b.disk.side
	if b.log == nil {
		if ready(now, log) {
			return job{b.reopen, log}, time.Time{}
		}
		return job{}, at
	}
	if !b.pendingFrom.IsZero() && ready(b.pendingFrom.Add(pendAfter), side) {
		return job{b.settlePending, side}, time.Time{}
	}
	if due, any := b.spillDue(); any && ready(due, log) {
		return job{b.spill, log}, time.Time{}
	}
	if b.unflushed > 0 {
		due := b.ackedAt.Add(flushAfter)
		if b.unflushed >= flushEvery {
			due = now
		}
		if ready(due, log) {
			return job{b.flush, log}, time.Time{}
		}
	}
	if log.err != nil && ready(now, log) {
		return job{b.log.Probe, log}, time.Time{}
	}
	if b.over == StateDiskFull && ready(b.lookAt, log) {
		return job{func() error { return log.err }, log}, time.Time{} // who calls it looks
	}
	return job{}, at
}

// direct says that messages go to the cloud without a stop on the disk: the
// link is there, and nothing stored comes first. The lock is held.
func (b *Buffer) direct() bool { return b.online && b.readNext == b.logNext }

// due is when e goes to the disk if it is not settled before; the lock is held.
func (b *Buffer) due(e *entry) time.Time {
	wait := commitAfter
	switch {
	case b.direct():
		wait = b.limits.SpillAfter
	case b.memory > MemoryLimit/2:
		return e.at
	}
	if e.done == nil {
		wait = max(wait, idleCommit)
	}
	return e.at.Add(wait)
}

// unstored calls f for each message that is in memory only, oldest first, until
// f says false. The lock is held.
func (b *Buffer) unstored(f func(*entry) bool) {
	for _, list := range []*fifo[*entry]{&b.flight, &b.queue} {
		for i := range list.len() {
			if e := list.at(i); e.log == 0 && !e.settled && !e.pending && !f(e) {
				return
			}
		}
	}
}

// spillDue is when the first message must go to the disk. Within each kind,
// awaited and not, the oldest is due first. The lock is held.
func (b *Buffer) spillDue() (at time.Time, any bool) {
	b.unstored(func(e *entry) bool {
		if due := b.due(e); !any || due.Before(at) {
			at, any = due, true
		}
		return e.done == nil // the first awaited one ends the search
	})
	return at, any
}

// toSpill is what goes to the disk now: all that is in memory, but on a link
// that works only what is late. It is a prefix, so that the log has the order
// of the queue. The lock is held.
func (b *Buffer) toSpill(now time.Time) []*entry {
	var all []*entry
	late, bytes := 0, int64(0)
	b.unstored(func(e *entry) bool {
		all = append(all, e)
		bytes += e.size
		if !b.due(e).After(now) {
			late = len(all)
		}
		return bytes < chunk || late == 0 && b.direct()
	})
	if b.direct() {
		return all[:late]
	}
	return all
}

// spill makes messages safe on the disk.
func (b *Buffer) spill() error {
	now := b.cfg.Clock.now()
	b.mu.Lock()
	batch := b.toSpill(now.mono)
	records := b.disk.encode(batch, now)
	b.mu.Unlock()
	if len(batch) == 0 {
		return nil
	}
	first, n, err := b.log.Append(records...)
	var told []func(error)
	b.mu.Lock()
	for i, e := range batch[:n] {
		e.log = first + uint64(i)
		if e.done != nil {
			told = append(told, e.done)
			e.done = nil
		}
	}
	b.logNext = max(b.logNext, first+uint64(n))
	b.unflushed = 0
	b.stored(batch[:n])
	b.mu.Unlock()
	for _, done := range told {
		done(nil)
	}
	if n > 0 {
		wake(b.changed)
	}
	if err == nil {
		return nil
	}
	return b.overflow(err)
}

// stored puts a batch in its place behind what was stored before: what is in
// flight stays there, the rest is read from the disk when its turn comes. The
// lock is held.
func (b *Buffer) stored(batch []*entry) {
	for _, e := range batch {
		// Not over what came to lie between: the link was cut meanwhile, or the
		// log was opened late.
		if !e.sent && !e.settled || e.log != b.readNext {
			b.mixed = true
			break
		}
		b.readNext = e.log + 1
		b.generation++
	}
	for _, e := range batch {
		if e.settled {
			b.remember(e)
		}
	}
	for b.queue.len() > 0 {
		e := b.queue.at(0)
		if e.log == 0 && !e.settled {
			break
		}
		b.queue.pop()
		if !e.settled {
			b.memory -= e.size
			if b.oldest.IsZero() {
				b.oldest = e.stamp.wall()
			}
		}
	}
	b.advance()
	b.makeRoom()
}

// flush makes the last acknowledgement last.
func (b *Buffer) flush() error {
	b.mu.Lock()
	b.unflushed = 0
	b.mu.Unlock()
	return b.log.Flush()
}

// finish writes everything and closes the log. Nobody puts or drains any more.
func (b *Buffer) finish() {
	b.mu.Lock()
	b.closed = true
	b.makeRoom()
	b.mu.Unlock()
	if b.log != nil {
		for b.left() > 0 && b.spill() == nil {
		}
		_ = b.settlePending() // what fails here is found again
	}
	var told []func(error)
	b.mu.Lock()
	untold := func(e *entry) bool {
		if e.done != nil {
			told = append(told, e.done)
			e.done = nil
		}
		return true
	}
	b.unstored(untold)
	for _, e := range slices.Concat(b.drops, b.dead) {
		untold(e)
	}
	b.mu.Unlock()
	for _, done := range told {
		done(ErrClosed)
	}
	if b.log != nil {
		_ = b.log.Close() // without it some messages come twice
	}
	b.disk.close()
}

// left is how many messages are in memory only.
func (b *Buffer) left() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unstored(func(*entry) bool { n++; return true })
	return n
}
