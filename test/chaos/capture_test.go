package chaos

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/test/chaos/broker"
)

// thing is the gateway's name.
const thing = "gw-1"

// prefix is where the gateway puts its programs' messages.
const prefix = "dt/" + thing + "/"

// capture writes down what was seen at the cloud's side, in the lines that
// check reads. It is safe for concurrent use.
type capture struct {
	path string

	mu      sync.Mutex
	file    *os.File
	out     *bufio.Writer
	err     error
	arrived int       // messages so far
	latest  time.Time // of a line
}

var _ broker.Recorder = (*capture)(nil)

func newCapture(t *testing.T, dir string) *capture {
	t.Helper()
	c := &capture{path: filepath.Join(dir, "cloud.log"), latest: time.Now()}
	var err error
	if c.file, err = os.Create(c.path); err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewWriter(c.file)
	t.Cleanup(func() { c.file.Close() })
	return c
}

// line writes one line, as of now.
func (c *capture) line(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at(time.Now(), format, args...)
}

// at is line for another time, with the lock held.
func (c *capture) at(t time.Time, format string, args ...any) {
	c.latest = t
	if _, err := fmt.Fprintf(c.out, "%d "+format+"\n", append([]any{t.UnixNano()}, args...)...); err != nil {
		c.err = err
	}
}

// flush makes the file complete. Nothing may be written after it.
func (c *capture) flush(t *testing.T) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.out.Flush(); err != nil || c.err != nil {
		t.Fatal(err, c.err)
	}
}

func (c *capture) Session() { c.line("session") }
func (c *capture) Cut()     { c.line("cut") }
func (c *capture) kill()    { c.line("kill") }

func (c *capture) Violation(format string, args ...any) {
	c.line("violation %s", fmt.Sprintf(format, args...))
}

func (c *capture) Arrived(m broker.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.arrivedAt(time.Now(), m)
}

// arrivedAt writes down an arrival, with the lock held.
func (c *capture) arrivedAt(at time.Time, m broker.Message) {
	key, ok := keyOf(m.Payload)
	if !ok {
		return
	}
	if topic, _, _ := strings.Cut(key, " "); m.Topic != prefix+topic {
		c.at(at, "violation %s came on %s", key, m.Topic)
	}
	c.arrived++
	// A gateway that names no entry of its queue gives each message a new one.
	stream, seq := "-", fmt.Sprint(c.arrived)
	for _, p := range m.Properties {
		switch p[0] {
		case "stream":
			stream = p[1]
		case "seq":
			seq = p[1]
		}
	}
	c.at(at, "got %s %s %s", key, stream, seq)
}

// quiet is how long nothing has happened, and how many messages came.
func (c *capture) quiet() (time.Duration, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(c.latest), c.arrived
}

func (c *capture) Answered(code byte, m broker.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answeredAt(time.Now(), code, m)
}

// answeredAt writes down an answer, with the lock held.
func (c *capture) answeredAt(at time.Time, code byte, m broker.Message) {
	if key, ok := keyOf(m.Payload); ok {
		c.at(at, "puback 0x%02x %s", code, key)
	}
	if m.Topic != prefix+"gap" || code != broker.Taken {
		return
	}
	var gap struct {
		Stream   any
		From     uint64 `json:"from_seq"`
		To       uint64 `json:"to_seq"`
		Messages int
	}
	if err := json.Unmarshal(m.Payload, &gap); err != nil {
		c.at(at, "violation gap record %v: %q", err, m.Payload)
		return
	}
	c.at(at, "gap %v %d %d %d", gap.Stream, gap.From, gap.To, gap.Messages)
}

// keyOf is a message's topic and number, which its producer wrote at the
// beginning of the payload. Messages of the gateway itself have none.
func keyOf(payload []byte) (string, bool) {
	fields := strings.SplitN(string(payload), " ", 3)
	if len(fields) != 3 || strings.HasPrefix(fields[0], "{") {
		return "", false
	}
	return fields[0] + " " + fields[1], true
}

// denied says whether the cloud takes messages on a topic.
func denied(topic string) bool { return strings.HasSuffix(topic, "/denied") }
