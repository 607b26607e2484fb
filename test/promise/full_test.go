package promise

import (
	"fmt"
	"testing"
)

const (
	mib = 1 << 20
	kib = 1 << 10
)

// TestOverflow: an outage is longer than max_size has room for. The oldest give
// way and are counted.
func TestOverflow(t *testing.T) {
	t.Parallel()
	g := newGateway(t, "", map[string]string{"buffer.max_size": `"4MiB"`})
	g.goOffline()
	g.must(load{n: 4000, size: 2 * kib})
	g.buffer(soon, "full")
	g.said("buffer-full")
	g.said("messages-dropped")
	g.goOnline()
	n, missing := g.judge(soon)
	g.buffer(soon, "ok")
	t.Logf("%d acknowledged, %d of them counted and not delivered", n, missing)
	if missing < 1000 || g.cloud.counted("full") != missing {
		t.Errorf("%d are missing, %d are counted as full", missing, g.cloud.counted("full"))
	}
	s := g.Status()
	if dropped, gaps := s.At(t, "counters.dropped"), s.At(t, "counters.gaps"); dropped != float64(missing) || gaps == 0.0 {
		t.Errorf("the status has %v dropped and %v gap records; want %d dropped", dropped, gaps, missing)
	}
}

// TestRefuseNew is the same where nothing may give way: the newest are refused,
// and nothing is lost.
func TestRefuseNew(t *testing.T) {
	t.Parallel()
	g := newGateway(t, "", map[string]string{"buffer.max_size": `"4MiB"`, "buffer.when_full": `"refuse-new"`})
	g.goOffline()
	p := g.produce(load{n: 4000, size: 2 * kib})
	g.buffer(soon, "full")
	g.said("buffer-full")
	p.Wait(soon)
	yes, no := p.answers()
	if len(yes)+len(no) != 4000 || len(no) < 1000 || len(yes) < 1000 {
		t.Errorf("%d were acknowledged and %d refused of 4000", len(yes), len(no))
	}
	g.goOnline()
	n, missing := g.judge(soon)
	g.buffer(soon, "ok")
	if missing != 0 || g.cloud.counted("") != 0 {
		t.Errorf("%d of %d acknowledged messages are missing, %d are counted", missing, n, g.cloud.counted(""))
	}
	g.must(load{from: 4000, n: 100, size: 2 * kib}) // it takes messages again
	g.judge(soon)
}

// TestDiskFull: the file system has less room than max_size. The buffer leaves
// keep_free to others, says what is wrong, and goes on as when_full says.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	for _, whenFull := range []string{"drop-oldest", "refuse-new"} {
		t.Run(whenFull, func(t *testing.T) {
			t.Parallel()
			const keep = 16 * mib
			d := newDisk(t)
			g := newGateway(t, d.Folder, map[string]string{
				"buffer.when_full": fmt.Sprintf("%q", whenFull), "buffer.keep_free": `"16MiB"`,
			})
			d.leave(keep + 4*mib)
			g.goOffline()
			p := g.produce(load{n: 4000, size: 2 * kib})
			g.buffer(soon, "disk-full")
			if whenFull == "drop-oldest" {
				p.Wait(soon)
				g.buffer(0, "disk-full") // still
			}
			g.said("buffer-disk-full")
			if free := d.free(); free < keep {
				t.Errorf("%d bytes are free; keep_free is %d", free, keep)
			}
			d.release()
			p.Wait(soon)                                     // with refuse-new it waited for the room
			g.must(load{from: 4000, n: 1000, size: 2 * kib}) // with room it stores again
			g.buffer(soon, "ok")
			g.said("buffer-ok")
			g.goOnline()
			n, missing := g.judge(soon)
			yes, no := p.answers()
			t.Logf("%d acknowledged, %d counted and not delivered", n, missing)
			if len(yes) != 4000 || len(no) != 0 || whenFull == "drop-oldest" != (missing > 0) {
				t.Errorf("%d of the first 4000 were acknowledged and %d refused; of all %d are missing", len(yes), len(no), missing)
			}
		})
	}
}

// TestDiskUsedUp: another program has taken the very last block. Nothing is
// dropped uncounted, because the gap record needs a block too.
func TestDiskUsedUp(t *testing.T) {
	t.Parallel()
	for _, whenFull := range []string{"drop-oldest", "refuse-new"} {
		t.Run(whenFull, func(t *testing.T) {
			t.Parallel()
			d := newDisk(t)
			g := newGateway(t, d.Folder, map[string]string{
				"buffer.when_full": fmt.Sprintf("%q", whenFull), "buffer.keep_free": `"0B"`,
			})
			g.goOffline()
			g.must(load{n: 1000, size: 2 * kib})
			d.useUp()
			p := g.produce(load{from: 1000, n: 4000, size: 2 * kib})
			g.buffer(soon, "disk-full")
			g.said("buffer-disk-full")
			g.none(p)
			d.release()
			p.Wait(2 * soon)
			g.buffer(soon, "ok")
			g.goOnline()
			n, missing := g.judge(soon)
			yes, no := p.answers()
			t.Logf("%d acknowledged, %d refused, %d counted and not delivered", n, len(no), missing)
			if missing != 0 || len(yes)+len(no) != 4000 {
				t.Errorf("%d acknowledged and %d refused of 4000; %d are missing, %d are counted", len(yes), len(no), missing, g.cloud.counted(""))
			}
		})
	}
}
