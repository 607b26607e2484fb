package local

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/jitr-agent/jitr-agent/pkg/buffer"
)

var versions = []byte{v311, v5}

// each runs a test for both versions of MQTT.
func each(t *testing.T, f func(t *testing.T, version byte)) {
	for _, version := range versions {
		t.Run(map[byte]string{v311: "3.1.1", v5: "5"}[version], func(t *testing.T) { f(t, version) })
	}
}

// TestAcknowledgedWhenSafe: no PUBACK before the buffer says so.
func TestAcknowledgedWhenSafe(t *testing.T) {
	each(t, func(t *testing.T, version byte) {
		r := start(t)
		r.setHold()
		p := r.client(version, "me")
		p.send(publish(version, "telemetry/x", 1, "1"))
		r.await(t, 1)
		p.expectAlive() // and nothing else
		_, done := r.take()
		done[0](nil)
		p.expect("4002 0001")
	})
}

// TestAcknowledgedInOrder: the messages become safe in any order, and from any
// goroutine; the PUBACKs come in that of the messages.
func TestAcknowledgedInOrder(t *testing.T) {
	each(t, func(t *testing.T, version byte) {
		r := start(t)
		r.setHold()
		p := r.client(version, "me")
		for i := range receiveMaximum {
			p.send(publish(version, "telemetry/x", 1000+i, "1"))
		}
		r.await(t, receiveMaximum)
		_, done := r.take()
		order := rand.Perm(len(done))
		for _, i := range order {
			go done[i](nil)
		}
		for i := range receiveMaximum {
			p.expect(fmt.Sprintf("4002 %04x", 1000+i))
		}
		// What is refused has its turn as well.
		if version == v5 {
			p.send(publish(version, "telemetry/x", 1, ""), publish(version, "wrong", 2, ""), publish(version, "telemetry/x", 3, ""))
			r.await(t, 2)
			_, done = r.take()
			done[receiveMaximum+1](nil)
			p.expectAlive()
			done[receiveMaximum](nil)
			p.expect("4002 0001")
			p.expectReason(0x40, 4, 0x90)
			p.expect("4002 0003")
		}
	})
}

// TestReceiveMaximum: a client of MQTT 5 that sends too much is cut off; one of
// 3.1.1 is not read until there is room.
func TestReceiveMaximum(t *testing.T) {
	each(t, func(t *testing.T, version byte) {
		const receiveMaximum = 100 // the contract's
		r := start(t)
		r.setHold()
		p := r.client(version, "me")
		for i := range receiveMaximum + 1 {
			p.send(publish(version, "telemetry/x", 1+i, "1"))
		}
		r.await(t, receiveMaximum)
		if version == v5 {
			p.expectEnd(0x93)
			return
		}
		p.send([]byte{0xC0, 0}) // is behind the message that is not read
		messages, done := r.take()
		if len(messages) != receiveMaximum {
			t.Fatalf("the buffer has %d messages, want %d", len(messages), receiveMaximum)
		}
		done[0](nil)
		p.expect("4002 0001")
		r.await(t, 1)
		p.expect("d000")
		for _, f := range done[1:] {
			f(nil)
		}
		for i := range receiveMaximum - 1 {
			p.expect(fmt.Sprintf("4002 %04x", 2+i))
		}
	})
}

// TestFull: a message that the buffer refuses never gets a successful PUBACK.
func TestFull(t *testing.T) {
	t.Run("5", func(t *testing.T) {
		r := start(t)
		r.setFull(buffer.ErrFull)
		p := r.client(v5, "me")
		p.send(publish(v5, "telemetry/x", 1, "1"), publish(v5, "telemetry/x", 0, "2"), publish(v5, "telemetry/x", 2, "3"))
		p.expectReason(0x40, 4, 0x97)
		p.expectReason(0x40, 4, 0x97)
		if got := r.Status().Refused; got != 3 {
			t.Errorf("%d refused, want 3", got)
		}
		r.setFull(nil)
		p.send(publish(v5, "telemetry/x", 3, "4"))
		p.expect("4002 0003")
	})
	t.Run("3.1.1", func(t *testing.T) {
		r := start(t)
		r.setFull(buffer.ErrFull)
		p := r.client(v311, "me")
		p.send(publish(v311, "telemetry/x", 0, "lost"))
		p.expectAlive() // QoS 0 does not wait
		if got := r.Status().Refused; got != 1 {
			t.Errorf("%d refused, want 1", got)
		}
		p.send(publish(v311, "telemetry/x", 1, "1"), publish(v311, "telemetry/x", 0, "2"))
		r.client(v5, "other").expectAlive()
		r.setFull(nil)
		p.expect("4002 0001")
		r.await(t, 2)
		// Were the second one read while the buffer was full, it would be lost.
		if messages, _ := r.take(); len(messages) != 2 || string(messages[0].Payload) != "1" {
			t.Errorf("the buffer has %v", messages)
		}
	})
}

// TestGoneWhileFull: a client that leaves does not keep its place.
func TestGoneWhileFull(t *testing.T) {
	for name, publishes := range map[string]func(r *rig, p *peer){
		"the buffer": func(r *rig, p *peer) {
			r.setFull(buffer.ErrFull)
			p.send(publish(v311, "telemetry/x", 1, "1"))
		},
		"the window": func(r *rig, p *peer) {
			r.setHold()
			for i := range receiveMaximum + 1 {
				p.send(publish(v311, "telemetry/x", 1+i, "1"))
			}
			r.await(t, receiveMaximum)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			p := r.client(v311, "me")
			publishes(r, p)
			p.Close()
			r.awaitClients(t, 0)
		})
	}
}

// TestGoneWhileHeld: of a client that leaves before its message is safe, the
// buffer holds the message only.
func TestGoneWhileHeld(t *testing.T) {
	r := start(t, func(c *Config) { c.Log = nop })
	r.setHold()
	one := func() {
		p := r.client(v311, "me")
		defer p.Close()
		p.send(publish(v311, "telemetry/x", 1, "1"))
		r.await(t, 1)
	}
	one() // what is made once
	heap := heapInUse()
	for range 1000 {
		one()
	}
	r.awaitClients(t, 0)
	// A client has 10 KiB and more; of these here are what the test has of it,
	// and its message.
	if used := heapInUse() - heap; used > 1000*4<<10 {
		t.Errorf("the heap has grown by %d KiB", used>>10)
	}
	if _, done := r.take(); len(done) != 1001 {
		t.Errorf("the buffer holds %d messages", len(done))
	}
}

// TestNotSafeAfterAll: what the buffer says later.
func TestNotSafeAfterAll(t *testing.T) {
	for _, test := range []struct {
		err  error
		code byte // in MQTT 5
		old  string
	}{
		{buffer.ErrFull, 0x97, "end"},
		{errors.New("the disk is gone"), 0x80, "end"},
		{&buffer.Refused{Code: 0x87}, 0x87, "ack"}, // kept, as a dead letter
		{&buffer.Refused{Code: 0x95}, 0x80, "ack"}, // which is no code of a PUBACK
		{buffer.ErrClosed, 0, ""},                  // nobody knows
	} {
		each(t, func(t *testing.T, version byte) {
			r := start(t)
			r.setHold()
			p := r.client(version, "me")
			p.send(publish(version, "telemetry/x", 1, "1"))
			r.await(t, 1)
			_, done := r.take()
			done[0](fmt.Errorf("wrapped: %w", test.err))
			switch {
			case test.code == 0:
				p.expectAlive()
			case version == v5:
				p.expectReason(0x40, 4, test.code)
			case test.old == "ack":
				p.expect("4002 0001")
			default:
				p.expectEnd(0)
			}
		})
	}
}

// TestPutErrors: what the buffer says at once.
func TestPutErrors(t *testing.T) {
	for err, code := range map[error]byte{buffer.ErrTooLarge: 0x95, buffer.ErrClosed: 0x8B} {
		r := start(t)
		r.setFull(err)
		p := r.client(v5, "me")
		p.send(publish(v5, "telemetry/x", 1, "1"))
		p.expectEnd(code)
	}
}

// TestNoTopicYet: while the gateway has no name, a client of 3.1.1 waits with
// its message.
func TestNoTopicYet(t *testing.T) {
	named := make(chan struct{})
	r := start(t, func(c *Config) {
		c.Map = func(topic string) (string, error) {
			select {
			case <-named:
				return "dt/gw-1/" + topic, nil
			default:
				return "", errors.New("there is no thing name yet")
			}
		}
	})
	p := r.client(v311, "me")
	p.send(publish(v311, "telemetry/x", 1, "1"))
	eventually(t, func() error {
		select {
		case got := <-r.refused:
			if got != "me|telemetry/x|there is no thing name yet" {
				t.Errorf("told %q", got)
			}
			return nil
		default:
			return errors.New("nothing was told")
		}
	})
	r.client(v311, "other").expectAlive()
	close(named)
	p.expect("4002 0001")
	if n := len(r.refused); n > 0 {
		t.Errorf("told %d times more", n)
	}
}

// TestStopWithoutAnswer: the end does not acknowledge what is not safe.
func TestStopWithoutAnswer(t *testing.T) {
	r := start(t)
	r.setHold()
	p, old := r.client(v5, "a"), r.client(v311, "b")
	p.send(publish(v5, "telemetry/x", 1, "1"))
	old.send(publish(v311, "telemetry/x", 1, "1"))
	r.await(t, 2)
	r.stop()
	p.expectEnd(0x8B)
	old.expectEnd(0)
	_, done := r.take()
	for _, f := range done {
		f(nil) // nobody is there, and nothing breaks
	}
}

// stuck is a buffer without room, in which room may come.
type stuck struct{ entered chan struct{} }

func (s stuck) Put(ctx context.Context, _ buffer.Message, _ func(error)) error {
	s.entered <- struct{}{}
	<-ctx.Done()
	return ctx.Err()
}

// TestStuckBuffer: a buffer that makes a client wait makes nobody else wait,
// and holds up neither the end nor a newer client of the same id.
func TestStuckBuffer(t *testing.T) {
	b := stuck{make(chan struct{}, 2)}
	r := start(t, func(c *Config) { c.Buffer = b })
	p := r.client(v5, "me")
	p.send(publish(v5, "telemetry/x", 1, "1"))
	<-b.entered
	r.client(v5, "other").expectAlive()
	again := r.client(v5, "me")
	p.expectEnd(0x8E)
	again.send(publish(v5, "telemetry/x", 1, "1"))
	<-b.entered
	r.stop()
	again.expectEnd(0x8B)
}
