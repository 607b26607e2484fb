package jitr

import (
	"testing"
	"time"
)

// The bounds that each row promises, whatever the dice say.
func TestScheduleBounds(t *testing.T) {
	for _, dice := range []float64{0, 0.5, 0.999999} {
		s := &schedule{steps: map[string]int{}, rand: func() float64 { return dice }}
		wait := func(cause Cause, long bool, since time.Duration) time.Duration {
			return s.at(rowFor(cause, long), since).NextBackOff()
		}
		within := func(what string, got, low, high time.Duration) {
			t.Helper()
			if got < low || got > high {
				t.Errorf("%s with dice %v: %v; want %v to %v", what, dice, got, low, high)
			}
		}
		for _, p := range []struct{ since, low, high time.Duration }{
			{0, time.Second, time.Second},
			{5 * time.Second, time.Second, time.Second},
			{20 * time.Second, 3200 * time.Millisecond, 4 * time.Second},
			{5 * time.Minute, 24 * time.Second, 30 * time.Second},
			{30 * time.Minute, 48 * time.Second, time.Minute},
			{24 * time.Hour, 4 * time.Minute, 5 * time.Minute},
		} {
			within("pending", wait(Pending, false, p.since), p.low, p.high)
		}
		within("resume 1", wait(ServerClosed, true, 0), 0, 30*time.Second)
		within("resume 2", wait(Throttled, true, 0), time.Second, 75*time.Second)
		within("resume 3", wait(KeepAlive, true, 0), time.Second, 160*time.Second)
		for step := time.Second; step < 2*time.Minute; step *= 2 {
			within("link", wait(Network, false, 0), 0, min(step, time.Minute))
		}
		for _, seconds := range []int{10, 20, 40, 80, 160, 320, 640, 900, 900} {
			step := time.Duration(seconds) * time.Second
			within("refused", wait(NotAuthorized, false, 0), step*8/10, step)
		}
		for range 100 {
			within("wrong-server, at last", wait(TLS, false, 0), 24*time.Second, 15*time.Minute)
		}
		for range 10 {
			wait(DuplicateClientID, false, 0)
		}
		within("duplicate, at last", wait(DuplicateClientID, false, 0), 48*time.Minute, time.Hour)

		s.reset()
		within("refused after a success", wait(CertExpired, false, 0), 8*time.Second, 10*time.Second)
	}
}

// What survives a restart is the step.
func TestScheduleGoesOn(t *testing.T) {
	s := &schedule{steps: map[string]int{"refused": 3}}
	if got := s.nominal(rowFor(NotAuthorized, false), 0); got != 80*time.Second {
		t.Errorf("the fourth step is %v; want 80 s", got)
	}
}
