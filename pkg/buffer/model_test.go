package buffer

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var (
	modelRuns = flag.Int("model.runs", 40, "how many lives of a gateway TestModel plays")
	modelSeed = flag.Uint64("model.seed", 1, "the seed of the first one")
)

// message is what the test knows of one that it put.
type message struct {
	stream  string
	seq     uint64
	topic   string
	awaited bool
	expiry  uint32 // what expired by one clock may be sent by another
}

// cloud is the other end in all its connections: what it took, and in which
// order it saw messages first.
type cloud struct {
	rnd    *rand.Rand
	took   map[int]bool
	first  []int        // numbers, at their first appearance
	seen   map[int]bool // in first
	passed map[int]bool // they were refused for now, so others may overtake them
	gaps   []record
	twice  int
	mood   string
	again  []int // came twice on one connection, without a reason
}

// connection is what came on one.
type connection map[int]bool

// take notes m, and says how the cloud answers.
func (c *cloud) take(on connection, m Message, mood string) (code byte, now bool) {
	var n int
	if m.Topic != "gap" {
		_, _ = fmt.Sscanf(string(m.Payload), "%d", &n)
		if on[n] && !c.passed[n] {
			c.again = append(c.again, n)
		}
		on[n] = true
		if !c.seen[n] {
			c.seen[n] = true
			c.first = append(c.first, n)
		} else {
			c.twice++
		}
	}
	switch {
	case strings.HasPrefix(m.Topic, "denied"):
		return 0x87, true
	case mood == "mute":
		return 0, false
	case mood == "moody" && c.rnd.IntN(10) == 0:
		c.passed[n] = true
		return 0x97, true
	case mood == "slow" && c.rnd.IntN(3) > 0:
		return 0, false
	}
	c.accept(m)
	return 0, true
}

// accept notes that m is acknowledged.
func (c *cloud) accept(m Message) {
	if m.Topic == "gap" {
		var r record
		if err := json.Unmarshal(m.Payload, &r); err != nil {
			panic(err)
		}
		c.gaps = append(c.gaps, r)
		return
	}
	var n int
	_, _ = fmt.Sscanf(string(m.Payload), "%d", &n)
	c.took[n] = true
}

func (c *cloud) counts(m message) bool {
	for _, g := range c.gaps {
		if g.Stream == m.stream && g.From <= m.seq && m.seq <= g.To {
			return true
		}
	}
	return false
}

// TestModel plays lives of a gateway: producers, links that come and go and
// answer in all ways, crashes, stops, reboots and clocks that are set. Then it
// asks the outside: what was acknowledged is delivered, counted or dead, and
// the order is kept.
func TestModel(t *testing.T) {
	runs := uint64(*modelRuns)
	if testing.Short() { // under an emulated processor
		runs = min(runs, 5)
	}
	for seed := *modelSeed; seed < *modelSeed+runs; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { live(t, seed) })
		})
	}
}

func live(t *testing.T, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 0))
	limits := usual()
	if seed%3 == 0 { // it is too small
		limits.MaxSize = 768 << 10
	}
	limits.RefuseNew = seed%6 == 0
	c := &cloud{rnd: rand.New(rand.NewPCG(seed, 1)), took: map[int]bool{}, seen: map[int]bool{}, passed: map[int]bool{}}
	all := map[int]message{}
	safe := map[int]bool{}
	dead := map[string]int{}
	w := &world{start: time.Now(), bootID: "boot 0"}
	dir := t.TempDir()
	b := begin(t, dir, w, limits)
	told := &answers{}
	moods := []string{"good", "moody", "mute", "slow"}
	var now *line       // the present connection, or the last one
	collect := func() { // what producers know by now
		for _, name := range told.list() {
			var n int
			_, _ = fmt.Sscanf(name, "%d", &n)
			safe[n] = true
		}
		for _, d := range b.dead {
			dead[strings.Fields(d)[0]]++
		}
	}
	again := func(d string) {
		dir = d
		told = &answers{}
		b = begin(t, dir, w, limits)
	}
	for step := range 150 {
		switch rnd.IntN(18) {
		case 0, 1, 2, 3, 4:
			for range rnd.IntN(8) {
				n := len(all)
				m := message{stream: stamp{stream: b.stream}.streamID(), topic: "t", awaited: rnd.IntN(5) > 0, expiry: uint32(rnd.IntN(2) * rnd.IntN(2000))}
				if rnd.IntN(20) == 0 {
					m.topic = "denied"
				}
				payload := fmt.Sprintf("%d ", n)
				if rnd.IntN(3) == 0 {
					payload += strings.Repeat("x", rnd.IntN(40<<10))
				}
				var done func(error)
				if m.awaited {
					done = told.done(fmt.Sprint(n))
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				err := b.Put(ctx, Message{Topic: m.topic, Payload: []byte(payload), Expiry: m.expiry}, done)
				cancel()
				if err == nil {
					m.seq = b.seq
				}
				all[n] = m
			}
		case 5, 6:
			elapse(time.Duration(rnd.IntN(3000)) * time.Millisecond)
		case 7:
			elapse(time.Duration(rnd.IntN(600)) * time.Second)
		case 8, 9:
			b.cut()
			on := connection{}
			c.mood = moods[rnd.IntN(4)]
			now = &line{window: 1 + rnd.IntN(20), taken: c.accept, answer: func(m Message) (byte, bool) { return c.take(on, m, c.mood) }}
			b.link(now)
		case 10:
			b.cut()
		case 11: // kill -9, and half of the time a power cut with it
			synctest.Wait()
			collect()
			d := copyDir(t, dir)
			b.stop() // what it does from here on did not happen
			if rnd.IntN(2) == 0 {
				w = &world{start: time.Now(), bootID: fmt.Sprint("boot ", step), floor: w.floor}
			}
			again(d)
		case 12:
			b.stop()
			collect()
			again(dir)
		case 14, 15, 16, 17: // the cloud changes its mood, or what was slow is answered
			if now == nil {
				break
			}
			mood := moods[rnd.IntN(4)]
			now.mu.Lock()
			c.mood = mood
			now.mu.Unlock()
			now.answerFirst(rnd.IntN(10), 0)
		case 13: // somebody sets the clock: the floor is above it, or not
			w.setFloor(time.Now().Add(time.Duration(rnd.IntN(2)*48-24) * time.Hour))
		}
	}
	on := connection{}
	good := &line{answer: func(m Message) (byte, bool) { return c.take(on, m, "good") }}
	b.link(good)
	for range 100 {
		elapse(10 * time.Second)
	}
	if s := b.Stats(); s.Messages != 0 || s.State != StateOK || b.memory != 0 || b.inFlight != 0 {
		t.Errorf("after a good link: %+v, %d bytes in memory, %d in flight", s, b.memory, b.inFlight)
	}
	b.stop()
	collect()

	lost := 0
	for n := range safe {
		if !c.took[n] && !c.counts(all[n]) && dead[fmt.Sprint(n)] == 0 {
			lost++
			t.Errorf("message %d (%+v) was acknowledged and is lost", n, all[n])
		}
	}
	if len(c.again) > 0 {
		t.Errorf("messages %v came twice on one connection", c.again)
	}
	highest := -1
	for _, n := range c.first {
		if n < highest && !c.passed[n] && all[n].expiry == 0 {
			t.Errorf("message %d came first behind %d", n, highest)
		}
		highest = max(highest, n)
	}
	t.Logf("%d messages, %d safe, %d delivered, %d gap records, %d dead, %d twice", len(all), len(safe), len(c.took), len(c.gaps), len(dead), c.twice)
	if len(safe) < 20 {
		t.Errorf("only %d messages were safe: this says nothing", len(safe))
	}
}
