package activation

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

func nothing(context.Context, struct{}, ...func(*iot.Options)) (struct{}, error) {
	return struct{}{}, nil
}

// No second sees more calls than the quota, and none of it is left unused.
func TestPacer_quota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer(10, 100)
		begin := time.Now()
		var sent []time.Time
		for range 50 {
			if _, err := call(t.Context(), p, nothing, struct{}{}, nil); err != nil {
				t.Fatal(err)
			}
			sent = append(sent, time.Now())
		}
		for i := range sent[10:] {
			if d := sent[i+10].Sub(sent[i]); d < time.Second {
				t.Fatalf("calls %d to %d came within %v", i, i+10, d)
			}
		}
		if took := time.Since(begin); took != 4900*time.Millisecond {
			t.Errorf("50 calls took %v; want 4.9 s", took)
		}
	})
}

// A throttled call is made again, slower, and the pace comes back.
func TestPacer_throttled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer(10, 100)
		tries := 0
		f := func(context.Context, struct{}, ...func(*iot.Options)) (struct{}, error) {
			if tries++; tries <= 3 {
				return struct{}{}, &types.ThrottlingException{}
			}
			return struct{}{}, nil
		}
		begin := time.Now()
		if _, err := call(t.Context(), p, f, struct{}{}, nil); err != nil || tries != 4 {
			t.Fatalf("after %d tries: %v", tries, err)
		}
		if took := time.Since(begin); took < 300*time.Millisecond || took > time.Second {
			t.Errorf("it took %v", took)
		}
		if p.rate > 0.8*p.full {
			t.Errorf("the rate is %.1f of %.1f", p.rate, p.full)
		}
		for time.Since(begin) < 10*time.Second {
			if _, err := call(t.Context(), p, nothing, struct{}{}, nil); err != nil {
				t.Fatal(err)
			}
		}
		if p.rate != p.full {
			t.Errorf("after 10 s the rate is %.1f of %.1f", p.rate, p.full)
		}
	})
}

// Throttled all the time, a call gives up by its deadline, or after some tries.
func TestPacer_givesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		always := func(context.Context, struct{}, ...func(*iot.Options)) (struct{}, error) {
			return struct{}{}, &types.ThrottlingException{}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		begin := time.Now()
		if _, err := call(ctx, newPacer(10, 100), always, struct{}{}, nil); !errors.Is(err, ErrNoTime) {
			t.Errorf("the error is %v; want ErrNoTime", err)
		}
		if ctx.Err() != nil || time.Since(begin) > 3*time.Second {
			t.Error("it waited for the deadline")
		}
		_, err := call(t.Context(), newPacer(10, 100), always, struct{}{}, nil)
		if _, ok := errors.AsType[*types.ThrottlingException](err); !ok {
			t.Errorf("without a deadline the error is %v", err)
		}
	})
}

// Two that share a quota that neither knows to be shared end near half each.
func TestPacer_shares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens, filled := 10.0, time.Now()
		var made [2]int
		quota := func(i int) func(context.Context, struct{}, ...func(*iot.Options)) (struct{}, error) {
			return func(context.Context, struct{}, ...func(*iot.Options)) (struct{}, error) {
				now := time.Now()
				tokens, filled = min(10, tokens+10*now.Sub(filled).Seconds()), now
				if tokens < 1 {
					return struct{}{}, &types.ThrottlingException{}
				}
				tokens--
				made[i]++
				return struct{}{}, nil
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		done := make(chan struct{})
		gate := make(chan struct{}, 1) // the quota is one's at a time
		for i := range 2 {
			p, f := newPacer(10, 100), quota(i)
			go func() {
				defer func() { done <- struct{}{} }()
				for {
					_, err := call(ctx, p, func(ctx context.Context, in struct{}, o ...func(*iot.Options)) (struct{}, error) {
						gate <- struct{}{}
						defer func() { <-gate }()
						return f(ctx, in, o...)
					}, struct{}{}, nil)
					if errors.Is(err, ErrNoTime) || ctx.Err() != nil {
						return
					}
				}
			}()
		}
		<-done
		<-done
		if all := made[0] + made[1]; all < 2550 { // of 3000
			t.Errorf("of the quota's 3000 calls in 5 minutes they made %d", all)
		}
		if least := min(made[0], made[1]); least < 750 {
			t.Errorf("one made %d calls, the other %d", made[0], made[1])
		}
	})
}
