package main

import (
	"math"
	"math/rand/v2"
	"time"
)

// pendingCase is a way in which certificates are activated.
type pendingCase struct {
	name    string
	title   string
	devices int
	takes   func(*rand.Rand) time.Duration
	horizon time.Duration
	// The targets: overshoot at most, with at most so many attempts at the 95th
	// percentile; 0 is "no more than the 1 s loop on average".
	p50, p95 time.Duration
	attempts int
}

var pendingCases = []pendingCase{
	{
		name: "seconds", title: "Typical: activated after a lognormal time, median 3 s, σ 0.6",
		devices: 50_000, takes: lognormal(3*time.Second, 0.6), horizon: time.Hour,
		p50: 800 * time.Millisecond, p95: 1400 * time.Millisecond,
	},
	{
		name: "minutes", title: "Somebody is at the desk: activated after 1 to 10 minutes, evenly",
		devices: 20_000, takes: even(time.Minute, 10*time.Minute), horizon: 4 * time.Hour,
		p95: 30 * time.Second, attempts: 45,
	},
	{
		name: "hours", title: "Nobody is: activated after 1 to 4 hours, evenly",
		devices: 2_000, takes: even(time.Hour, 4*time.Hour), horizon: 24 * time.Hour,
		p95: 5 * time.Minute, attempts: 140,
	},
}

func lognormal(median time.Duration, sigma float64) func(*rand.Rand) time.Duration {
	return func(random *rand.Rand) time.Duration {
		return time.Duration(float64(median) * math.Exp(sigma*random.NormFloat64()))
	}
}

func even(low, high time.Duration) func(*rand.Rand) time.Duration {
	return func(random *rand.Rand) time.Duration {
		return low + time.Duration(random.Float64()*float64(high-low))
	}
}

// pendingResult is one client's in one case. Overshoot is the time from the
// activation to the CONNACK 0 on the device.
type pendingResult struct {
	client    string
	overshoot []time.Duration // sorted
	attempts  []int           // sorted
	mean      float64         // attempts
	all       bool            // all came in before the horizon
}

func (c *pendingCase) run(name string, m maker, scale int, seed uint64) pendingResult {
	n := c.devices / scale
	s := newPendingServer(n, seed, c.takes)
	f := fleet{
		size: n, seed: seed, client: m.each(false), horizon: c.horizon,
		start: func(int, client) time.Duration { return 0 },
	}
	o := f.run(s)
	r := pendingResult{client: name, attempts: sorted(o.attempts), mean: float64(o.sum) / float64(n), all: o.in == n}
	for i, at := range o.online {
		if at != notYet {
			r.overshoot = append(r.overshoot, at-s.active[i])
		}
	}
	r.overshoot = sorted(r.overshoot)
	return r
}
