package main

import (
	"io"
	"math/rand/v2"
	"time"

	"github.com/jitr-agent/jitr-agent/pkg/mqtt"
)

const (
	stormDevices  = 100_000
	stormConnects = 500 // a second: the default quota of an account
	// stormHorizon bounds the clients that never get in.
	stormHorizon = time.Hour

	// The targets of both storms.
	stormFinish   = 1.5
	stormAttempts = 3.5
	stormPeak     = 5_000
)

// exceeded is CONNACK 0x97, quota exceeded.
var exceeded = &mqtt.Refused{Code: 0x97}

// stormResult is one client's in one storm. Rates are a second's.
type stormResult struct {
	client   string
	finish   time.Duration // when the last one was in, from the beginning
	all      bool          // all came in before the horizon
	in       float64       // the share that did
	ratio    float64       // of finish and the bound
	attempts float64       // mean
	peak     int
	retries  int // peak of the CONNECTs that were not a device's first
	rejected int
	rate     []int
	clients  []client
}

func storm(name string, f fleet, s server, bound time.Duration) stormResult {
	o := f.run(s)
	r := stormResult{
		client: name, attempts: float64(o.sum) / float64(f.size), in: float64(o.in) / float64(f.size),
		rejected: o.rejected(), rate: o.rate, clients: o.clients,
	}
	r.finish, r.all = o.finish()
	r.ratio = float64(r.finish) / float64(bound)
	for i, n := range o.rate {
		r.peak, r.retries = max(r.peak, n), max(r.retries, o.retries[i])
	}
	return r
}

func stormBound(devices, connects int) time.Duration {
	return time.Duration(devices) * time.Second / time.Duration(connects)
}

// cutOff: all sessions of an accepted fleet end in one moment.
func cutOff(name string, m maker, devices, connects int, refusal error, seed uint64) stormResult {
	f := fleet{
		size: devices, seed: seed, client: m.each(true), horizon: stormHorizon,
		start: func(_ int, c client) time.Duration { return c.lost(time.Hour, 0) },
	}
	return storm(name, f, &quotaServer{perSecond: connects, refusal: refusal}, stormBound(devices, connects))
}

// bootTimes are by device: from the power to the agent's first dial.
type bootTimes []time.Duration

func boots(devices int, seed uint64) bootTimes {
	random := rand.New(rand.NewPCG(seed, 0xb007))
	at := make(bootTimes, devices)
	for i := range at {
		at[i] = max(0, 20*time.Second+time.Duration(random.NormFloat64()*float64(5*time.Second)))
	}
	return at
}

func (b bootTimes) start(device int, _ client) time.Duration { return b[device] }

// peak is the most first dials that reach the server in a second.
func (b bootTimes) peak() int {
	rate := map[time.Duration]int{}
	most := 0
	for _, at := range b {
		second := (at + there) / time.Second
		rate[second]++
		most = max(most, rate[second])
	}
	return most
}

// powerBack: the power comes back for an accepted fleet that was online when it
// failed.
func powerBack(name string, m maker, devices, connects int, refusal error, seed uint64) stormResult {
	f := fleet{
		size: devices, seed: seed, client: m.each(true), horizon: stormHorizon,
		start: boots(devices, seed).start,
	}
	return storm(name, f, &quotaServer{perSecond: connects, refusal: refusal}, stormBound(devices, connects))
}

// powerTwice: the power comes back, fails again after 40 s in the middle of the
// storm, and comes back for good. The agents that were still out go on where
// their stored steps are, the others were online.
func powerTwice(devices, connects int, refusal error, seed uint64) stormResult {
	const again = 40 * time.Second
	f := fleet{size: devices, seed: seed, client: maker(newAgent).each(true), horizon: again, start: boots(devices, seed).start}
	before := f.run(&quotaServer{perSecond: connects, refusal: refusal})
	f.horizon, f.start = stormHorizon, boots(devices, seed+1).start
	f.client = func(device int, random *rand.Rand) client {
		if before.online[device] != notYet {
			return newAgent(random, true)
		}
		return before.clients[device].(*agent).restart(random, again)
	}
	return storm(ours, f, &quotaServer{perSecond: connects, refusal: refusal}, stormBound(devices, connects))
}

const (
	newDevices = 10_000
	apiCalls   = 10 // a second: DescribeCertificate, UpdateCertificate

	powerOnFinish = 1.15
)

// powerOn: new devices are switched on together. The activator has so many
// memories (see activationServer). It also says how many events and
// DescribeCertificate calls that made.
func powerOn(name string, m maker, devices, connects int, memories int, seed uint64) (r stormResult, events, calls int) {
	f := fleet{
		size: devices, seed: seed, client: m.each(false), horizon: 4 * time.Hour,
		start: boots(devices, seed).start,
	}
	s := newActivationServer(devices, connects, apiCalls, memories, seed)
	return storm(name, f, s, stormBound(devices, apiCalls)), s.events, s.calls
}

// misjudged is the storm of a small fleet whose account is at its quota and
// closes without a word: does an agent take that for a refusal?
func misjudged(connects int, seed uint64) stormResult {
	const devices = 3_000
	return cutOff(ours, newAgent, devices, connects, io.EOF, seed)
}
