package jitr

import (
	"slices"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// MinGap is the least time between two CONNECTs of one client id: AWS IoT's
// quota is one a second, as the server counts, and a second one within it is
// refused with 0x97. A tenth more, because packets do not all travel alike.
const MinGap = 1100 * time.Millisecond

// LongSession is how long a session must last to count as success (the AWS
// CRT's value too). Only success resets a schedule, never a CONNACK: AWS
// accepts a connection and then cuts it when a policy denies.
const LongSession = 30 * time.Second

// row is one schedule: the range from which the wait after the n-th failure in
// a row is drawn, evenly. n counts from 0; since is the time since the first
// attempt after the last success.
type row struct {
	name   string
	causes []Cause
	// long rows apply after a session of LongSession or more: a fleet that was
	// cut off at once must come back at the speed of the quota.
	long bool
	// steady rows do not depend on n, so there is nothing to remember of them.
	steady bool
	wait   func(n int, since time.Duration) (low, high time.Duration)
}

// resume is the row of a fleet that comes back; the Pacer knows it by name.
const resume = "resume"

//go:generate go test -run ^TestSchedulePage$ -update .

// schedules is searched from the top; the first row that fits is taken. The
// rows with long stand above those without.
var schedules = []row{
	{
		// The wait stays a fixed share of the time already spent, so the
		// overshoot behind the activation does too, and the number of attempts
		// grows with the logarithm. Most activations come within seconds; the
		// caps are what an operator accepts who activates by hand.
		name: "pending", causes: []Cause{Pending}, steady: true,
		wait: func(_ int, since time.Duration) (low, high time.Duration) {
			limit := 5 * time.Minute
			switch {
			case since < 10*time.Minute:
				limit = 30 * time.Second
			case since < time.Hour:
				limit = time.Minute
			}
			share := min(since/5, limit)
			return max(share*8/10, time.Second), max(share, time.Second)
		},
	},
	{
		// 500 CONNECT a second is the account's quota: 30 s are enough for 15,000
		// gateways that are cut off together, the next ranges for more. Narrower
		// ranges knock more often, wider ones leave the quota unused at the end;
		// these bring 100,000 back in 1.3 times the least possible time, at 2.6
		// attempts each and at most 4,700 in a second (make sim).
		name: resume, causes: []Cause{ServerClosed, KeepAlive, Throttled, ServerBusy}, long: true,
		wait: func(n int, _ time.Duration) (low, high time.Duration) {
			switch n {
			case 0:
				return 0, 30 * time.Second
			case 1:
				return time.Second, 75 * time.Second
			default:
				return time.Second, 160 * time.Second
			}
		},
	},
	// The link is down: it costs nothing to look, and somebody may stand there
	// with the plug in his hand.
	{name: "link", causes: []Cause{DNS, Network, Proxy}, wait: exponential(time.Second, time.Minute, 0)},
	// The server is there and does not want us now.
	{
		name: "server", causes: []Cause{ServerClosed, KeepAlive, Throttled, ServerBusy},
		wait: exponential(5*time.Second, 10*time.Minute, 0),
	},
	// Somebody has to do something at the desk.
	{
		name: "refused", causes: []Cause{NotAuthorized, ClientCertRefused, CertExpired},
		wait: exponential(10*time.Second, 15*time.Minute, 0.8),
	},
	// Somebody has to do something at the gateway, or the server is another one
	// than we think.
	{
		name: "wrong-server", causes: []Cause{ServerUntrusted, TLS, Protocol},
		wait: exponential(30*time.Second, 15*time.Minute, 0.8),
	},
	// Two gateways with one name throw each other out for ever; each connect
	// costs the other one its session.
	{
		name: "duplicate", causes: []Cause{DuplicateClientID},
		wait: exponential(time.Minute, time.Hour, 0.8),
	},
	// Nobody is dialled; these are how often the gateway looks at itself.
	{name: "clock", causes: []Cause{Clock}, steady: true, wait: constant(time.Second)},
	{
		name: "identity",
		causes: []Cause{
			NoKey, NoCertificate, KeyMismatch, KeyCorrupt,
			TPMAbsent, TPMDenied, TPMChanged, TPMLocked, TPMFailing,
		},
		steady: true, wait: constant(identityPoll),
	},
}

// identityPoll is within the 2 s in which a new identity is to be noticed.
const identityPoll = 1500 * time.Millisecond

// exponential doubles from base to limit. The wait is drawn from [low × the
// step, the step]: 0 is full jitter, and the jitter never exceeds the limit.
func exponential(base, limit time.Duration, low float64) func(int, time.Duration) (time.Duration, time.Duration) {
	return func(n int, _ time.Duration) (time.Duration, time.Duration) {
		step := base
		for range n {
			if step *= 2; step >= limit {
				step = limit
				break
			}
		}
		return time.Duration(low * float64(step)), step
	}
}

func constant(d time.Duration) func(int, time.Duration) (time.Duration, time.Duration) {
	return func(int, time.Duration) (time.Duration, time.Duration) { return d, d }
}

// rowFor finds the schedule of a cause.
func rowFor(cause Cause, long bool) *row {
	i := slices.IndexFunc(schedules, func(r row) bool {
		return slices.Contains(r.causes, cause) && (long || !r.long)
	})
	if i < 0 {
		return rowFor(ServerClosed, false)
	}
	return &schedules[i]
}

// schedule remembers how far along each row we are since the last success.
type schedule struct {
	steps map[string]int // by row name
	rand  func() float64 // [0, 1)
}

// at is the row's place on the schedule as a backoff policy.
func (s *schedule) at(r *row, since time.Duration) backoff.BackOff {
	return &place{s, r, since}
}

type place struct {
	schedule *schedule
	row      *row
	since    time.Duration
}

// NextBackOff draws the next wait and moves the row one step on.
func (p *place) NextBackOff() time.Duration {
	low, high := p.row.wait(p.schedule.steps[p.row.name], p.since)
	if !p.row.steady {
		p.schedule.steps[p.row.name]++
	}
	return low + time.Duration(p.schedule.rand()*float64(high-low))
}

func (p *place) Reset() { delete(p.schedule.steps, p.row.name) }

// nominal is the longest that the next wait of the row can be: its step,
// without the jitter.
func (s *schedule) nominal(r *row, since time.Duration) time.Duration {
	_, high := r.wait(s.steps[r.name], since)
	return high
}

// reset starts all rows anew, after success.
func (s *schedule) reset() { clear(s.steps) }
