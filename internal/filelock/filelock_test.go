package filelock

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// flock belongs to the open file, so two of them in one process exclude each
// other as two processes do.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first, err := Try(path)
	if err != nil {
		t.Fatal(err)
	}
	var held *Held
	if _, err := Try(path); !errors.As(err, &held) || held.PID != os.Getpid() {
		t.Fatalf("second Try = %v; want one that names pid %d", err, os.Getpid())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*poll)
	defer cancel()
	if _, err := Wait(ctx, path); !errors.As(err, &held) {
		t.Fatalf("Wait on a held lock = %v; want *Held", err)
	}

	got := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		second, err := Wait(ctx, path)
		if err == nil {
			second.Unlock()
		}
		got <- err
	}()
	first.Unlock()
	if err := <-got; err != nil {
		t.Fatalf("Wait after Unlock: %v", err)
	}
}
