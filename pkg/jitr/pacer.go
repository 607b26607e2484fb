package jitr

import (
	"maps"
	"math/rand/v2"
	"time"
)

// Pacer decides what an attempt that failed meant and when the next one is
// due. It has no clock, no network and no goroutine: the loop and the
// simulation of fleets drive the same one. Times count from any fixed moment
// and never step; the loop's count from the boot. It is not safe for
// concurrent use.
type Pacer struct {
	schedule *schedule

	waiting   bool          // there was an attempt since the last success
	since     time.Duration // the first of them
	afterLong bool          // the last session was a long one
	restarted bool          // this run had no session yet, and the last one ended with nothing to retry
	closed    struct {      // closings without a word, nothing else between
		count int
		since time.Duration
	}
}

// Memory is what of a Pacer survives a restart: the step, that is the wait
// after the next failure.
type Memory struct {
	Steps   map[string]int // by schedule
	Waiting time.Duration  // since the first attempt after the last success, 0 for none
}

// NewPacer goes on from m. random gives numbers in [0, 1); nil is the
// runtime's.
//
// An m without any step is that of an agent that was online when it ended, or
// of a new one. The power may have come back for a whole fleet, so an accepted
// certificate that is turned away then resumes as after a long session.
func NewPacer(m Memory, now time.Duration, random func() float64) *Pacer {
	if random == nil {
		random = rand.Float64
	}
	p := &Pacer{schedule: &schedule{steps: maps.Clone(m.Steps), rand: random}}
	if p.schedule.steps == nil {
		p.schedule.steps = map[string]int{}
	}
	if m.Waiting > 0 {
		p.waiting, p.since = true, now-m.Waiting
	}
	p.afterLong = m.Steps[resume] > 0
	p.restarted = m.Waiting == 0 && len(m.Steps) == 0
	return p
}

// Memory is what to keep.
func (p *Pacer) Memory(now time.Duration) Memory {
	return Memory{Steps: maps.Clone(p.schedule.steps), Waiting: p.waited(now)}
}

// waited is the time since the first attempt after the last success.
func (p *Pacer) waited(now time.Duration) time.Duration {
	if !p.waiting {
		return 0
	}
	return now - p.since
}

// Begin tells of an attempt.
func (p *Pacer) Begin(now time.Duration) {
	if !p.waiting {
		p.waiting, p.since = true, now
	}
}

// Verdict is what a failed attempt meant.
type Verdict struct {
	Cause Cause
	Wait  time.Duration // until the next attempt
	Step  time.Duration // the longest that Wait could have been
	For   time.Duration // since the first attempt after the last success
}

// Failed judges the evidence; ClosedInARow and ClosedFor are the Pacer's own
// knowledge and need not be set.
func (p *Pacer) Failed(e Evidence, now time.Duration) Verdict {
	if e.Phase == PhaseConnack && classify(e) == ServerClosed {
		if p.closed.count == 0 {
			p.closed.since = now
		}
		p.closed.count++
	} else {
		p.closed.count = 0
	}
	e.ClosedInARow, e.ClosedFor = p.closed.count, now-p.closed.since

	v := Verdict{Cause: Classify(e), For: p.waited(now)}
	r := rowFor(v.Cause, p.resuming(e))
	if v.Cause == Clock && e.Phase != PhaseClock {
		// The clock is not below the floor, only the server's certificate lies in
		// its future: looking costs a dial here.
		r = rowFor(ServerUntrusted, false)
	}
	v.Step = p.schedule.nominal(r, v.For)
	v.Wait = p.schedule.at(r, v.For).NextBackOff()
	return v
}

// resuming reports whether what e tells of may have cut off a whole fleet at
// once.
func (p *Pacer) resuming(e Evidence) bool {
	return e.Accepted && (p.afterLong || p.restarted && e.Phase == PhaseConnack)
}

// SessionEnded tells how long a session was, before Failed judges its end.
func (p *Pacer) SessionEnded(lasted time.Duration) {
	p.afterLong, p.restarted = lasted >= LongSession, false
}

// Succeeded starts all schedules anew: the init was acknowledged, or the
// session has lasted for LongSession. It returns what it took.
func (p *Pacer) Succeeded(now time.Duration) time.Duration {
	took := p.waited(now)
	p.Forget()
	return took
}

// Forget starts anew where the server or the certificate is another one.
func (p *Pacer) Forget() {
	p.schedule.reset()
	p.waiting, p.afterLong, p.restarted, p.closed.count = false, false, false, 0
}
