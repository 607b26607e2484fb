package mqtt

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

// A packet on an idle connection leaves at once and alone; those that come
// while it is under way leave together. A read from a pipe returns the bytes of
// one write.
func TestPacketsLeaveTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const messages = 20
		ready := make(chan struct{})
		s, err := open(t, Config{}, func(b *broker) {
			b.accept(messages)
			<-ready
			m := Message{Topic: "t"}
			f := frameOf(&m)
			one := len(f.append(nil, 1))
			buffer := make([]byte, 1<<16)
			for _, want := range []int{one, (messages - 1) * one} {
				if n, err := b.conn.Read(buffer); n != want || err != nil {
					t.Errorf("a write of %d bytes, %v; want %d", n, err, want)
				}
			}
			b.conn.Close()
		})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for range messages {
			if err := s.Send(t.Context(), Message{Topic: "t"}, func(byte, error) {}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait() // the flusher has had its chance
		}
		close(ready)
		_ = s.Err()
		if took := time.Since(start); took != 0 {
			t.Errorf("the packets waited %v for something", took)
		}
	})
}

// Packets of many goroutines, our own and paho's, stay whole, and those of each
// goroutine in order.
func TestOrderOfManySenders(t *testing.T) {
	t.Parallel()
	const senders, messages = 8, 400
	client, server := secured(t)
	var work sync.WaitGroup
	work.Go(func() {
		b := &broker{t, server}
		b.accept(50)
		var next [senders]uint32
		for range senders * messages {
			p := b.read()
			if p == nil {
				return
			}
			if sub, ok := p.Content.(*packets.Subscribe); ok {
				b.write(&packets.Suback{PacketID: sub.PacketID, Reasons: []byte{1}, Properties: &packets.Properties{}})
				p = b.read()
			}
			m := p.Content.(*packets.Publish)
			from, n := m.Payload[0], binary.BigEndian.Uint32(m.Payload[1:])
			if n != next[from] {
				t.Errorf("sender %d: message %d comes where %d is due", from, n, next[from])
			}
			next[from] = n + 1
			b.write(&packets.Puback{PacketID: m.PacketID, Properties: &packets.Properties{}})
		}
		b.read() // DISCONNECT
		server.Close()
	})
	s, err := Connect(t.Context(), client, Config{ClientID: "gw-1", KeepAlive: time.Hour, Stall: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	var acked atomic.Int64
	var sending sync.WaitGroup
	for from := range senders {
		sending.Go(func() {
			for n := range messages {
				payload := make([]byte, 5+rand.IntN(400))
				payload[0] = byte(from)
				binary.BigEndian.PutUint32(payload[1:], uint32(n))
				if err := s.Send(t.Context(), Message{Topic: "t", Payload: payload}, func(code byte, err error) {
					if code == 0 && err == nil {
						acked.Add(1)
					}
				}); err != nil {
					t.Errorf("Send = %v", err)
					return
				}
			}
		})
	}
	if _, err := s.Subscribe(t.Context(), []string{"a"}); err != nil {
		t.Errorf("Subscribe = %v", err)
	}
	sending.Wait()
	waitFor(t, func() bool { return acked.Load() == senders*messages || s.ended() })
	s.Close()
	work.Wait()
	if n := acked.Load(); n != senders*messages {
		t.Errorf("%d of %d messages were acknowledged", n, senders*messages)
	}
}

// ended says whether the session is over.
func (s *Session) ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// A peer that does not read holds up the senders, not memory. A sender whose
// context ends has sent nothing and leaves its place in the window.
func TestBackPressure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const size, limit, messages = 20 << 10, 50, 40
		read := make(chan struct{})
		var arrived []byte
		s, err := open(t, Config{Stall: time.Hour}, func(b *broker) {
			b.accept(limit)
			<-read
			for {
				p, err := packets.ReadPacket(b.conn)
				if err != nil || p.Type == packets.DISCONNECT {
					return
				}
				m := p.Content.(*packets.Publish)
				arrived = append(arrived, m.Payload[0])
				b.write(&packets.Puback{PacketID: m.PacketID, Properties: &packets.Properties{}})
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		message := func(i int) Message {
			return Message{Topic: "t", Payload: append([]byte{byte(i)}, make([]byte, size)...)}
		}
		var outcomes, returned int
		outcome := func(byte, error) { outcomes++ }
		var sender sync.WaitGroup
		sender.Go(func() {
			for i := range messages {
				if err := s.Send(t.Context(), message(i), outcome); err != nil {
					t.Errorf("Send = %v", err)
				}
				returned++
			}
		})
		synctest.Wait()
		s.conn.mu.Lock()
		pending := len(s.conn.pending)
		s.conn.mu.Unlock()
		if pending > maxPending+size+100 {
			t.Errorf("%d bytes are pending; want at most %d and one message", pending, maxPending)
		}
		// As much again is under way.
		if most := 2 * (maxPending/size + 1); returned > most {
			t.Errorf("%d messages were taken while nobody read; want at most %d", returned, most)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Send(ctx, message(255), outcome); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Send without room = %v; want the context's error", err)
		}
		close(read)
		sender.Wait()
		synctest.Wait()
		if outcomes != messages || slices.Contains(arrived, 255) || !slices.IsSorted(arrived) {
			t.Errorf("%d outcomes, arrived: %v", outcomes, arrived)
		}
		if free := s.window.free.free; free != limit {
			t.Errorf("%d places of the window are free; want %d", free, limit)
		}
		s.Close()
	})
}

// A link that stalls ends the wait of those who wait for room, too.
func TestStallEndsTheWaitForRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		blocked := make(chan struct{})
		defer close(blocked)
		s, err := open(t, Config{KeepAlive: 10 * time.Minute, Stall: 8 * time.Second}, func(b *broker) { b.accept(50); <-blocked })
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		outcomes, sent := 0, 0
		for {
			err := s.Send(t.Context(), Message{Topic: "t", Payload: make([]byte, 30<<10)}, func(byte, error) { outcomes++ })
			if errors.Is(err, ErrLost) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			sent++
		}
		<-s.Done()
		if took := time.Since(start); took != 8*time.Second {
			t.Errorf("the senders waited %v; want the 8 s of the stall limit", took)
		}
		if sent == 0 || outcomes != sent {
			t.Errorf("%d messages were sent and %d outcomes told", sent, outcomes)
		}
	})
}

// What was sent before Close reaches a peer that is a little slow.
func TestCloseWritesWhatIsPending(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const messages = 30
		var types []byte
		s, err := open(t, Config{}, func(b *broker) {
			b.accept(messages)
			<-time.After(farewell / 2)
			for {
				p, err := packets.ReadPacket(b.conn)
				if err != nil {
					if !errors.Is(err, io.EOF) {
						t.Errorf("the end is %v; want EOF", err)
					}
					return
				}
				types = append(types, p.Type)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		lost := 0
		for range messages {
			if err := s.Send(t.Context(), Message{Topic: "t"}, func(_ byte, err error) {
				if errors.Is(err, ErrLost) {
					lost++
				}
			}); err != nil {
				t.Fatal(err)
			}
		}
		s.Close()
		synctest.Wait()
		want := append(slices.Repeat([]byte{packets.PUBLISH}, messages), packets.DISCONNECT)
		if !slices.Equal(types, want) {
			t.Errorf("the peer got %v; want %d PUBLISH and a DISCONNECT", types, messages)
		}
		if lost != messages {
			t.Errorf("%d outcomes; want %d", lost, messages)
		}
	})
}

// Every legal form of a PUBACK tells the same, on the short way and on paho's,
// wherever the stream is cut; and a packet between them arrives.
func TestPubackForms(t *testing.T) {
	t.Parallel()
	payload := []byte{0x40, 2, 0, 6} // looks like one
	stream := slices.Concat(
		[]byte{0x40, 2, 0, 1},                  // success
		[]byte{0x40, 3, 0, 2, 0x10},            // a reason code
		[]byte{0x40, 4, 0, 3, 0x87, 0},         // and no properties
		[]byte{0x40, 2, 0xff, 0xff},            // of nothing that is in flight
		[]byte{0x40, 2, 0, 1},                  // a second time
		[]byte{0x30, 8, 0, 1, 'a', 0}, payload, // PUBLISH
		[]byte{0x40, 8, 0, 4, 0x97, 4, 0x1f, 0, 1, 'r'},             // a reason string
		[]byte{0x40, 0x84, 0x00, 0, 5, 0x90, 0},                     // a length of two bytes where one does
		[]byte{0x40, 2, 0, 6},                                       // success
		[]byte{0xd0, 0},                                             // PINGRESP
		[]byte{0x40, 11, 0, 7, 0x99, 7, 0x26, 0, 1, 'n', 0, 1, 'v'}, // a user property
	)
	want := []byte{1: 0, 2: 0x10, 3: 0x87, 4: 0x97, 5: 0x90, 6: 0, 7: 0x99}
	for cut := range stream {
		synctest.Test(t, func(t *testing.T) {
			got := make([]byte, len(want))
			var told int
			var published []byte
			s, err := open(t, Config{OnMessage: func(_ string, p []byte) { published = append(published, p...) }}, func(b *broker) {
				b.accept(10)
				for range len(want) - 1 {
					b.read()
				}
				b.raw(stream[:cut]...)
				b.raw(stream[cut:]...)
				b.conn.Close()
			})
			if err != nil {
				t.Fatal(err)
			}
			for id := 1; id < len(want); id++ {
				if err := s.Send(t.Context(), Message{Topic: "t"}, func(code byte, err error) {
					if err != nil {
						t.Errorf("cut at %d: outcome of %d: %v", cut, id, err)
					}
					got[id] = code
					told++
				}); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Err(); !errors.Is(err, io.EOF) {
				t.Errorf("cut at %d: the end is %v; want EOF", cut, err)
			}
			if !slices.Equal(got, want) || told != len(want)-1 || !slices.Equal(published, payload) {
				t.Errorf("cut at %d: outcomes %x, %d of them, published %x; want %x, one each, and %x",
					cut, got, told, published, want, payload)
			}
		})
	}
}
