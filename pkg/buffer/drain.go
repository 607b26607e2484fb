package buffer

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/jitr-agent/jitr-agent/pkg/buffer/seglog"
)

// Session is what the buffer sends on. Send writes m behind all earlier ones
// and returns; outcome is called once, with the PUBACK's reason code or with an
// error when the session ended first. An error of Send means that m was not
// sent and outcome will not be called.
type Session interface {
	Send(ctx context.Context, m Message, outcome func(code byte, err error)) error
}

// maxInFlight is how many bytes may be in flight besides the session's own
// window: as much as AWS IoT takes from one connection in a second.
const maxInFlight = 512 << 10

// rereadAfter is the pause after a disk error of a read.
const rereadAfter = time.Second

// patience is how long nothing is sent after the server asked for it
// (PUBACK 0x97): 1 s doubling to 1 min, from the start again after a success.
type patience struct{ policy *backoff.ExponentialBackOff }

func (p *patience) next() time.Duration {
	if p.policy == nil {
		p.policy = backoff.NewExponentialBackOff(
			backoff.WithInitialInterval(time.Second), backoff.WithMultiplier(2), backoff.WithMaxInterval(time.Minute),
			backoff.WithMaxElapsedTime(0)) // its default gives up after 15 minutes
	}
	return p.policy.NextBackOff()
}

func (p *patience) reset() { p.policy = nil }

// Drain sends what is queued, in order, from the oldest unacknowledged message
// on, and what is handed in meanwhile, until ctx or the session ends.
func (b *Buffer) Drain(ctx context.Context, s Session) {
	select {
	case <-b.opened: // what is stored comes first
	case <-ctx.Done():
		return
	}
	d := &drain{Buffer: b, connection: b.connect()}
	defer b.disconnect()
	for {
		m, outcome, wait := d.next()
		if outcome == nil {
			if !b.idle(ctx, wait) {
				return
			}
			continue
		}
		if err := s.Send(ctx, m, outcome); err != nil {
			return
		}
	}
}

// connect begins a connection and gives its number.
func (b *Buffer) connect() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.online = true
	b.connection++
	for _, g := range b.gaps {
		g.sent = false
	}
	return b.connection
}

// disconnect takes back what was in flight and is not settled.
func (b *Buffer) disconnect() {
	b.mu.Lock()
	b.online = false
	b.connection++
	b.rewind()
	b.makeRoom() // those who wait see whether they still may
	b.mu.Unlock()
	wake(b.commit) // the link is down: what is in memory goes to the disk
}

// rewind makes the queue begin with the oldest that is not settled; the lock is
// held.
func (b *Buffer) rewind() {
	var kept, back, settled []*entry
	for b.flight.len() > 0 {
		e := b.flight.pop()
		switch {
		case e.settled:
			settled = append(settled, e)
			continue
		case e.pending:
			// It is not sent again: a server that hangs up behind each refusal would
			// hear nothing else for ever.
			kept = append(kept, e)
			continue
		}
		b.inFlight -= e.size
		e.sent = false
		if e.log == 0 {
			back = append(back, e)
			continue
		}
		b.memory -= e.size
		e.size = 0
		if e.log < b.readNext {
			b.readNext = e.log
			b.oldest = e.stamp.wall()
		}
	}
	for _, e := range slices.Backward(back) {
		b.queue.pushFront(e)
	}
	for _, e := range kept {
		b.flight.push(e)
	}
	b.mixed = len(kept) > 0
	for _, e := range settled {
		b.remember(e)
	}
	b.again = nil
	b.generation++
}

// drain is one connection's sending side, of one goroutine.
type drain struct {
	*Buffer
	connection int
	earliest   time.Time // of the next message, by the rate
	reader     *seglog.Reader
	generation int    // of reader
	last       stamp  // of the last message read
	named      uint64 // the stream of streamName
	clocks     instant
	streamName string
}

// next is the message to send now, and what is to be told of its end. Without
// one it says how long to wait, 0 for until something changes.
func (d *drain) next() (m Message, outcome func(byte, error), wait time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		if wait := d.hold(); wait > 0 {
			return Message{}, nil, wait
		}
		if g := d.nextGap(); g != nil {
			return d.gapMessage(g), func(code byte, err error) { d.gapOutcome(g, d.connection, code, err) }, 0
		}
		if len(d.again) > 0 {
			e := d.again[0]
			d.again = d.again[1:]
			return d.send(e)
		}
		if d.flight.len() > 0 && d.inFlight >= maxInFlight || len(d.drops) > maxDrops {
			return Message{}, nil, 0
		}
		if d.readNext < d.logNext {
			if d.sifting {
				return Message{}, nil, 0
			}
			e, again := d.read()
			switch {
			case e != nil:
				return d.send(e)
			case again > 0:
				return Message{}, nil, again
			}
			continue
		}
		if d.queue.len() == 0 {
			return Message{}, nil, 0
		}
		e := d.queue.pop()
		if e.settled {
			continue
		}
		if e.message.Expiry > 0 {
			now := d.now()
			age := now.mono.Sub(e.at)
			if expired(e.message.Expiry, age) {
				e.gap = gapOf(now.stamp(e.at).of(e.stamp), Expired)
				d.drop(e)
				continue
			}
			e.stamp = now.stamp(e.at).of(e.stamp)
		}
		d.fly(e)
		return d.send(e)
	}
}

// fly puts e at the end of what is in flight; the lock is held.
func (b *Buffer) fly(e *entry) {
	e.sent = true
	b.inFlight += e.size
	if n := b.flight.len(); n == 0 {
		b.mixed = false
	} else if last := b.flight.at(n - 1); e.log != 0 && (last.log == 0 || last.log > e.log) {
		b.mixed = true
	}
	b.flight.push(e)
}

// hold is how long nothing may be sent, by the server's wish or by the rate;
// the lock is held.
func (d *drain) hold() time.Duration {
	if d.limits.Rate <= 0 && d.paused.IsZero() {
		return 0
	}
	return max(time.Until(d.paused), time.Until(d.earliest))
}

// send is what goes out for e; the lock is held.
func (d *drain) send(e *entry) (Message, func(byte, error), time.Duration) {
	d.counted()
	m := e.message
	m.UserProperties = append(slices.Clip(m.UserProperties),
		[2]string{"stream", d.name(e.stamp)}, [2]string{"seq", strconv.FormatUint(e.stamp.seq, 10)})
	if m.Expiry > 0 { // the server counts from now
		m.Expiry = max(1, m.Expiry-uint32(min(d.now().age(e.stamp)/time.Second, time.Duration(m.Expiry))))
	}
	return m, func(code byte, err error) { d.outcome(e, d.connection, code, err) }, 0
}

// now reads the clocks: all of them once a second, and in between only the one
// that is cheap to read.
func (d *drain) now() instant {
	mono := time.Now()
	passed := mono.Sub(d.clocks.mono)
	if d.clocks.mono.IsZero() || passed >= time.Second {
		d.clocks = d.cfg.Clock.now()
		return d.clocks
	}
	now := d.clocks
	now.mono, now.boot = mono, now.boot+passed
	return now
}

// name is streamID, without making the same string for each message; the lock
// is held.
func (d *drain) name(s stamp) string {
	if d.streamName == "" || s.stream != d.named {
		d.named, d.streamName = s.stream, s.streamID()
	}
	return d.streamName
}

// counted notes that a message goes out now; the lock is held.
func (d *drain) counted() {
	if d.limits.Rate <= 0 {
		return
	}
	now := time.Now()
	if d.earliest.Before(now) {
		d.earliest = now
	}
	d.earliest = d.earliest.Add(time.Second / time.Duration(d.limits.Rate))
}

// read takes the next stored message into flight. It gives nil where there is
// none to send, with the time to wait after a failure. The lock is held, but
// for the reading itself.
func (d *drain) read() (e *entry, wait time.Duration) {
	if d.reader == nil || d.generation != d.Buffer.generation {
		d.reader, d.generation = d.log.Read(d.readNext), d.Buffer.generation
	}
	reader := d.reader
	d.mu.Unlock()
	found, err := reader.Next()
	var (
		m Message
		s stamp
	)
	if err == nil && found.Lost == 0 {
		m, s, err = parseRecord(found.Payload)
		if err != nil {
			found.Lost, err = 1, nil
		}
	}
	d.mu.Lock()
	switch {
	case d.generation != d.Buffer.generation || d.sifting: // what was read may not be wanted any more
		d.reader = nil
		return nil, 0
	case errors.Is(err, io.EOF): // acknowledged meanwhile, all of it
		d.readNext = d.logNext
		d.advance()
		return nil, 0
	case err != nil:
		return nil, rereadAfter
	}
	d.readNext = found.Seq + max(1, found.Lost)
	if d.known(found.Seq) {
		d.advance()
		return nil, 0
	}
	if found.Lost > 0 {
		d.drop(&entry{log: found.Seq, to: found.Seq + found.Lost - 1, gap: d.lostGap(found.Lost)})
		return nil, 0
	}
	d.nameLost(found.Seq, s)
	d.last = s
	e = &entry{message: m, stamp: s, log: found.Seq}
	now := d.now()
	switch age := now.age(s); {
	case m.Expiry > 0 && expired(m.Expiry, age):
		e.gap = gapOf(s, Expired)
	case d.limits.MaxAge > 0 && age > d.limits.MaxAge:
		e.gap = gapOf(s, Aged)
	default:
		e.size = m.size()
		d.memory += e.size
		d.fly(e)
		return e, 0
	}
	e.message = Message{}
	d.drop(e)
	return nil, 0
}

func expired(seconds uint32, age time.Duration) bool {
	return age >= time.Duration(seconds)*time.Second
}

// lostGap counts n stored messages that cannot be read: those behind the last
// one that could be, if that is known. The lock is held.
func (d *drain) lostGap(n uint64) Gap {
	g := Gap{Schema: 1, Messages: n, Why: Damaged}
	if d.last.stream != 0 {
		g.Stream, g.From, g.To = d.last.streamID(), d.last.seq+1, d.last.seq+n
	}
	return g
}

// nameLost corrects a gap of which nothing is known by the message seq that comes
// behind it; the lock is held.
func (d *drain) nameLost(seq uint64, behind stamp) {
	if len(d.drops) == 0 {
		return
	}
	last := d.drops[len(d.drops)-1]
	g := &last.gap
	if g.Stream == "" && !last.taken && last.span().to+1 == seq && behind.seq > g.Messages {
		g.Stream, g.From, g.To = behind.streamID(), behind.seq-g.Messages, behind.seq-1
	}
}

// nextGap is a gap record to send, if there is one; the lock is held.
func (d *drain) nextGap() *gapEntry {
	if d.gapsBusy {
		return nil
	}
	for _, g := range d.gaps {
		if !g.sent && !g.acked && g.refusedOn != d.connection {
			g.sent = true
			return g
		}
	}
	return nil
}

func (d *drain) gapMessage(g *gapEntry) Message {
	d.counted()
	payload, err := json.Marshal(g.Gap)
	if err != nil { // numbers and strings always marshal
		payload = nil
	}
	return Message{Topic: d.cfg.GapTopic(), Payload: payload, ContentType: "application/json"}
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
