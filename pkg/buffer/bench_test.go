package buffer

import (
	"context"
	"sync"
	"testing"
	"time"
)

// wire is a session that takes everything, with a window of 100, and answers
// from another goroutine, as a real one does.
type wire struct{ open chan func(byte, error) }

func (w *wire) Send(ctx context.Context, _ Message, outcome func(byte, error)) error {
	select {
	case w.open <- outcome:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// BenchmarkOnline is what the buffer costs a message of 200 bytes on a link
// that works: nothing is written.
func BenchmarkOnline(b *testing.B) {
	w := &world{start: time.Now(), bootID: "a boot"}
	buf := New(Config{Dir: b.TempDir(), Limits: usual(), Clock: w.clock(), GapTopic: func() string { return "gap" }})
	ctx, cancel := context.WithCancel(b.Context())
	var work sync.WaitGroup
	work.Go(func() { buf.Run(ctx) })
	line := &wire{open: make(chan func(byte, error), 100)}
	work.Go(func() { buf.Drain(ctx, line) })
	work.Go(func() {
		for {
			select {
			case outcome := <-line.open:
				outcome(0, nil)
			case <-ctx.Done():
				return
			}
		}
	})
	m := Message{Topic: "dt/gw-1/pump/1", Payload: make([]byte, 200)}
	b.ReportAllocs()
	done := func(error) {}
	for b.Loop() {
		if err := buf.Put(ctx, m, done); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	cancel()
	work.Wait()
}

// BenchmarkOffline is the same where each message goes to the disk.
func BenchmarkOffline(b *testing.B) {
	limits := usual()
	limits.MaxSize = 64 << 20
	w := &world{start: time.Now(), bootID: "a boot"}
	buf := New(Config{Dir: b.TempDir(), Limits: limits, Clock: w.clock(), GapTopic: func() string { return "gap" }})
	ctx, cancel := context.WithCancel(b.Context())
	var work sync.WaitGroup
	work.Go(func() { buf.Run(ctx) })
	m := Message{Topic: "dt/gw-1/pump/1", Payload: make([]byte, 200)}
	b.ReportAllocs()
	for b.Loop() {
		if err := buf.Put(ctx, m, func(error) {}); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	cancel()
	work.Wait()
}
