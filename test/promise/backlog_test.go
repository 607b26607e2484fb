package promise

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/clock"
	"github.com/jitr-agent/jitr-agent/pkg/buffer"
	"github.com/jitr-agent/jitr-agent/test/rig"
)

// store puts messages into a stopped gateway's buffer, as if a long outage had
// passed. They count as acknowledged.
func (g *gateway) store(l load, maxSize int64) {
	g.t.Helper()
	b := buffer.New(buffer.Config{
		Dir:    filepath.Join(g.StateDir, "buffer"),
		Limits: buffer.Limits{MaxSize: maxSize},
		Clock:  buffer.Clock{BootID: clock.BootID(), Boot: clock.Boot, Floor: func() time.Time { return time.Time{} }},
	})
	ctx, cancel := context.WithCancel(g.t.Context())
	var work sync.WaitGroup
	work.Go(func() { b.Run(ctx) })
	for i := range l.n {
		m := buffer.Message{Topic: "dt/" + thing + "/pump/1", Payload: []byte(l.message(i))}
		if err := b.Put(ctx, m, nil); err != nil {
			g.t.Fatal(err)
		}
		g.stored = append(g.stored, l.from+i)
	}
	cancel()
	work.Wait()
	if n := b.Stats().Messages; n < int64(l.n) { // the gateway's own may be there
		g.t.Fatalf("%d messages are stored; want %d", n, l.n)
	}
}

// TestFirstDial prints how soon after its exec the agent dials, with an empty
// buffer and with 64 MiB in it, which have to be read and checked.
func TestFirstDial(t *testing.T) {
	g := newGateway(t, "", map[string]string{"buffer.max_size": `"128MiB"`})
	dial := func(what string) {
		t.Helper()
		g.gate.Shut()
		seen := len(g.gate.Dials())
		// It keeps a second between two CONNECTs, also over a restart.
		rig.Throughout(t, 1500*time.Millisecond, func() error {
			if len(g.gate.Dials()) > seen {
				return fmt.Errorf("a stopped agent dials")
			}
			return nil
		})
		begin := time.Now()
		g.Start()
		var first time.Time
		rig.Eventually(t, soon, func() error {
			if dials := g.gate.Dials(); len(dials) > seen {
				first = dials[seen]
				return nil
			}
			return fmt.Errorf("the agent does not dial")
		})
		t.Logf("%s: the first dial came %d ms after exec", what, first.Sub(begin).Milliseconds())
	}
	g.Stop()
	dial("an empty buffer")
	g.Stop()
	g.store(load{n: 305_000, size: 200}, 128*mib)
	dial("64 MiB in 305,000 messages")
	// And it is all there.
	rig.Eventually(t, soon, func() error {
		if n, _ := g.Status().At(t, "buffer.messages").(float64); n < 305_000 {
			return fmt.Errorf("%v messages are in the buffer; want 305,000", n)
		}
		return nil
	})
}

// TestStopWithBacklog: SIGTERM amid a flood of messages, with 60 MiB stored
// before, ends the service within 5 s, and what was acknowledged by then is
// delivered by the next one.
func TestStopWithBacklog(t *testing.T) {
	const n = 960
	g := newGateway(t, "", map[string]string{"buffer.max_size": `"256MiB"`, "cloud.publish_rate": "200"})
	g.Stop()
	g.store(load{n: n, size: 64 * kib}, 256*mib)
	g.gate.Shut()
	g.again()
	p := g.produce(load{from: n, n: 1000, size: 60 * kib}) // 18 of them fill the memory
	rig.Eventually(t, soon, func() error {
		if len(p.acked()) < 100 {
			return fmt.Errorf("%d messages are acknowledged", len(p.acked()))
		}
		return nil
	})
	begin := time.Now()
	if code := g.Stop(); code != 0 { // it fails after 5 s
		t.Errorf("exit code %d", code)
	}
	took := time.Since(begin)
	p.Kill()
	acked := len(p.acked())
	t.Logf("the stop took %d ms, with %d MiB stored and %d of the flood acknowledged", took.Milliseconds(), n*64/1024, acked)
	if acked == 1000 {
		t.Error("the flood was over before the stop: this says nothing")
	}
	g.again()
	g.goOnline()
	if _, missing := g.judge(2 * soon); missing != 0 {
		t.Errorf("%d messages are missing", missing)
	}
}
