package buffer

import (
	"context"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// bench is a buffer at work in virtual time, with a link that the test cuts.
type bench struct {
	*Buffer
	t    *testing.T
	dir  string
	stop func() // ends the buffer as the service does

	mu      sync.Mutex
	lost    map[Why]uint64
	dead    []string
	states  []State
	hangUp  func()
	records int
}

// world is the clock of a machine: it goes on when a buffer is opened again.
type world struct {
	start  time.Time
	bootID string
	mu     sync.Mutex
	floor  time.Time
}

func (w *world) setFloor(at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.floor = at
}

func (w *world) getFloor() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.floor
}

func (w *world) clock() Clock {
	return Clock{BootID: w.bootID, Boot: func() time.Duration { return time.Hour + time.Since(w.start) }, Floor: w.getFloor}
}

func usual() Limits {
	return Limits{MaxSize: 2 << 20, MaxAge: 168 * time.Hour, SpillAfter: 2 * time.Second}
}

// begin opens a buffer in dir.
func begin(t *testing.T, dir string, w *world, limits Limits, with ...func(*Buffer)) *bench {
	t.Helper()
	if w == nil {
		w = &world{start: time.Now(), bootID: "a boot"}
	}
	b := &bench{t: t, dir: dir, lost: map[Why]uint64{}}
	b.Buffer = New(Config{
		Dir: dir, Limits: limits, Clock: w.clock(), GapTopic: func() string { return "gap" },
		Lost: func(n uint64, why Why, records int) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.lost[why] += n
			b.records += records
		},
		DeadLetter: func(m Message, code byte) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.dead = append(b.dead, fmt.Sprintf("%s %#x", m.Payload, code))
		},
		Changed: func(s State, _ error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.states = append(b.states, s)
		},
	})
	for _, f := range with {
		f(b.Buffer)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() { b.Run(ctx) })
	b.stop = sync.OnceFunc(func() {
		b.cut()
		cancel()
		work.Wait()
	})
	t.Cleanup(b.stop)
	synctest.Wait()
	return b
}

// link connects the buffer to l.
func (b *bench) link(l *line) {
	b.t.Helper()
	b.cut()
	ctx, cancel := context.WithCancel(b.t.Context())
	var work sync.WaitGroup
	work.Go(func() { b.Drain(ctx, l) })
	b.hangUp = func() {
		cancel()
		work.Wait()
		l.end()
	}
	synctest.Wait()
}

// cut ends the connection.
func (b *bench) cut() {
	if b.hangUp != nil {
		b.hangUp()
		b.hangUp = nil
	}
	synctest.Wait()
}

// answers collects what producers are told.
type answers struct {
	mu   sync.Mutex
	safe []string
	errs map[string]error
}

func (a *answers) done(name string) func(error) {
	return func(err error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.errs == nil {
			a.errs = map[string]error{}
		}
		if _, twice := a.errs[name]; twice || slices.Contains(a.safe, name) {
			panic(name + " was answered twice")
		}
		if err == nil {
			a.safe = append(a.safe, name)
		} else {
			a.errs[name] = err
		}
	}
}

func (a *answers) list() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.safe)
}

func (a *answers) err(name string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.errs[name]
}

// put hands messages in; their payloads are their names.
func (b *bench) put(a *answers, names ...string) {
	b.t.Helper()
	for _, n := range names {
		var done func(error)
		if a != nil {
			done = a.done(n)
		}
		if err := b.Put(b.t.Context(), Message{Topic: "t", Payload: []byte(n)}, done); err != nil {
			b.t.Fatalf("put %s: %v", n, err)
		}
	}
	synctest.Wait()
}

// line is a session whose outcomes the test decides. Without an answer it takes
// everything.
type line struct {
	answer func(m Message) (code byte, now bool)
	taken  func(m Message) // by finish
	window int             // how many may be open; 0: any number

	mu   sync.Mutex
	sent []Message
	open []publish
	free chan struct{} // closed by finish
}

// publish is one that is not answered.
type publish struct {
	message Message
	outcome func(code byte, err error)
}

func (l *line) Send(ctx context.Context, m Message, outcome func(byte, error)) error {
	l.mu.Lock()
	for l.window > 0 && len(l.open) >= l.window {
		if l.free == nil {
			l.free = make(chan struct{})
		}
		free := l.free
		l.mu.Unlock()
		select {
		case <-free:
		case <-ctx.Done():
			return ctx.Err()
		}
		l.mu.Lock()
	}
	l.sent = append(l.sent, m)
	code, now := byte(0), true
	if l.answer != nil {
		code, now = l.answer(m)
	}
	if !now {
		l.open = append(l.open, publish{m, outcome})
	}
	l.mu.Unlock()
	if now {
		outcome(code, nil)
	}
	return nil
}

// unanswered takes the first n that are open off the line.
func (l *line) unanswered(n int) []publish {
	l.mu.Lock()
	defer l.mu.Unlock()
	n = min(n, len(l.open))
	open := l.open[:n:n]
	l.open = l.open[n:]
	if l.free != nil {
		close(l.free)
		l.free = nil
	}
	return open
}

// finish answers everything that is open.
func (l *line) finish(code byte) { l.answerFirst(math.MaxInt, code) }

// answerFirst answers the first n that are open.
func (l *line) answerFirst(n int, code byte) {
	for _, p := range l.unanswered(n) {
		if l.taken != nil {
			l.mu.Lock()
			l.taken(p.message)
			l.mu.Unlock()
		}
		p.outcome(code, nil)
	}
	synctest.Wait()
}

// end tells what is open that the connection has ended.
func (l *line) end() {
	for _, p := range l.unanswered(math.MaxInt) {
		p.outcome(0, context.Canceled)
	}
}

// seen are the payloads that were sent on other topics than "gap".
func (l *line) seen() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var names []string
	for _, m := range l.sent {
		if m.Topic != "gap" {
			names = append(names, string(m.Payload))
		}
	}
	return names
}

// gaps are the gap records that were sent.
func (l *line) gaps() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []string
	for _, m := range l.sent {
		if m.Topic == "gap" {
			all = append(all, string(m.Payload))
		}
	}
	return all
}

func never(Message) (byte, bool) { return 0, false }

func names(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = strconv.Itoa(i)
	}
	return all
}

func want(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %v; want %v", what, got, want)
	}
}

// elapse lets virtual time pass, and what falls due in it come to an end.
func elapse(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// copyDir is the disk as it is now.
func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return to
}
