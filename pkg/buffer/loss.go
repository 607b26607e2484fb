package buffer

import (
	"errors"
	"io"
	"slices"
	"time"

	"github.com/jitr-agent/jitr-agent/pkg/buffer/seglog"
)

// settlePending writes the gap records and dead letters that wait, and then
// gives up what they stand for.
func (b *Buffer) settlePending() error {
	b.mu.Lock()
	drops, dead := slices.Clone(b.drops), slices.Clone(b.dead)
	for _, e := range slices.Concat(drops, dead) {
		e.taken = true
	}
	dirty := b.gapsDirty
	b.pendingFrom, b.gapsDirty = time.Time{}, false
	b.mu.Unlock()

	var gapErr, deadErr error
	if len(drops) > 0 || dirty {
		gaps := make([]Gap, len(drops))
		for i, e := range drops {
			gaps[i] = e.gap
		}
		gapErr = b.saveGaps(gaps)
		b.settleWritten(&b.drops, drops, gapErr)
	}
	if len(dead) > 0 {
		var letters []Message
		letters, deadErr = b.keepDead(dead)
		b.settleWritten(&b.dead, dead, deadErr)
		for i, m := range letters {
			if b.cfg.DeadLetter != nil {
				b.cfg.DeadLetter(m, dead[i].code)
			}
		}
	}
	return errors.Join(gapErr, deadErr)
}

// settleWritten takes what was written off the list and settles it; what could
// not be written stays for the next attempt.
func (b *Buffer) settleWritten(list *[]*entry, written []*entry, err error) {
	type answer struct {
		done func(error)
		err  error
	}
	var told []answer
	b.mu.Lock()
	if err != nil {
		for _, e := range written {
			e.taken = false
		}
		b.pend()
	} else {
		*list = slices.DeleteFunc(*list, func(e *entry) bool { return e.taken })
		for _, e := range written {
			if e.done != nil {
				a := answer{done: e.done}
				if e.code != 0 {
					a.err = &Refused{Code: e.code}
				}
				told = append(told, a)
				e.done = nil
			}
			b.settle(e)
		}
	}
	b.mu.Unlock()
	for _, a := range told {
		a.done(a.err)
	}
	wake(b.changed)
}

// saveGaps puts more into the gap records on the disk, and tells of it.
func (b *Buffer) saveGaps(more []Gap) error {
	b.mu.Lock()
	b.gapsBusy = true // else one that grows could be on its way by then
	next, added := withGaps(b.gaps, more)
	b.mu.Unlock()
	err := b.disk.gaps.save(next)
	b.mu.Lock()
	b.gapsBusy = false
	if err == nil {
		b.gaps = next
	}
	b.mu.Unlock()
	wake(b.changed)
	if err != nil || b.cfg.Lost == nil {
		return err
	}
	for _, g := range more {
		b.cfg.Lost(g.Messages, g.Why, added)
		added = 0
	}
	return nil
}

// dropOldest gives up the messages of the oldest segment, to make room for new
// ones, which why says there is not. Where new ones are to be refused instead it does so only with what is
// too old anyway. It reports false where there is nothing that may go.
func (b *Buffer) dropOldest(why error) (bool, error) {
	if err := b.settlePending(); err != nil {
		return false, err
	}
	from, to, ok := b.log.OldestSegment()
	if !ok {
		return false, nil
	}
	b.mu.Lock()
	limits := b.limits
	delivered := map[uint64]bool{}
	for i := range b.flight.len() {
		if e := b.flight.at(i); e.settled {
			delivered[e.log] = true
		}
	}
	b.mu.Unlock()
	now := b.cfg.Clock.now()
	var gaps []Gap
	count := func(g Gap) {
		if n := len(gaps); n == 0 || !gaps[n-1].add(g) {
			gaps = append(gaps, g)
		}
	}
	onlyAged := true
	var last stamp
	for reader := b.log.Read(from); ; {
		found, err := reader.Next()
		if errors.Is(err, io.EOF) || err == nil && found.Seq > to {
			break
		}
		if err != nil {
			return false, err
		}
		if delivered[found.Seq] {
			continue
		}
		_, s, err := parseRecord(found.Payload)
		if found.Lost > 0 || err != nil {
			lost := max(1, found.Lost)
			count(Gap{Schema: 1, Stream: last.streamID(), From: last.seq + 1, To: last.seq + lost, Messages: lost, Why: Damaged})
			continue
		}
		last = s
		reason := Full
		if limits.MaxAge > 0 && now.age(s) > limits.MaxAge {
			reason = Aged
		} else {
			onlyAged = false
		}
		count(gapOf(s, reason))
	}
	if limits.RefuseNew && !onlyAged {
		return false, nil
	}
	if err := b.saveGaps(gaps); err != nil {
		return false, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case onlyAged:
	case errors.Is(why, seglog.ErrFull):
		b.over, b.overErr = StateFull, nil
	default:
		b.over, b.overErr = StateDiskFull, why
	}
	for i := range b.flight.len() {
		// One that waits for its own gap record may stand for some behind to.
		if e := b.flight.at(i); e.log != 0 && e.log <= to && !e.settled && (!e.pending || e.code != 0) {
			b.again = slices.DeleteFunc(b.again, func(a *entry) bool { return a == e })
			b.dead = slices.DeleteFunc(b.dead, func(a *entry) bool { return a == e })
			b.inFlight -= e.size
			b.memory -= e.size
			e.settled, e.size, e.message = true, 0, Message{}
		}
	}
	if b.readNext <= to {
		b.readNext = to + 1
		b.generation++
	}
	b.oldest = last.wall()
	b.advance()
	return true, nil
}
