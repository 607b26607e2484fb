package promise

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/test/rig"
)

// producer is a program on the gateway that hands messages in: a mosquitto_pub
// at the unix socket, which says what it sends and which PUBACKs it gets. Each
// message begins with its number.
type producer struct {
	*rig.Process
	t *testing.T
	load
	feed sync.WaitGroup
}

// load is what a producer hands in.
type load struct {
	from, n int // numbers
	size    int // of a message, bytes
	rate    int // messages a second; 0: as fast as they are taken
}

func (l load) message(i int) string {
	head := strconv.Itoa(l.from+i) + " "
	return head + strings.Repeat(".", max(0, l.size-len(head)))
}

// produce starts a producer. It ends by itself when each message has its PUBACK.
func (g *gateway) produce(l load) *producer {
	g.t.Helper()
	in, out, err := os.Pipe()
	if err != nil {
		g.t.Fatal(err)
	}
	// mosquitto_pub would write what it says into a pipe when its buffer is full.
	p := &producer{t: g.t, load: l}
	p.Process = rig.StartProcessInput(g.t, nil, in, "stdbuf", "-oL", "mosquitto_pub", "--unix", filepath.Join(g.RunDir, "mqtt.sock"),
		"-V", "mqttv5", "-q", "1", "-d", "-l", "-i", fmt.Sprintf("producer-%d", l.from), "-t", "telemetry/pump/1")
	in.Close()
	ctx := g.t.Context()
	p.feed.Go(func() {
		defer out.Close()
		begin := time.Now() // a ticker would lose ticks on a busy machine
		for i := range l.n {
			if l.rate > 0 {
				select {
				case <-time.After(time.Until(begin.Add(time.Duration(i) * time.Second / time.Duration(l.rate)))):
				case <-ctx.Done():
					return
				}
			}
			if _, err := fmt.Fprintln(out, l.message(i)); err != nil {
				return // it has ended
			}
		}
	})
	g.t.Cleanup(func() {
		p.Kill()
		p.feed.Wait()
	})
	g.producers = append(g.producers, p)
	return p
}

// must hands a load in and waits until each message is acknowledged.
func (g *gateway) must(l load) {
	g.t.Helper()
	p := g.produce(l)
	d := time.Minute
	if l.rate > 0 {
		d += time.Duration(l.n/l.rate) * time.Second
	}
	g.finish(p, d)
}

var puback = regexp.MustCompile(`received PUBACK \(Mid: (\d+), RC:(\d+)\)`)

// answers are the numbers of the messages whose PUBACK means yes, and no.
// Packet identifiers count from 1 in the order of the messages.
func (p *producer) answers() (yes, no []int) {
	p.t.Helper()
	for _, m := range puback.FindAllStringSubmatch(p.Stdout.String(), -1) {
		mid, _ := strconv.Atoi(m[1]) // both are digits
		code, _ := strconv.Atoi(m[2])
		if n := p.from + mid - 1; code < 0x80 {
			yes = append(yes, n)
		} else {
			no = append(no, n)
		}
	}
	return yes, no
}

func (p *producer) acked() []int {
	p.t.Helper()
	yes, _ := p.answers()
	return yes
}
