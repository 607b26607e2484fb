package storm

import (
	"context"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jitr-agent/jitr-agent/pkg/jitr"
)

const (
	// there is the time from a dial to the server's sight of the CONNECT, and
	// back that of the answer; as in test/sim.
	there = 150 * time.Millisecond
	back  = 50 * time.Millisecond
	// connectGap is AWS's quota for one client id.
	connectGap = time.Second
	// connectQuota is how many CONNECTs a second an account takes by default.
	connectQuota = 500
)

// door is the account's CONNECT quota.
type door struct {
	mu     sync.Mutex
	second int64
	taken  int
}

func (d *door) open() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := time.Now().Unix(); now != d.second {
		d.second, d.taken = now, 0
	}
	d.taken++
	return d.taken <= connectQuota
}

// gateway is the life of one until it is in, which it returns the time of:
// power, boot, and a CONNECT whenever the agent's schedule says so. connect
// says whether a CONNECT was accepted.
func gateway(ctx context.Context, connect func() bool) (time.Time, int, error) {
	boot := 20*time.Second + time.Duration(rand.NormFloat64()*float64(5*time.Second))
	if err := pass(ctx, max(0, boot)); err != nil {
		return time.Time{}, 0, err
	}
	power := time.Now()
	pacer := jitr.NewPacer(jitr.Memory{}, 0, rand.Float64)
	for attempts := 1; ; attempts++ {
		if err := pass(ctx, there); err != nil {
			return time.Time{}, attempts, err
		}
		sent := time.Now()
		pacer.Begin(sent.Sub(power))
		in := connect()
		if err := pass(ctx, back); err != nil {
			return time.Time{}, attempts, err
		}
		now := time.Now()
		if in {
			return now, attempts, nil
		}
		v := pacer.Failed(jitr.Evidence{Phase: jitr.PhaseConnack, Err: io.EOF}, now.Sub(power))
		if err := pass(ctx, max(v.Wait, connectGap-now.Sub(sent))); err != nil {
			return time.Time{}, attempts, err
		}
	}
}
