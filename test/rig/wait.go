package rig

import (
	"testing"
	"time"
)

// poll is how often a condition is looked at: often enough to cost a test
// nothing, seldom enough to leave the processor to the processes.
const poll = 50 * time.Millisecond

// Eventually waits until the condition holds. The condition returns what is
// still wrong, which is the test's failure when it has not come true within d.
func Eventually(t testing.TB, d time.Duration, condition func() error) {
	t.Helper()
	deadline, tick := time.After(d), time.NewTicker(poll)
	defer tick.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("after %s: %v", d, err)
		}
	}
}

// Throughout looks at a condition for all of d, and fails the test as soon as
// it does not hold. It shows that something does not happen.
func Throughout(t testing.TB, d time.Duration, condition func() error) {
	t.Helper()
	end, tick := time.After(d), time.NewTicker(poll)
	defer tick.Stop()
	for {
		if err := condition(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-tick.C:
		case <-end:
			return
		}
	}
}
