package buffer

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jitr-agent/jitr-agent/pkg/buffer/seglog"
)

// What happens while something else is under way.

// slowDisk is the machine's, on which fsync waits as long as it is held.
type slowDisk struct {
	seglog.FS
	gate atomic.Pointer[chan struct{}] // nil: nothing waits
}

func newSlowDisk() *slowDisk { return &slowDisk{FS: seglog.Disk()} }

func (d *slowDisk) use(b *Buffer) { b.fs = d }

// hold makes fsync wait until release.
func (d *slowDisk) hold() (release func()) {
	gate := make(chan struct{})
	d.gate.Store(&gate)
	return func() {
		d.gate.Store(nil)
		close(gate)
		synctest.Wait()
	}
}

func (d *slowDisk) Create(path string) (seglog.File, error) {
	f, err := d.FS.Create(path)
	return slowFile{f, d}, err
}

func (d *slowDisk) Open(path string, write bool) (seglog.File, error) {
	f, err := d.FS.Open(path, write)
	return slowFile{f, d}, err
}

type slowFile struct {
	seglog.File
	disk *slowDisk
}

func (f slowFile) Sync() error {
	if gate := f.disk.gate.Load(); gate != nil {
		<-*gate
	}
	return f.File.Sync()
}

// There is a backlog of three, and two more are on their way when the link is
// cut in the middle of their fsync. Some are acknowledged before that.
func TestCutAmidFsync(t *testing.T) {
	for name, tt := range map[string]struct {
		acked, want []string
	}{
		"none acknowledged":    {nil, []string{"1", "2", "3", "4", "5"}},
		"the backlog":          {[]string{"1", "2", "3"}, []string{"4", "5"}},
		"the last":             {[]string{"5"}, []string{"1", "2", "3", "4"}},
		"one of each":          {[]string{"2", "4"}, []string{"1", "3", "5"}},
		"what was not written": {[]string{"4", "5"}, []string{"1", "2", "3"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				disk := newSlowDisk()
				b := begin(t, dir, nil, usual(), disk.use)
				var a answers
				b.put(&a, "1", "2", "3")
				elapse(time.Second)
				l := &line{answer: never}
				b.link(l)
				b.put(&a, "4", "5")
				release := disk.hold()
				elapse(3 * time.Second) // they are late, and on their way to the disk
				if got := a.list(); slices.Contains(got, "4") {
					t.Fatalf("safe before the fsync: %v", got)
				}
				for _, p := range l.unanswered(5) {
					if slices.Contains(tt.acked, string(p.message.Payload)) {
						p.outcome(0, nil)
					}
				}
				b.cut()
				release()
				l2 := &line{answer: never}
				b.link(l2)
				want(t, "sent on the next connection", l2.seen(), tt.want)
				crashed := begin(t, copyDir(t, dir), nil, usual())
				l3 := &line{}
				crashed.link(l3)
				for _, name := range tt.want {
					if !slices.Contains(l3.seen(), name) {
						t.Errorf("lost by a crash: %s", name)
					}
				}
				l2.finish(0)
				if s := b.Stats(); s.Messages != 0 || b.memory != 0 || b.inFlight != 0 {
					t.Errorf("in the end %+v, %d bytes, %d in flight", s, b.memory, b.inFlight)
				}
			})
		})
	}
}

// The log opens when the link works already: what it has is older than what is in
// flight, and comes behind it. It forgets nothing that is not acknowledged.
func TestLogOpenedLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "buffer")
		away := dir + ".away"
		b := begin(t, dir, nil, usual())
		var a answers
		b.put(&a, "1", "2", "3")
		b.stop()
		if err := os.Rename(dir, away); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		b = begin(t, dir, nil, usual())
		l := &line{answer: never}
		b.link(l)
		b.put(&a, "4", "5")
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(away, dir); err != nil {
			t.Fatal(err)
		}
		elapse(time.Minute)
		want(t, "sent", l.seen(), []string{"4", "5", "1", "2", "3"})
		want(t, "safe", a.list(), []string{"1", "2", "3", "4", "5"})
		for _, p := range l.unanswered(3) { // 4, 5 and 1
			p.outcome(0, nil)
		}
		elapse(time.Minute)
		crashed := begin(t, copyDir(t, dir), nil, usual())
		after := &line{}
		crashed.link(after)
		if got := after.seen(); !slices.Contains(got, "2") || !slices.Contains(got, "3") {
			t.Errorf("sent after a crash: %v; want 2 and 3 among them", got)
		}
		l2 := &line{}
		b.link(l2)
		want(t, "sent on the next connection", l2.seen(), []string{"2", "3"})
		if s := b.Stats(); s.Messages != 0 || b.memory != 0 || b.inFlight != 0 {
			t.Errorf("in the end %+v, %d bytes, %d in flight", s, b.memory, b.inFlight)
		}
	})
}

// Dead letters that cannot be kept do not keep others from the disk.
func TestDeadLettersHinderNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(deadDir(dir), nil, 0o600); err != nil { // no folder can be made there
			t.Fatal(err)
		}
		b := begin(t, dir, nil, usual())
		var a answers
		b.put(&a, "denied")
		elapse(time.Second)
		b.link(&line{answer: func(m Message) (byte, bool) { return 0x87, string(m.Payload) == "denied" }})
		elapse(5 * time.Minute) // the attempts are far apart by now
		b.put(&a, "1")
		elapse(usual().SpillAfter + 100*time.Millisecond)
		want(t, "safe", a.list(), []string{"denied", "1"})
		if err := os.Remove(deadDir(dir)); err != nil {
			t.Fatal(err)
		}
		elapse(time.Minute)
		want(t, "dead letters", b.dead, []string{"denied 0x87"})
	})
}

// On a link that works but does not answer, much that nobody waits for is before
// one that somebody waits for: that goes to the disk in time, and until then
// nothing runs in circles.
func TestMuchBeforeAnAwaitedOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, t.TempDir(), nil, usual())
		b.link(&line{answer: never})
		for range 10 {
			if err := b.Put(t.Context(), Message{Topic: "t", Payload: []byte(strings.Repeat(".", bulk))}, nil); err != nil {
				t.Fatal(err)
			}
		}
		var a answers
		b.put(&a, "1")
		elapse(usual().SpillAfter + 100*time.Millisecond)
		want(t, "safe", a.list(), []string{"1"})
	})
}

// A whole window that is refused for now is one sign, not a hundred: the pause is
// the first one.
func TestQuotaOfAWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, t.TempDir(), nil, usual())
		var a answers
		l := &line{answer: never}
		b.link(l)
		b.put(&a, names(100)...)
		l.finish(0x97)
		elapse(1500 * time.Millisecond) // 1 s, with the library's jitter of 50 %
		want(t, "sent", l.seen(), append(names(100), names(100)...))
	})
}

// However long the topic of gap records is denied, they do not become more.
func TestGapsDeniedAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := usual()
		limits.MaxAge = time.Hour
		b := begin(t, t.TempDir(), nil, limits)
		var a answers
		gaps := 0
		for i := range 20 {
			b.put(&a, fmt.Sprint("old ", i), fmt.Sprint("older ", i))
			elapse(2 * time.Hour)
			l := &line{answer: func(m Message) (byte, bool) {
				if m.Topic == "gap" {
					gaps++
					return 0x87, true
				}
				return 0, true
			}}
			b.link(l)
			elapse(time.Minute)
			b.cut()
		}
		if s := b.Stats(); len(b.gaps) != 1 || b.gaps[0].Messages != 40 || b.drops()[Aged] != 40 || s.Messages != 0 {
			t.Errorf("%d gap records, lost %v, %+v; want one of 40 messages", len(b.gaps), b.drops(), s)
		}
		if gaps == 0 || gaps > 40 {
			t.Errorf("they were sent %d times on 20 connections", gaps)
		}
	})
}

// A cut before they are counted makes no message count twice.
func TestAgedCountOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := usual()
		limits.MaxAge = time.Hour
		b := begin(t, t.TempDir(), nil, limits)
		var a answers
		b.put(&a, "1", "2", "3")
		elapse(2 * time.Hour)
		for range 3 {
			b.link(&line{})
			b.cut() // within pendAfter
		}
		l := &line{}
		b.link(l)
		elapse(time.Minute)
		if got := records(t, l); len(got) != 1 || got[0].Messages != 3 || b.drops()[Aged] != 3 {
			t.Errorf("gap records %+v, lost %v; want one of 3 messages", got, b.drops())
		}
	})
}

// Of what was acknowledged, a power cut makes flushEvery messages come again at
// most, also where no producer makes the log write.
func TestFlushEvery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		b := begin(t, dir, nil, usual())
		var a answers
		const all, acked = flushEvery + 500, flushEvery + 200
		b.put(&a, names(all)...)
		elapse(time.Second)
		n := 0
		b.link(&line{answer: func(Message) (byte, bool) { n++; return 0, n <= acked }})
		crashed := begin(t, copyDir(t, dir), nil, usual())
		l := &line{}
		crashed.link(l)
		if got := len(l.seen()); got < all-acked || got > all-flushEvery {
			t.Errorf("%d come after a power cut; %d were acknowledged of %d", got, acked, all)
		}
	})
}
