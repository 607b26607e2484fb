package buffer

import "time"

// maxDrops is how many ranges of dropped messages may wait for their gap
// records before the sender waits too.
const maxDrops = 100

// final says that no repetition helps: not authorized, the topic or the payload
// is not valid, or the packet is too large.
func final(code byte) bool { return code == 0x87 || code == 0x90 || code == 0x99 || code == 0x95 }

// outcome is told how the publish of e on a connection ended.
func (b *Buffer) outcome(e *entry, connection int, code byte, err error) {
	var done func(error)
	b.mu.Lock()
	switch {
	case err != nil || e.settled: // the next connection starts from here
	case code < 0x80: // true also where the connection has ended meanwhile
		b.acked++
		b.pause.reset()
		done, e.done = e.done, nil
		b.settle(e)
	case connection != b.connection || e.pending:
	case final(code):
		e.pending, e.code = true, code
		b.dead = append(b.dead, e)
		b.pend()
	default:
		// 0x97 and all that may pass: pause, then this one again. Those behind
		// it are on their way already.
		b.holdOff()
		b.again = append(b.again, e)
	}
	b.mu.Unlock()
	if done != nil {
		done(nil)
	}
	wake(b.changed)
}

// gapOutcome is the same for a gap record.
func (b *Buffer) gapOutcome(g *gapEntry, connection int, code byte, err error) {
	refused := false
	b.mu.Lock()
	switch {
	case err != nil: // sent again on the next connection
	case code < 0x80:
		g.acked, b.gapsDirty = true, true
		b.pend()
	case final(code):
		refused = true
		g.sent, g.refusedOn = false, connection
	case connection == b.connection:
		b.holdOff()
		g.sent = false
	}
	b.mu.Unlock()
	if refused && b.cfg.GapRefused != nil {
		b.cfg.GapRefused(b.cfg.GapTopic(), code)
	}
	wake(b.changed)
}

// holdOff begins a pause, unless there is one: a whole window may be refused at
// once, and that is one sign. The lock is held.
func (b *Buffer) holdOff() {
	if now := time.Now(); !b.paused.After(now) {
		b.paused = now.Add(b.pause.next())
	}
}

// pend tells the committing goroutine that something waits to be written; the
// lock is held.
func (b *Buffer) pend() {
	if b.pendingFrom.IsZero() {
		b.pendingFrom = time.Now()
		wake(b.commit)
	}
}

// drop gives up e, which was acknowledged, when its gap record is written. The
// lock is held.
func (b *Buffer) drop(e *entry) {
	if n := len(b.drops); n > 0 && e.log != 0 {
		// A run of them is one.
		if last := b.drops[n-1]; !last.taken && last.span().to+1 == e.log && last.gap.add(e.gap) {
			last.to = e.span().to
			return
		}
	}
	e.pending = true
	b.fly(e)
	b.drops = append(b.drops, e)
	b.pend()
}

// settle takes e out of the account: nothing more is to be done for it. The
// lock is held.
func (b *Buffer) settle(e *entry) {
	if e.settled {
		return
	}
	e.settled = true
	b.memory -= e.size
	if e.sent {
		b.inFlight -= e.size
	}
	e.message = Message{}
	b.remember(e)
	b.advance()
	b.makeRoom()
}

// advance tells the log up to where all is settled. The lock is held.
func (b *Buffer) advance() {
	for b.flight.len() > 0 && b.flight.at(0).settled {
		if s := b.flight.pop().span(); b.mixed && s.to > b.ackedTo && s.from <= s.to {
			b.beyond = append(b.beyond, s) // one that is not settled may be before it
		}
	}
	if b.log == nil {
		return
	}
	upTo := b.readNext - 1
	if upTo == b.ackedTo {
		return
	}
	for i := range b.flight.len() {
		if e := b.flight.at(i); e.log != 0 && !e.settled && e.log <= upTo {
			upTo = e.log - 1
			b.oldest = e.stamp.wall()
			if !b.mixed {
				break
			}
		}
	}
	if upTo <= b.ackedTo {
		return
	}
	before := b.unflushed
	b.unflushed += int(upTo - b.ackedTo)
	b.ackedTo, b.ackedAt = upTo, time.Now()
	b.log.Ack(upTo)
	b.forget()
	if before == 0 || before < flushEvery && b.unflushed >= flushEvery {
		wake(b.commit) // the log should know in time
	}
	if b.refusing > 0 && upTo >= b.refusing {
		b.refusing = 0
		b.makeRoom()
	}
	if upTo+1 == b.logNext {
		b.oldest = time.Time{}
	}
}
