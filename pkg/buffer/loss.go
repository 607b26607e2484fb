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
	b.pendingFrom = time.Time{}
	b.mu.Unlock()
	return errors.Join(b.settleDrops(), b.settleDead())
}

// settleDrops is settlePending for what is to be counted in gap records.
func (b *Buffer) settleDrops() error {
	b.mu.Lock()
	drops, dirty := take(b.drops), b.gapsDirty
	b.gapsDirty = false
	b.mu.Unlock()
	if len(drops) == 0 && !dirty {
		return nil
	}
	gaps := make([]Gap, len(drops))
	for i, e := range drops {
		gaps[i] = e.gap
	}
	err := b.saveGaps(gaps)
	if err == nil {
		b.settleAll(&b.drops, drops, func(*entry) error { return nil })
		return nil
	}
	// What was never stored was promised to nobody, so it need not be counted.
	unstored := slices.DeleteFunc(drops, func(e *entry) bool { return e.log != 0 })
	b.settleAll(&b.drops, unstored, func(*entry) error { return ErrExpired })
	b.mu.Lock()
	b.gapsDirty = b.gapsDirty || dirty
	b.waitOn(b.drops)
	b.mu.Unlock()
	return err
}

// settleDead is settlePending for dead letters.
func (b *Buffer) settleDead() error {
	b.mu.Lock()
	dead := take(b.dead)
	letters := make([]Message, len(dead))
	for i, e := range dead {
		letters[i] = e.message
	}
	b.mu.Unlock()
	if len(dead) == 0 {
		return nil
	}
	err := b.keepDead(dead)
	done := dead
	if err != nil {
		// What was never stored was promised to nobody. Of the others as many wait
		// as do not stop the rest of the queue; the server will not have them
		// anyway, and that is told.
		bytes := int64(0)
		done = slices.DeleteFunc(slices.Clone(dead), func(e *entry) bool {
			bytes += e.size
			return e.log != 0 && bytes <= maxInFlight/2
		})
	}
	b.settleAll(&b.dead, done, func(e *entry) error { return &Refused{Code: e.code} })
	for i, e := range dead {
		if b.cfg.DeadLetter != nil && slices.Contains(done, e) {
			b.cfg.DeadLetter(letters[i], e.code)
		}
	}
	if err != nil {
		b.mu.Lock()
		b.waitOn(b.dead)
		b.mu.Unlock()
	}
	return err
}

// take marks all of list as being written; the lock is held.
func take(list []*entry) []*entry {
	for _, e := range list {
		e.taken = true
	}
	return slices.Clone(list)
}

// waitOn keeps list for the next attempt; the lock is held.
func (b *Buffer) waitOn(list []*entry) {
	for _, e := range list {
		e.taken = false
	}
	if len(list) > 0 || b.gapsDirty {
		b.pend()
	}
}

// settleAll takes done off a list, settles it, and tells its producers why it
// is not in the cloud, where they still wait.
func (b *Buffer) settleAll(list *[]*entry, done []*entry, why func(*entry) error) {
	var told []func()
	b.mu.Lock()
	*list = slices.DeleteFunc(*list, func(e *entry) bool { return slices.Contains(done, e) })
	for _, e := range done {
		if tell := e.done; tell != nil {
			err := why(e)
			told = append(told, func() { tell(err) })
			e.done = nil
		}
		b.settle(e)
	}
	b.mu.Unlock()
	for _, tell := range told {
		tell()
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
// ones; why says which room is missing. Where new ones are to be refused instead
// it does so only with what is too old anyway. It reports false where there is
// nothing that may go.
func (b *Buffer) dropOldest(why error) (bool, error) {
	b.sift(true)
	defer b.sift(false)
	if err := b.settleDrops(); err != nil {
		return false, err
	}
	_ = b.settleDead() // it must not hinder this, and is tried again
	from, to, ok := b.log.OldestSegment()
	if !ok {
		return false, nil
	}
	b.mu.Lock()
	limits, spoken := b.limits, b.spoken()
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
		if slices.ContainsFunc(spoken, func(s span) bool { return s.has(found.Seq) }) {
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
		// What waits for its own gap record is counted there. A dead letter that
		// could not be kept goes with the others.
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

// sift keeps the sender from dropping what is looked at here.
func (b *Buffer) sift(on bool) {
	b.mu.Lock()
	b.sifting = on
	b.mu.Unlock()
	wake(b.changed)
}
