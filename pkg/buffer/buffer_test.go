package buffer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// line is a session whose outcomes the test decides.
type line struct {
	mu     sync.Mutex
	sent   []string
	answer func(n int, m Message) (code byte, err error, now bool)
	open   []func() // outcomes that wait for the test
}

func (l *line) Send(_ context.Context, m Message, outcome func(byte, error)) error {
	l.mu.Lock()
	l.sent = append(l.sent, string(m.Payload))
	n := len(l.sent)
	l.mu.Unlock()
	code, err, now := l.answer(n, m)
	if now {
		go outcome(code, err)
	} else {
		l.mu.Lock()
		l.open = append(l.open, func() { outcome(code, err) })
		l.mu.Unlock()
	}
	return nil
}

func (l *line) seen() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.sent)
}

func yes(int, Message) (byte, error, bool) { return 0, nil, true }

func put(t *testing.T, b *Buffer, payloads ...string) {
	t.Helper()
	for _, p := range payloads {
		if err := b.Put(Message{Topic: "t", Payload: []byte(p)}); err != nil {
			t.Fatal(err)
		}
	}
}

// drain runs a session on b for d, in virtual time.
func drain(t *testing.T, b *Buffer, l *line, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	b.Drain(ctx, l)
	synctest.Wait()
}

func TestOrderAndOutcomes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Config{MaxBytes: MemoryLimit})
		var want []string
		for i := range 500 {
			want = append(want, fmt.Sprint(i))
		}
		put(t, b, want...)
		l := &line{answer: yes}
		drain(t, b, l, time.Second)
		if !slices.Equal(l.seen(), want) {
			t.Errorf("sent %d messages, not in their order", len(l.seen()))
		}
		if s := b.Stats(); s.Messages != 0 || s.Bytes != 0 || s.Acked != 500 || s.InFlight != 0 {
			t.Errorf("stats %+v", s)
		}
	})
}

// What was in flight when the connection ended is sent again, first.
func TestRewind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Config{MaxBytes: MemoryLimit})
		put(t, b, "1", "2", "3")
		drain(t, b, &line{answer: func(n int, _ Message) (byte, error, bool) { return 0, nil, n == 1 }}, time.Second)
		put(t, b, "4")
		l := &line{answer: yes}
		drain(t, b, l, time.Second)
		if want := []string{"2", "3", "4"}; !slices.Equal(l.seen(), want) {
			t.Errorf("the second connection got %v; want %v", l.seen(), want)
		}
	})
}

// 0x97: nothing is lost, and the server gets its pause.
func TestQuotaPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Config{MaxBytes: MemoryLimit})
		put(t, b, "1")
		l := &line{answer: func(n int, _ Message) (byte, error, bool) {
			if n <= 3 {
				return 0x97, nil, true
			}
			return 0, nil, true
		}}
		start := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		var work sync.WaitGroup
		work.Go(func() { b.Drain(ctx, l) })
		for b.Stats().Acked == 0 {
			<-time.After(10 * time.Millisecond)
		}
		// Pauses of 1, 2 and 4 s, each with the library's jitter of ±50 %.
		if took := time.Since(start); took < 3500*time.Millisecond || took > 10600*time.Millisecond {
			t.Errorf("through after %v", took)
		}
		cancel()
		work.Wait()
	})
}

func TestDeadLetters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var dead []string
		b := New(Config{MaxBytes: MemoryLimit, DeadLetter: func(m Message, code byte) {
			mu.Lock()
			defer mu.Unlock()
			dead = append(dead, fmt.Sprintf("%s %#x", m.Payload, code))
		}})
		put(t, b, "1", "2", "3")
		drain(t, b, &line{answer: func(n int, _ Message) (byte, error, bool) {
			return []byte{0x87, 0x90, 0}[n-1], nil, true
		}}, time.Second)
		slices.Sort(dead)
		if want := []string{"1 0x87", "2 0x90"}; !slices.Equal(dead, want) {
			t.Errorf("dead letters %v; want %v", dead, want)
		}
		if s := b.Stats(); s.Messages != 0 || s.Acked != 1 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestFull(t *testing.T) {
	for _, refuse := range []bool{false, true} {
		dropped := 0
		b := New(Config{MaxBytes: 30, RefuseNew: refuse, Dropped: func() { dropped++ }})
		put(t, b, "aaaaaaaaa", "bbbbbbbbb", "ccccccccc") // with their topic, 10 bytes each
		err := b.Put(Message{Topic: "t", Payload: []byte("ddddddddd")})
		if refuse && (!errors.Is(err, ErrFull) || dropped != 0) {
			t.Errorf("refuse-new: %v, %d dropped; want ErrFull and none", err, dropped)
		}
		if !refuse && (err != nil || dropped != 1) {
			t.Errorf("drop-oldest: %v, %d dropped; want none and 1", err, dropped)
		}
		if s := b.Stats(); s.Messages != 3 || s.Bytes != 30 || !s.Full {
			t.Errorf("refuse %v: stats %+v", refuse, s)
		}
	}
}

func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Config{MaxBytes: MemoryLimit, Rate: 90})
		for range 1000 {
			put(t, b, "x")
		}
		l := &line{answer: yes}
		drain(t, b, l, 5*time.Second)
		if n := len(l.seen()); n < 440 || n > 451 {
			t.Errorf("%d messages in 5 s; want 90 a second", n)
		}
	})
}
