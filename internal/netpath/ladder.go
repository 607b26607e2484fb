package netpath

import "time"

const (
	// rungPatience is how many dials in a row must fail on a port before the
	// other one is tried: one lost packet is no firewall.
	rungPatience = 2
	// rungMemory is how long 443 is used before 8883 is tried again, at the next
	// connect. Where it is still blocked that costs one dial a day.
	rungMemory = 24 * time.Hour
)

// Ladder chooses between the endpoint's port and port 443 with ALPN, where
// firewalls let only that out. Times count from the boot. The zero value
// stands on the endpoint's port.
type Ladder struct {
	on443    bool          // the rung that is used
	worked   bool          // that rung has worked
	failures int           // in a row on it
	trial    bool          // 8883 is tried again although 443 works
	since    time.Duration // when 8883 was last tried
}

// Remember starts a ladder on 443, which worked before a restart.
func (l *Ladder) Remember(now time.Duration) { *l = Ladder{on443: true, worked: true, since: now} }

// Port443 says whether to take 443 for the dial that follows.
func (l *Ladder) Port443(now time.Duration) bool {
	l.trial = l.on443 && l.worked && now-l.since >= rungMemory
	if l.trial || !l.on443 {
		l.since = now
	}
	return l.on443 && !l.trial
}

// Reached tells that the dial got through to a TLS server.
func (l *Ladder) Reached() {
	if l.trial {
		l.on443 = false
	}
	l.worked, l.failures, l.trial = true, 0, false
}

// Blocked tells that the dial did not get through. Once no rung works the two
// take turns.
func (l *Ladder) Blocked() {
	if l.trial {
		l.trial = false
		return
	}
	l.failures++
	if l.failures >= rungPatience || !l.worked && l.on443 {
		*l = Ladder{on443: !l.on443, since: l.since, failures: rungPatience - 1}
	}
}

// On443 says whether 443 is the port that works.
func (l *Ladder) On443() bool { return l.on443 && l.worked }
