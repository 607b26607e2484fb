package buffer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A link that works costs the disk nothing, and a message is safe with its
// PUBACK, not before.
func TestOnline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "buffer")
		b := begin(t, dir, nil, usual())
		l := &line{answer: never}
		b.link(l)
		var a answers
		b.put(&a, "1", "2")
		want(t, "safe before the PUBACK", a.list(), nil)
		if s := b.Stats(); s.Messages != 2 || s.Memory != 2 || s.InFlight != 2 || s.State != StateOK {
			t.Errorf("stats %+v", s)
		}
		elapse(1900 * time.Millisecond)
		l.finish(0)
		want(t, "safe", a.list(), []string{"1", "2"})
		l.answer = nil
		b.put(&a, names(500)[3:]...)
		elapse(time.Minute)
		if got := len(a.list()); got != 499 {
			t.Errorf("%d are safe; want 499", got)
		}
		want(t, "sent", l.seen()[2:], names(500)[3:])
		if s := b.Stats(); s.Messages != 0 || s.Bytes != 0 || s.Acked != 499 || s.InFlight != 0 || b.memory != 0 || b.inFlight != 0 {
			t.Errorf("stats %+v", s)
		}
		b.stop()
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("something was written: %v", err)
		}
	})
}

// stream and seq are on every message, and what the producer gave stays.
func TestProperties(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := &world{start: time.Now(), bootID: "a boot"}
		b := begin(t, dir, w, usual())
		full := Message{
			Topic: "t", Payload: []byte("p"), ContentType: "c", ResponseTopic: "r", CorrelationData: []byte{0, 1},
			UserProperties: [][2]string{{"a", "b"}, {"a", "c"}}, Text: true, Expiry: 100,
		}
		if err := b.Put(t.Context(), full, func(error) {}); err != nil {
			t.Fatal(err)
		}
		elapse(10 * time.Second) // offline: it goes to the disk
		b.stop()
		b = begin(t, dir, w, usual())
		elapse(10 * time.Second)
		l := &line{}
		b.link(l)
		b.put(nil, "q")
		if len(l.sent) != 2 {
			t.Fatalf("%d messages were sent; want 2", len(l.sent))
		}
		m := l.sent[0]
		if m.Topic != "t" || string(m.Payload) != "p" || m.ContentType != "c" || m.ResponseTopic != "r" || string(m.CorrelationData) != "\x00\x01" || !m.Text {
			t.Errorf("sent %+v", m)
		}
		if m.Expiry != 80 {
			t.Errorf("an expiry of %d s goes on; want 80, because 20 have passed", m.Expiry)
		}
		var keys []string
		for _, p := range m.UserProperties {
			keys = append(keys, p[0])
		}
		want(t, "user properties", keys, []string{"a", "a", "stream", "seq"})
		other := l.sent[1].UserProperties
		if m.UserProperties[2][1] == other[0][1] {
			t.Error("two runs have one stream")
		}
		if m.UserProperties[3][1] != "1" || other[1][1] != "1" {
			t.Errorf("seq %s and %s; want 1 in each stream", m.UserProperties[3][1], other[1][1])
		}
	})
}

// A PUBACK that is late sends the message to the disk; then it is safe.
func TestSpillAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		b := begin(t, dir, nil, usual())
		l := &line{answer: never}
		b.link(l)
		var a answers
		b.put(&a, "1")
		elapse(time.Second)
		b.put(&a, "2")
		elapse(1100 * time.Millisecond)
		want(t, "safe after 2.1 s", a.list(), []string{"1"})
		elapse(time.Second)
		want(t, "safe after 3.1 s", a.list(), []string{"1", "2"})
		want(t, "sent", l.seen(), []string{"1", "2"})
		if s := b.Stats(); s.Messages != 2 || s.Memory != 0 || s.InFlight != 2 {
			t.Errorf("stats %+v", s)
		}
		l.finish(0)
		elapse(10 * time.Second)
		if s := b.Stats(); s.Messages != 0 {
			t.Errorf("stats after the PUBACKs: %+v", s)
		}
		// The log knows: nothing comes again after a crash.
		again := begin(t, copyDir(t, dir), nil, usual())
		l2 := &line{}
		again.link(l2)
		want(t, "sent after a crash", l2.seen(), nil)
	})
}

// Offline a producer waits for one group commit; our own telemetry waits for
// more, unless it is before something awaited.
func TestOffline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, t.TempDir(), nil, usual())
		var a answers
		b.put(nil, "own")
		elapse(5 * time.Second)
		if s := b.Stats(); s.Memory != 1 {
			t.Errorf("own telemetry was written after 5 s: %+v", s)
		}
		elapse(6 * time.Second)
		if s := b.Stats(); s.Memory != 0 || s.Messages != 1 {
			t.Errorf("own telemetry was not written after 11 s: %+v", s)
		}
		b.put(nil, "own 2")
		b.put(&a, "1", "2")
		want(t, "safe at once", a.list(), nil)
		elapse(110 * time.Millisecond)
		want(t, "safe after 0.1 s", a.list(), []string{"1", "2"})
		l := &line{}
		b.link(l)
		want(t, "sent", l.seen(), []string{"own", "own 2", "1", "2"})
	})
}

// What was acknowledged by the disk survives a crash, and what was not is
// answered when the buffer stops.
func TestCrashAndStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		b := begin(t, dir, nil, usual())
		var a answers
		b.put(&a, "1", "2")
		elapse(110 * time.Millisecond)
		b.put(&a, "3")
		crashed := copyDir(t, dir)
		b.stop()
		want(t, "safe after the stop", a.list(), []string{"1", "2", "3"})
		for _, tt := range []struct {
			dir  string
			want []string
		}{{crashed, []string{"1", "2"}}, {dir, []string{"1", "2", "3"}}} {
			b := begin(t, tt.dir, nil, usual())
			if s := b.Stats(); s.Messages != int64(len(tt.want)) || s.Oldest.IsZero() {
				t.Errorf("stats %+v", s)
			}
			l := &line{}
			b.link(l)
			want(t, "sent after the start", l.seen(), tt.want)
			b.stop()
		}
		if err := b.Put(t.Context(), Message{}, nil); !errors.Is(err, ErrClosed) {
			t.Errorf("Put after the end: %v", err)
		}
	})
}

// A new connection begins with the oldest that is not acknowledged, wherever it
// is, and keeps the order.
func TestRewind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, t.TempDir(), nil, usual())
		var a answers
		l := &line{answer: func(m Message) (byte, bool) { return 0, string(m.Payload) == "1" }}
		b.link(l)
		b.put(&a, "1", "2", "3")
		elapse(2100 * time.Millisecond) // 2 and 3 are on the disk, and in flight
		b.put(&a, "4", "5")             // in memory, in flight
		b.cut()
		b.put(&a, "6")
		l2 := &line{answer: never}
		b.link(l2)
		want(t, "the second connection got", l2.seen(), []string{"2", "3", "4", "5", "6"})
		b.cut()
		elapse(time.Second)
		want(t, "safe", a.list(), []string{"1", "2", "3", "4", "5", "6"})
		l3 := &line{}
		b.link(l3)
		b.put(&a, "7")
		want(t, "the third connection got", l3.seen(), []string{"2", "3", "4", "5", "6", "7"})
		if s := b.Stats(); s.Messages != 0 || b.memory != 0 || b.inFlight != 0 {
			t.Errorf("stats %+v, %d bytes", s, b.memory)
		}
	})
}

// 0x97: the server gets its pause, that one comes again, nothing is lost, and
// the log does not forget it while later ones are acknowledged.
func TestQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		b := begin(t, dir, nil, usual())
		var a answers
		b.put(&a, "1", "2", "3")
		elapse(time.Second)
		refused := 0
		l := &line{answer: func(m Message) (byte, bool) {
			if string(m.Payload) == "1" && refused < 3 {
				refused++
				return 0x97, true
			}
			return 0, true
		}}
		start := time.Now()
		b.link(l)
		if s := b.Stats(); s.PausedFor == 0 {
			t.Error("no pause")
		}
		crashed := begin(t, copyDir(t, dir), nil, usual())
		again := &line{}
		crashed.link(again)
		want(t, "sent after a crash in the pause", again.seen(), []string{"1", "2", "3"})
		for b.Stats().Messages > 0 && time.Since(start) < time.Minute {
			elapse(100 * time.Millisecond)
		}
		// Pauses of 1, 2 and 4 s, each with the library's jitter of ±50 %.
		if took := time.Since(start); took < 3500*time.Millisecond || took > 10600*time.Millisecond {
			t.Errorf("through after %v", took)
		}
		want(t, "sent", l.seen(), []string{"1", "1", "1", "1", "2", "3"})
	})
}

// What the server will never take is kept among the dead letters before the
// log forgets it, and its producer is told if it still waits.
func TestDeadLetters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		b := begin(t, dir, nil, usual())
		var a answers
		b.put(&a, "stored")
		elapse(time.Second)
		codes := map[string]byte{"stored": 0x87, "topic": 0x90, "payload": 0x99, "good": 0}
		l := &line{answer: func(m Message) (byte, bool) { return codes[string(m.Payload)], true }}
		b.link(l)
		b.put(&a, "topic", "good", "payload")
		want(t, "safe", a.list(), []string{"stored", "good"})
		elapse(time.Second)
		for name, code := range map[string]byte{"topic": 0x90, "payload": 0x99} {
			if r, ok := errors.AsType[*Refused](a.err(name)); !ok || r.Code != code {
				t.Errorf("%s: %v; want the code %#x", name, a.err(name), code)
			}
		}
		slices.Sort(b.dead)
		want(t, "dead letters", b.dead, []string{"payload 0x99", "stored 0x87", "topic 0x90"})
		if s := b.Stats(); s.Messages != 0 || s.Acked != 1 || b.memory != 0 {
			t.Errorf("stats %+v", s)
		}
		b.stop()
		var kept []string
		if err := Dead(dir, func(d Letter) error {
			kept = append(kept, string(d.Payload))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		slices.Sort(kept)
		want(t, "kept", kept, []string{"payload", "stored", "topic"})
	})
}

// What was in flight when it went to the disk is not read from there and sent
// once more, on a connection that has read stored messages before.
func TestSpilledInFlightIsNotSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := begin(t, t.TempDir(), nil, usual())
		var a answers
		b.put(&a, "stored")
		elapse(time.Second)
		mute := false
		l := &line{window: 2, answer: func(Message) (byte, bool) { return 0, !mute }}
		b.link(l)
		mute = true
		b.put(&a, "1", "2", "3", "4")
		elapse(5 * time.Second) // all are on the disk, 1 and 2 in flight
		l.answerFirst(1, 0)
		l.answerFirst(1, 0)
		want(t, "sent", l.seen(), []string{"stored", "1", "2", "3", "4"})
	})
}

// A server that hangs up behind each refusal does not get the same message
// first for ever.
func TestRefusedIsNotSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		b := begin(t, dir, nil, usual())
		var a answers
		b.put(&a, "1", "denied", "2", "3")
		elapse(time.Second)
		l := &line{answer: func(m Message) (byte, bool) {
			if string(m.Payload) == "denied" {
				return 0x87, true
			}
			return 0, false
		}}
		b.link(l)
		b.cut() // before the dead letter is written
		crashed := begin(t, copyDir(t, dir), nil, usual())
		again := &line{}
		crashed.link(again)
		want(t, "sent after a crash", again.seen(), []string{"1", "denied", "2", "3"})
		// The link comes back at once, or when the dead letter is written.
		for _, later := range []time.Duration{0, time.Second} {
			elapse(later)
			l := &line{answer: never}
			b.link(l)
			want(t, "sent on the next connection", l.seen(), []string{"1", "2", "3"})
			b.cut()
		}
		b.link(&line{})
		elapse(time.Second)
		want(t, "dead letters", b.dead, []string{"denied 0x87"})
		if s := b.Stats(); s.Messages != 0 || b.memory != 0 || b.inFlight != 0 {
			t.Errorf("stats %+v, %d bytes, %d in flight", s, b.memory, b.inFlight)
		}
	})
}

func TestTooLarge(t *testing.T) {
	b := New(Config{Limits: usual()})
	if err := b.Put(t.Context(), Message{Payload: make([]byte, MaxMessage)}, nil); !errors.Is(err, ErrTooLarge) {
		t.Errorf("%v; want ErrTooLarge", err)
	}
}

// The longest message fits into the smallest log.
func TestLargest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := usual()
		limits.MaxSize = 256 << 10
		b := begin(t, t.TempDir(), nil, limits)
		var a answers
		if err := b.Put(t.Context(), Message{Payload: make([]byte, MaxMessage-perMessage)}, a.done("it")); err != nil {
			t.Fatal(err)
		}
		elapse(time.Second)
		want(t, "safe", a.list(), []string{"it"})
	})
}

func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := usual()
		limits.Rate = 90
		b := begin(t, t.TempDir(), nil, limits)
		b.put(nil, names(1000)...)
		l := &line{}
		b.link(l)
		elapse(5 * time.Second)
		if n := len(l.seen()); n < 440 || n > 451 {
			t.Errorf("%d messages in 5 s; want 90 a second", n)
		}
	})
}

// Where memory is full a producer waits for the link or the disk, and is
// refused where neither can help.
func TestRoomInMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := usual()
		limits.MaxSize = 16 << 20
		b := begin(t, t.TempDir(), nil, limits)
		l := &line{answer: never}
		b.link(l)
		large := Message{Topic: "t", Payload: make([]byte, 100<<10)}
		put := func(n int) (taken int) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			for range n {
				if b.Put(ctx, large, func(error) {}) != nil {
					break
				}
				taken++
			}
			return taken
		}
		if n := put(20); n != 10 {
			t.Errorf("%d of 20 messages were taken at once; want the 10 that fit into memory", n)
		}
		elapse(2 * time.Second) // now they are late and go to the disk
		if n := put(10); n < 5 {
			t.Errorf("%d messages were taken after the others went to the disk", n)
		}
		if b.memory > MemoryLimit+maxInFlight {
			t.Errorf("%d bytes in memory", b.memory)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		b := begin(t, filepath.Join(file, "buffer"), nil, usual()) // no folder can be made there
		large := Message{Topic: "t", Payload: make([]byte, 100<<10)}
		var err error
		taken := 0
		var a answers
		for ; err == nil && taken < 100; taken++ {
			err = b.Put(t.Context(), large, a.done(strings.Repeat("x", taken)))
			elapse(time.Second)
		}
		if !errors.Is(err, ErrFull) || taken != 11 {
			t.Errorf("after %d messages: %v; want ErrFull after 10", taken, err)
		}
		if s := b.Stats(); s.State != StateDamaged {
			t.Errorf("state %s", s.State)
		}
		l := &line{}
		b.link(l) // the link helps
		if n := len(l.seen()); n != 10 || len(a.list()) != 10 {
			t.Errorf("%d messages were sent and %d are safe; want 10", n, len(a.list()))
		}
	})
}
