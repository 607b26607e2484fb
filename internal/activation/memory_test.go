package activation

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestMemory_forgetsTheOldest(t *testing.T) {
	const limit = 100
	m := newMemory(limit)
	now := time.Now()
	for i := range 10 * limit {
		m.learn(fmt.Sprint(i), Activated, now)
	}
	if n := len(m.fresh) + len(m.old); n > 2*limit {
		t.Errorf("it keeps %d decisions; want at most %d", n, 2*limit)
	}
	for i := 9 * limit; i < 10*limit; i++ {
		if !m.knows(Request{CertificateID: fmt.Sprint(i), At: now}) {
			t.Fatalf("it has forgotten number %d of %d", i, 10*limit)
		}
	}
	if m.knows(Request{CertificateID: "0", At: now}) {
		t.Error("it keeps what is oldest")
	}
}

func TestMemory_duplicates(t *testing.T) {
	m := newMemory(10)
	decided := time.Now()
	m.learn("x", Activated, decided)
	for _, tt := range []struct {
		at   time.Time
		want bool
	}{
		{decided.Add(-time.Hour), true}, // it waited in the queue
		{decided, true},
		{decided.Add(clockSkew), true},
		{decided.Add(clockSkew + time.Second), false}, // registered again
		{time.Time{}, false},                          // somebody asks
	} {
		if got := m.knows(Request{CertificateID: "x", At: tt.at}); got != tt.want {
			t.Errorf("seen pending %v after the decision: a duplicate is %t, want %t", tt.at.Sub(decided), got, tt.want)
		}
	}
}

// An error is shared by those who wait for it, and is not remembered.
func TestMemory_errors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(10)
		boom := errors.New("boom")
		release := make(chan struct{})
		runs := 0
		errs := make(chan error, 3)
		for range 3 {
			go func() {
				_, err := m.once(t.Context(), Request{CertificateID: "x", At: time.Now()}, func() (Result, error) {
					runs++
					<-release
					return Result{}, boom
				})
				errs <- err
			}()
		}
		synctest.Wait()
		close(release)
		for range 3 {
			if err := <-errs; !errors.Is(err, boom) {
				t.Errorf("the error is %v", err)
			}
		}
		if runs != 1 {
			t.Errorf("it ran %d times", runs)
		}
		if res, err := m.once(t.Context(), Request{CertificateID: "x", At: time.Now()}, func() (Result, error) {
			return Result{Outcome: Activated}, nil
		}); err != nil || res.Outcome != Activated {
			t.Errorf("the next try gave %+v, %v", res, err)
		}
	})
}
