package promise

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/test/rig"
)

// delivered is a message as the cloud got it.
type delivered struct {
	topic  string
	stream string
	seq    uint64
	number int // of a producer's message
}

// gap is a gap record as the cloud got it.
type gap struct {
	Stream   string
	From     uint64 `json:"from_seq"`
	To       uint64 `json:"to_seq"`
	Messages int
	Why      string
}

// capture is a mosquitto_sub that sees all that the gateway sends.
type capture struct {
	mu       sync.Mutex
	up       bool
	messages []delivered
	gaps     []gap
	wrong    []string // lines that it cannot read
}

func observe(t *testing.T, sim *rig.Sim) *capture {
	t.Helper()
	c := &capture{}
	args := append(sim.Mosquitto(t, "capture"), "-V", "mqttv5", "-d", "-F", "message\t%t\t%P\t%p", "-t", "dt/"+thing+"/#")
	cmd := exec.CommandContext(t.Context(), "stdbuf", append([]string{"-oL", "mosquitto_sub"}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		c.read(out)
		_ = cmd.Wait() // it was killed
	})
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // fails where it has ended
		work.Wait()
	})
	rig.Eventually(t, soon, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.up {
			return fmt.Errorf("mosquitto_sub is not subscribed")
		}
		return nil
	})
	return c
}

// read takes note of what mosquitto_sub says; of a payload only the beginning.
func (c *capture) read(out io.Reader) {
	in := bufio.NewScanner(out)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		c.note(in.Text())
	}
}

func (c *capture) note(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if strings.HasPrefix(line, "Subscribed (mid:") {
		c.up = true
	}
	fields := strings.SplitN(line, "\t", 4)
	if fields[0] != "message" {
		return
	}
	if len(fields) != 4 {
		c.wrong = append(c.wrong, line)
		return
	}
	if strings.HasSuffix(fields[1], "/gap") {
		var g gap
		if err := json.Unmarshal([]byte(fields[3]), &g); err != nil {
			c.wrong = append(c.wrong, line)
		}
		c.gaps = append(c.gaps, g)
		return
	}
	d := delivered{topic: fields[1]}
	for property := range strings.FieldsSeq(fields[2]) {
		name, value, _ := strings.Cut(property, ":")
		switch name {
		case "stream":
			d.stream = value
		case "seq":
			d.seq, _ = strconv.ParseUint(value, 10, 64) // 0 is found below
		}
	}
	if strings.Contains(d.topic, "/pump/") {
		var err error
		head, _, _ := strings.Cut(fields[3], " ")
		if d.number, err = strconv.Atoi(head); err != nil || d.stream == "" || d.seq == 0 {
			c.wrong = append(c.wrong, line[:min(len(line), 200)])
		}
	}
	c.messages = append(c.messages, d)
}

// numbers are those of the producers' messages, in the order in which they came
// first.
func (c *capture) numbers() (all []int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := map[int]bool{}
	for _, m := range c.messages {
		if strings.Contains(m.topic, "/pump/") && !seen[m.number] {
			seen[m.number] = true
			all = append(all, m.number)
		}
	}
	return all
}

// counted is how many messages the gap records count.
func (c *capture) counted(why string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, g := range c.gaps {
		if g.Why == why || why == "" {
			n += g.Messages
		}
	}
	return n
}

// holes are the places between 1 and the highest number of each stream that are
// neither delivered nor in a gap record.
func (c *capture) holes() (all []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := map[string]map[uint64]bool{}
	mark := func(stream string, seq uint64) {
		if seen[stream] == nil {
			seen[stream] = map[uint64]bool{}
		}
		seen[stream][seq] = true
	}
	for _, m := range c.messages {
		if m.stream != "" {
			mark(m.stream, m.seq)
		}
	}
	for _, g := range c.gaps {
		for seq := g.From; seq <= g.To; seq++ {
			mark(g.Stream, seq)
		}
	}
	for stream, seqs := range seen {
		for seq := range uint64(len(seqs)) {
			if !seen[stream][seq+1] {
				all = append(all, fmt.Sprintf("%s %d", stream, seq+1))
			}
		}
	}
	return all
}

// judge waits until the promise is kept: each acknowledged message is delivered or
// counted, and the order is that of the producers. Then it returns how many
// messages were acknowledged, and how many of them only counted.
func (g *gateway) judge(d time.Duration) (acked, missing int) {
	g.t.Helper()
	yes, refused := map[int]bool{}, 0
	for _, n := range g.stored {
		yes[n] = true
	}
	for _, p := range g.producers {
		took, no := p.answers()
		for _, n := range took {
			yes[n] = true
		}
		refused += len(no)
	}
	rig.Eventually(g.t, d, func() error {
		missing = 0
		came := map[int]bool{}
		for _, n := range g.cloud.numbers() {
			came[n] = true
		}
		for n := range yes {
			if !came[n] {
				missing++
			}
		}
		if n := g.cloud.counted(""); missing > n {
			return fmt.Errorf("of %d acknowledged messages %d are not delivered, and %d are counted", len(yes), missing, n)
		}
		if holes := g.cloud.holes(); len(holes) > refused { // one that was refused later has its place
			return fmt.Errorf("%d messages are neither delivered nor counted: %v", len(holes), holes[:min(10, len(holes))])
		}
		return nil
	})
	if numbers := g.cloud.numbers(); !slices.IsSorted(numbers) {
		g.t.Errorf("the order is not that of the producers")
	}
	if len(g.cloud.wrong) > 0 {
		g.t.Errorf("the cloud got %q", g.cloud.wrong)
	}
	return len(yes), missing
}
