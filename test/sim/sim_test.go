package main

import (
	"io"
	"math/rand/v2"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/pkg/jitr"
)

// The targets, with a quarter of the fleets and of the quotas.
func TestTargets(t *testing.T) {
	checks := targets(4, 1)
	for _, c := range checks {
		switch {
		case !c.ok && c.impossible == "":
			t.Errorf("%s: %s: %s", c.scenario, c.target, c.got)
		case c.ok && c.impossible != "":
			t.Errorf("%s: %s: %s, which was said to be impossible", c.scenario, c.target, c.got)
		}
	}
	if len(checks) < 30 {
		t.Errorf("%d targets are checked; want 30 or more", len(checks))
	}
}

// The page shows what make sim prints for the agent.
func TestPageIsCurrent(t *testing.T) {
	if testing.Short() {
		t.Skip("runs whole fleets")
	}
	content, err := os.ReadFile("../../docs/first-connect.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"targets": targetTable(targets(1, 1)), "misjudged": misjudgedTable(1), "peers": peerTable()} {
		_, got, _, err := split(string(content), name)
		if err != nil {
			t.Error(err)
		} else if strings.TrimSpace(got) != strings.TrimSpace(want) {
			t.Errorf("docs/first-connect.md, table %s, is stale; make sim writes it anew\nhas:\n%s\nwant:\n%s", name, got, want)
		}
	}
}

// A throttled account closes connections as a missing permission does. A storm
// must not look like a refusal, and a refusal must still be found.
func TestStormIsNoRefusal(t *testing.T) {
	const devices = 3_000
	for _, rate := range []int{15, 5} {
		r := misjudged(rate, 1)
		if !r.all || r.rejected != 0 {
			t.Errorf("%d CONNECT/s: %d of %d entered %s, all in: %v", rate, r.rejected, devices, jitr.Rejected, r.all)
		}
	}
	f := fleet{
		size: 100, seed: 1, client: maker(newAgent).each(true), horizon: time.Hour,
		start: func(_ int, c client) time.Duration { return c.lost(time.Hour, 0) },
	}
	if o := f.run(&quotaServer{refusal: io.EOF}); o.rejected() != 100 {
		t.Errorf("of 100 agents that nobody lets in, %d entered %s", o.rejected(), jitr.Rejected)
	}
}

// The models are only worth something if they repeat.
func TestSameSeedSameFleet(t *testing.T) {
	run := func(seed uint64) stormResult {
		r, _, _ := powerOn(ours, newAgent, 500, 500, 1, seed)
		r.clients = nil
		return r
	}
	if a, b := run(7), run(7); !reflect.DeepEqual(a, b) {
		t.Error("the same seed gave another run")
	}
	if a, b := run(7), run(8); reflect.DeepEqual(a, b) {
		t.Error("another seed gave the same run")
	}
}

// One client id, one CONNECT a second, whatever the schedule says.
func TestAgentKeepsTheGap(t *testing.T) {
	a := newAgent(rand.New(rand.NewPCG(1, 1)), true)
	now := time.Duration(0)
	a.lost(time.Hour, now)
	for range 100 {
		a.sent(now)
		next := now + a.refused(io.EOF, now)
		if next-now < connectGap {
			t.Fatalf("a CONNECT after %v", next-now)
		}
		now = next
	}
}

func TestQueueOrders(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var q queue
	for range 1000 {
		q.push(arrival{time.Duration(random.IntN(50)), int32(random.IntN(1 << 20))})
	}
	last := arrival{-1, 0}
	for range 1000 {
		a := q.pop()
		if a.before(last) {
			t.Fatalf("%v came after %v", a, last)
		}
		last = a
	}
}

func TestQuotaServer(t *testing.T) {
	s := quotaServer{perSecond: 2, refusal: io.EOF}
	in := 0
	for _, at := range []time.Duration{0, 1, 2, time.Second, time.Second + 1, time.Second + 2, 9 * time.Second} {
		if s.connect(0, at) == nil {
			in++
		}
	}
	if in != 5 {
		t.Errorf("%d of 7 got in; want 2 of 3, 2 of 3 and 1", in)
	}
}

// The activator pays for a certificate once, and activates at the quota's pace.
func TestActivationServer(t *testing.T) {
	s := newActivationServer(20, 1000, 10, 1, 1)
	for round := range 3 {
		for device := range 20 {
			if s.connect(device, time.Duration(round)) == nil {
				t.Fatal("a new device was let in")
			}
		}
	}
	s.work(time.Minute)
	last := time.Duration(0)
	for _, at := range s.active {
		last = max(last, at)
	}
	if s.calls != 20 || s.events != 60 {
		t.Errorf("%d calls for %d events; want 20 for 60", s.calls, s.events)
	}
	// 20 calls at 10/s begin within 1.9 s; 40 duplicates cost a millisecond each.
	if low, high := 1900*time.Millisecond+callsTake, 1940*time.Millisecond+callsTake; last < low || last > high {
		t.Errorf("the last one was active after %v; want %v to %v", last, low, high)
	}
}
