package buffer

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// Session is what the buffer sends on. Send writes m behind all earlier ones
// and returns; outcome is called once, with the PUBACK's reason code or with an
// error when the session ended first. An error of Send means that m was not
// sent and outcome will not be called.
type Session interface {
	Send(ctx context.Context, m Message, outcome func(code byte, err error)) error
}

// pause is how long nothing is sent after the server asked for patience
// (PUBACK 0x97): 1 s doubling to 1 min, from the start again after a success.
type pause struct{ policy *backoff.ExponentialBackOff }

func (p *pause) next() time.Duration {
	if p.policy == nil {
		p.policy = backoff.NewExponentialBackOff(
			backoff.WithInitialInterval(time.Second), backoff.WithMultiplier(2), backoff.WithMaxInterval(time.Minute),
			backoff.WithMaxElapsedTime(0)) // its default gives up after 15 minutes
	}
	return p.policy.NextBackOff()
}

func (p *pause) reset() { p.policy = nil }

// Drain sends what is queued, in order, from the oldest unacknowledged message
// on, and what is handed in meanwhile, until ctx or the session ends.
func (b *Buffer) Drain(ctx context.Context, s Session) {
	b.rewind()
	defer b.rewind()
	var earliest time.Time // of the next message, by the rate
	for {
		e, wait := b.next(earliest)
		if e == nil {
			if !b.idle(ctx, wait) {
				return
			}
			continue
		}
		earliest = b.after(earliest)
		if err := s.Send(ctx, e.message, func(code byte, err error) { b.outcome(e, code, err) }); err != nil {
			return
		}
	}
}

// rewind forgets what the last connection had in flight.
func (b *Buffer) rewind() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.queue {
		e.sent = false
	}
	b.again = nil
}

// next is the message to send now. Without one it says how long to wait, 0
// for until something changes.
func (b *Buffer) next(earliest time.Time) (*entry, time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if wait := max(time.Until(b.paused), time.Until(earliest)); wait > 0 {
		return nil, wait
	}
	if len(b.again) > 0 {
		e := b.again[0]
		b.again = b.again[1:]
		e.sent = true
		return e, 0
	}
	for _, e := range b.queue {
		if !e.sent && !e.done {
			e.sent = true
			return e, 0
		}
	}
	return nil, 0
}

// after is the earliest time for the message behind one that is sent now.
func (b *Buffer) after(earliest time.Time) time.Time {
	b.mu.Lock()
	rate := b.cfg.Rate
	b.mu.Unlock()
	now := time.Now()
	if rate <= 0 {
		return now
	}
	if earliest.Before(now) {
		earliest = now
	}
	return earliest.Add(time.Second / time.Duration(rate))
}

// idle waits for a change or for wait, whichever comes first, and reports
// false when ctx ends.
func (b *Buffer) idle(ctx context.Context, wait time.Duration) bool {
	var due <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-b.changed:
	case <-due:
	}
	return true
}

// outcome is told how a message's publish ended.
func (b *Buffer) outcome(e *entry, code byte, err error) {
	b.mu.Lock()
	var dead func(Message, byte)
	switch {
	case err != nil: // the connection ended; the next one starts from here
		e.sent = false
	case code < 0x80:
		b.acked++
		b.pause.reset()
		b.remove(e)
	case code == 0x87, code == 0x90, code == 0x99, code == 0x95:
		// Not authorized, topic or payload not valid: no repetition helps.
		b.remove(e)
		dead = b.cfg.DeadLetter
	default:
		// 0x97 and all that may pass: pause, then this one again. Those behind
		// it are on their way already.
		b.paused = time.Now().Add(b.pause.next())
		b.again = append(b.again, e)
	}
	b.mu.Unlock()
	if dead != nil {
		dead(e.message, code)
	}
	b.notify()
}
