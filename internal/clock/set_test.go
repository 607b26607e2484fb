package clock

import (
	"context"
	"testing"
	"time"
)

// The clock itself is everybody's, so no test sets it; that the timer is armed
// and waits, and that the watch ends, can be seen all the same.
func TestWatchSetWaitsAndEnds(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	if err := WatchSet(ctx, func() { t.Error("told of a change that nobody made") }); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < 50*time.Millisecond {
		t.Errorf("ended by itself after %v", took)
	}
}
