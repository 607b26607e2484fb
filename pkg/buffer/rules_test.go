package buffer

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// drops are the messages that were lost so far.
func (b *bench) drops() map[Why]uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.lost)
}

// said are the states that were told so far.
func (b *bench) said() []State {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.states)
}

// Offline a message is safe with the fsync: not before, and not where the disk
// fails.
func TestNotSafeBeforeFsync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "buffer")
		b := begin(t, dir, nil, usual())
		if err := os.WriteFile(dir, nil, 0o600); err != nil { // no folder can be made there
			t.Fatal(err)
		}
		var a answers
		b.put(&a, "1", "2")
		elapse(10 * time.Second)
		want(t, "safe on a disk that fails", a.list(), nil)
		if s := b.Stats(); s.State != StateDamaged || s.Memory != 2 {
			t.Errorf("on a disk that fails: %+v", s)
		}
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
		elapse(time.Minute)
		want(t, "safe when the disk works again", a.list(), []string{"1", "2"})
		if s := b.Stats(); s.State != StateOK || s.Memory != 0 {
			t.Errorf("when the disk works again: %+v", s)
		}
	})
}

// keep_free: the disk has room, but it is not ours. It heals when there is more.
func TestKeepFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := usual()
		limits.KeepFree = 1 << 60 // more than any disk has
		dir := t.TempDir()
		b := begin(t, dir, nil, limits)
		var a answers
		b.put(&a, "1")
		elapse(10 * time.Second)
		want(t, "safe", a.list(), nil)
		if s := b.Stats(); s.State != StateDiskFull {
			t.Errorf("state %s", s.State)
		}
		if files, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(files) != 0 {
			t.Errorf("it wrote %v, %v", files, err)
		}
		limits.KeepFree = 0
		b.SetLimits(limits)
		elapse(time.Minute)
		want(t, "safe when there is room", a.list(), []string{"1"})
		if s := b.Stats(); s.State != StateOK {
			t.Errorf("state %s when there is room", s.State)
		}
	})
}

// Where it is the disk that lacks room, not max_size, the oldest give way too,
// and that is what is said.
func TestDropForTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := small()
		b := begin(t, t.TempDir(), nil, limits)
		var a answers
		b.fill(&a, 14) // into 3 of the 5 segments
		limits.KeepFree = 1 << 60
		b.SetLimits(limits)
		b.fill(&answers{}, 30)
		if s := b.Stats(); s.State != StateDiskFull || b.drops()[Full] == 0 || s.Bytes > limits.MaxSize/2+bulk {
			t.Errorf("%+v, lost %v", s, b.drops())
		}
		elapse(5 * time.Minute) // nothing happens
		if got := b.said(); !slices.Equal(got, []State{StateDiskFull}) {
			t.Errorf("states %v; want disk-full only", got)
		}
		b.put(nil, "one more")
		elapse(idleCommit) // now it has just looked
		limits.KeepFree = 0
		b.SetLimits(limits)
		elapse(time.Minute) // it looks by itself
		if s := b.Stats(); s.State != StateOK {
			t.Errorf("with room again: %+v", s)
		}
	})
}

// What nobody waits for is on the disk after a stop.
func TestOwnAtStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		b := begin(t, dir, nil, usual())
		b.put(nil, "own")
		b.stop()
		b = begin(t, dir, nil, usual())
		l := &line{}
		b.link(l)
		want(t, "sent after the start", l.seen(), []string{"own"})
	})
}

// A message that is too old stays until it is counted on the disk.
func TestAgedNotUncounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		limits := usual()
		limits.MaxAge = time.Hour
		b := begin(t, dir, nil, limits)
		var a answers
		b.put(&a, "1", "2")
		elapse(2 * time.Hour)
		hinder := filepath.Join(dir, gapFileName)
		if err := os.Mkdir(hinder, 0o700); err != nil { // no file can take its place
			t.Fatal(err)
		}
		l := &line{}
		b.link(l)
		elapse(10 * time.Second)
		if s := b.Stats(); s.Messages != 2 || len(l.gaps()) != 0 || len(b.drops()) != 0 {
			t.Errorf("they are gone and not counted: %+v, gap records %v, lost %v", s, l.gaps(), b.drops())
		}
		if err := os.Remove(hinder); err != nil {
			t.Fatal(err)
		}
		elapse(time.Minute)
		if got := records(t, l); len(got) != 1 || got[0].Messages != 2 || got[0].Why != string(Aged) {
			t.Errorf("gap records %+v; want one of 2 messages", got)
		}
		if s := b.Stats(); s.Messages != 0 || s.State != StateOK {
			t.Errorf("afterwards %+v", s)
		}
	})
}

// The log forgets nothing that is not settled, however much behind it is, and
// however long that lasts.
func TestAckWaitsForTheOldest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		b := begin(t, dir, nil, usual())
		var a answers
		b.put(&a, "1", "2", "3")
		elapse(time.Second)
		l := &line{answer: func(m Message) (byte, bool) { return 0, string(m.Payload) != "1" }}
		b.link(l)
		elapse(time.Minute) // longer than flushAfter
		crashed := begin(t, copyDir(t, dir), nil, usual())
		again := &line{}
		crashed.link(again)
		if got := again.seen(); len(got) == 0 || got[0] != "1" {
			t.Errorf("sent after a crash: %v; want 1 first", got)
		}
		l.finish(0)
		if s := b.Stats(); s.Messages != 0 {
			t.Errorf("stats after the last PUBACK: %+v", s)
		}
	})
}

// A message that waits in memory for the rate to allow it may expire there.
func TestExpiresBeforeItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := usual()
		limits.Rate, limits.SpillAfter = 1, time.Hour
		dir := filepath.Join(t.TempDir(), "buffer")
		b := begin(t, dir, nil, limits)
		l := &line{}
		b.link(l)
		var a answers
		b.put(&a, "1", "2")
		if err := b.Put(t.Context(), Message{Topic: "t", Payload: []byte("short"), Expiry: 1}, a.done("short")); err != nil {
			t.Fatal(err)
		}
		b.put(&a, "3")
		elapse(10 * time.Second)
		want(t, "sent", l.seen(), []string{"1", "2", "3"})
		if got := records(t, l); len(got) != 1 || got[0].Why != string(Expired) || got[0].From != 3 || got[0].To != 3 {
			t.Errorf("gap records %+v; want one of message 3", got)
		}
		if n := len(a.list()); n != 4 {
			t.Errorf("%d producers were told; want 4", n)
		}
	})
}
