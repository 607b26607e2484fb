package report

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestWatchdogIsFedWhileAllLoopsGoRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		healthy := func() time.Duration { return time.Minute }
		stuck := func() time.Duration { return time.Since(start) }
		var pats []time.Duration
		done := make(chan struct{})
		go func() {
			defer close(done)
			feed(ctx, time.Minute, []func() time.Duration{healthy, stuck}, func() { pats = append(pats, time.Since(start)) })
		}()
		<-time.After(time.Hour)
		cancel()
		<-done
		last := pats[len(pats)-1]
		if last < stuckAfter-20*time.Second || last > stuckAfter {
			t.Errorf("fed for %v; want as long as no loop is stuck, %v", last, stuckAfter)
		}
		for i := range pats[1:] {
			if gap := pats[i+1] - pats[i]; gap > 30*time.Second {
				t.Errorf("%v between two feeds; want less than half the limit", gap)
			}
		}
	})
}
