package main

import (
	"io"
	"math/rand/v2"
	"time"

	"github.com/jitr-agent/jitr-agent/pkg/jitr"
)

// client is what decides on a device when to try again. All times count from
// the beginning of the simulation.
type client interface {
	// sent tells that a CONNECT goes out.
	sent(now time.Duration)
	// lost tells that a session of that length was cut without a word, and
	// gives the wait until the next dial.
	lost(lasted, now time.Duration) time.Duration
	// refused tells how the server answered the CONNECT, and gives the wait
	// until the next dial.
	refused(err error, now time.Duration) time.Duration
}

// maker makes the client of one device. accepted: its certificate was accepted
// before.
type maker func(random *rand.Rand, accepted bool) client

// each makes all clients of a fleet alike.
func (m maker) each(accepted bool) func(int, *rand.Rand) client {
	return func(_ int, random *rand.Rand) client { return m(random, accepted) }
}

// connectGap is AWS's quota for one client id: a CONNECT a second. The agent's
// loop keeps it whatever its schedules say.
const connectGap = time.Second

// agent is ours: the Pacer that ships, and the loop's gap between CONNECTs.
type agent struct {
	pacer    *jitr.Pacer
	accepted bool
	last     time.Duration // the CONNECT
	rejected bool          // it was in that state once
}

func newAgent(random *rand.Rand, accepted bool) client {
	return &agent{pacer: jitr.NewPacer(jitr.Memory{}, 0, random.Float64), accepted: accepted, last: -connectGap}
}

func (a *agent) sent(now time.Duration) {
	a.pacer.Begin(now)
	a.last = now
}

func (a *agent) lost(lasted, now time.Duration) time.Duration {
	a.pacer.Succeeded(now)
	a.pacer.SessionEnded(lasted)
	return a.failed(jitr.Evidence{Phase: jitr.PhaseSession, Err: io.EOF, Accepted: true}, now)
}

func (a *agent) refused(err error, now time.Duration) time.Duration {
	return a.failed(jitr.Evidence{Phase: jitr.PhaseConnack, Err: err, Accepted: a.accepted}, now)
}

func (a *agent) failed(e jitr.Evidence, now time.Duration) time.Duration {
	v := a.pacer.Failed(e, now)
	if jitr.StateFor(v.Cause, a.accepted) == jitr.Rejected {
		a.rejected = true
	}
	return max(v.Wait, a.last+connectGap-now)
}

// restart is the agent after the power failed: what state.json holds of it
// goes on, all else is gone.
func (a *agent) restart(random *rand.Rand, now time.Duration) *agent {
	return &agent{pacer: jitr.NewPacer(a.pacer.Memory(now), now, random.Float64), accepted: a.accepted, last: a.last}
}
