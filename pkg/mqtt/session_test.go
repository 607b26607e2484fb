package mqtt

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

// broker is the other end of a session: a script on a net.Pipe, so that time
// is virtual.
type broker struct {
	t    *testing.T
	conn net.Conn
}

func (b *broker) read() *packets.ControlPacket {
	b.t.Helper()
	p, err := packets.ReadPacket(b.conn)
	if err != nil {
		b.t.Errorf("broker: %v", err)
		return nil
	}
	return p
}

func (b *broker) write(p interface {
	WriteTo(io.Writer) (int64, error)
}) {
	b.t.Helper()
	if _, err := p.WriteTo(b.conn); err != nil {
		b.t.Errorf("broker: %v", err)
	}
}

// raw writes what no packet can be.
func (b *broker) raw(p ...byte) { _, _ = b.conn.Write(p) }

func (b *broker) accept(receiveMaximum uint16) {
	b.read()
	b.write(&packets.Connack{Properties: &packets.Properties{ReceiveMaximum: &receiveMaximum}})
}

// open connects a session to a broker that runs script.
func open(t *testing.T, cfg Config, script func(*broker)) (*Session, error) {
	t.Helper()
	client, server := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		script(&broker{t, server})
	}()
	t.Cleanup(func() {
		client.Close()
		server.Close()
		<-done
	})
	if cfg.ClientID == "" {
		cfg.ClientID = "gw-1"
	}
	if cfg.Stall == 0 {
		cfg.Stall = 20 * time.Second
	}
	return Connect(t.Context(), client, cfg)
}

func TestConnectSendsWhatAWSWants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := open(t, Config{KeepAlive: time.Minute}, func(b *broker) {
			c := b.read().Content.(*packets.Connect)
			if c.ClientID != "gw-1" || !c.CleanStart || c.KeepAlive != 60 || c.WillFlag || c.Properties.ReceiveMaximum == nil ||
				c.Properties.SessionExpiryInterval != nil && *c.Properties.SessionExpiryInterval != 0 {
				t.Errorf("CONNECT = %+v, %+v", c, c.Properties)
			}
			b.write(&packets.Connack{})
			if p := b.read(); p != nil && p.Type != packets.DISCONNECT {
				t.Errorf("got packet type %d; want DISCONNECT", p.Type)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if s.ReceiveMaximum() != maxInFlight {
			t.Errorf("Receive Maximum = %d; want %d where the server names none", s.ReceiveMaximum(), maxInFlight)
		}
		s.Close()
		if !errors.Is(s.Err(), ErrClosed) {
			t.Errorf("Err = %v; want ErrClosed", s.Err())
		}
	})
}

func TestConnectErrors(t *testing.T) {
	tests := map[string]struct {
		script func(*broker)
		want   func(error) bool
	}{
		"cut before CONNACK": {
			func(b *broker) { b.read(); b.conn.Close() },
			func(err error) bool { return errors.Is(err, io.EOF) },
		},
		"CONNACK 0x87": {
			func(b *broker) {
				b.read()
				b.write(&packets.Connack{ReasonCode: 0x87, Properties: &packets.Properties{ReasonString: "no"}})
			},
			func(err error) bool {
				var refused *Refused
				return errors.As(err, &refused) && refused.Code == 0x87 && refused.Reason == "no"
			},
		},
		"no CONNACK": {
			func(b *broker) { b.read() },
			func(err error) bool { return errors.Is(err, context.DeadlineExceeded) },
		},
		"a PINGRESP instead": {
			func(b *broker) { b.read(); b.write(packets.NewControlPacket(packets.PINGRESP)) },
			func(err error) bool { return errors.Is(err, ErrFrame) },
		},
		"a PUBACK instead": {
			func(b *broker) { b.read(); b.raw(0x40, 2, 0, 1) },
			func(err error) bool { return errors.Is(err, ErrFrame) },
		},
		"a frame of 256 MB": {
			func(b *broker) { b.read(); b.raw(0x20, 0xff, 0xff, 0xff, 0x7f) },
			func(err error) bool { return errors.Is(err, ErrFrame) },
		},
		"a length of five bytes": {
			func(b *broker) { b.read(); b.raw(0x20, 0xff, 0xff, 0xff, 0xff, 0x0f) },
			func(err error) bool { return errors.Is(err, ErrFrame) },
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if _, err := open(t, Config{}, tt.script); err == nil || !tt.want(err) {
					t.Errorf("Connect = %v", err)
				}
			})
		})
	}
}

func TestSessionEnds(t *testing.T) {
	tests := map[string]struct {
		script func(*broker)
		want   func(error) bool
	}{
		"DISCONNECT 0x8E": {
			func(b *broker) { b.write(&packets.Disconnect{ReasonCode: 0x8E}); b.conn.Close() },
			func(err error) bool {
				var d *Disconnected
				return errors.As(err, &d) && d.Code == 0x8E
			},
		},
		"cut": {
			func(b *broker) { b.conn.Close() },
			func(err error) bool { return errors.Is(err, io.EOF) },
		},
		"malformed PUBACK": {
			func(b *broker) { b.raw(0x40, 0x01, 0x00) },
			func(err error) bool { return errors.Is(err, ErrFrame) },
		},
		"pings unanswered": {
			func(b *broker) { _, _ = io.Copy(io.Discard, b.conn) },
			func(err error) bool { return errors.Is(err, ErrKeepAlive) },
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, err := open(t, Config{KeepAlive: 30 * time.Second}, func(b *broker) { b.accept(10); tt.script(b) })
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				if err := s.Err(); !tt.want(err) {
					t.Errorf("Err = %v", err)
				}
				if took := time.Since(start); took > 45*time.Second {
					t.Errorf("the end was noticed after %v; want at most one and a half keep-alive intervals", took)
				}
			})
		})
	}
}

// A server may want more pings, and never fewer: without them a dead link is
// not noticed.
func TestServerKeepAlive(t *testing.T) {
	for server, want := range map[uint16]time.Duration{10: 15 * time.Second, 0: 45 * time.Second, 65535: 45 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			s, err := open(t, Config{KeepAlive: 30 * time.Second}, func(b *broker) {
				b.read()
				b.write(&packets.Connack{Properties: &packets.Properties{ServerKeepAlive: &server}})
				_, _ = io.Copy(io.Discard, b.conn)
			})
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			if err := s.Err(); !errors.Is(err, ErrKeepAlive) {
				t.Errorf("server keep-alive %d: Err = %v", server, err)
			}
			if took := time.Since(start); took != want {
				t.Errorf("server keep-alive %d: the end was noticed after %v; want %v", server, took, want)
			}
		})
	}
}

// A session that is idle pings once an interval, and one that is answered
// stays.
func TestPingsKeepTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pings := 0
		s, err := open(t, Config{KeepAlive: 30 * time.Second}, func(b *broker) {
			b.accept(10)
			for {
				p, err := packets.ReadPacket(b.conn)
				if err != nil || p.Type == packets.DISCONNECT {
					return
				}
				pings++
				b.write(packets.NewControlPacket(packets.PINGRESP))
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Hour)
		s.Close()
		if pings < 110 || pings > 121 {
			t.Errorf("%d pings in an idle hour; want one in 30 s", pings)
		}
	})
}

// A peer whose receive buffer is full blocks the writer; the stall limit ends
// that, and with it the session.
func TestStalledWriteEndsTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		blocked := make(chan struct{})
		defer close(blocked)
		s, err := open(t, Config{KeepAlive: 10 * time.Minute, Stall: 8 * time.Second}, func(b *broker) { b.accept(10); <-blocked })
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		_, err = s.Publish(t.Context(), Message{Topic: "a"})
		if !errors.Is(err, ErrLost) {
			t.Errorf("Publish = %v; want ErrLost", err)
		}
		if took := time.Since(start); took != 8*time.Second {
			t.Errorf("noticed after %v; want the 8 s of the stall limit", took)
		}
		if timeout := net.Error(nil); !errors.As(s.Err(), &timeout) || !timeout.Timeout() {
			t.Errorf("Err = %v; want a timeout", s.Err())
		}
	})
}

func TestPublishOutcomes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := open(t, Config{}, func(b *broker) {
			b.accept(10)
			for _, code := range []byte{0x00, 0x10, 0x87} {
				p := b.read().Content.(*packets.Publish)
				if p.QoS != 1 || p.Properties.ContentType != "application/json" {
					t.Errorf("PUBLISH = %+v", p)
				}
				b.write(&packets.Puback{PacketID: p.PacketID, ReasonCode: code, Properties: &packets.Properties{}})
			}
			b.read()
			b.conn.Close()
		})
		if err != nil {
			t.Fatal(err)
		}
		m := Message{Topic: "t", Payload: []byte("{}"), ContentType: "application/json"}
		for _, want := range []byte{0x00, 0x10, 0x87} {
			if code, err := s.Publish(t.Context(), m); code != want || err != nil {
				t.Errorf("Publish = %#x, %v; want %#x", code, err, want)
			}
		}
		if _, err := s.Publish(t.Context(), m); !errors.Is(err, ErrLost) {
			t.Errorf("Publish when the connection is cut = %v; want ErrLost", err)
		}
		if err := s.Send(t.Context(), m, func(byte, error) { t.Error("an outcome for a message that was not sent") }); !errors.Is(err, ErrLost) {
			t.Errorf("Send on a dead session = %v; want ErrLost", err)
		}
	})
}

// The window never overruns the server's Receive Maximum, keeps the order, and
// tells every outcome exactly once.
func TestWindow(t *testing.T) {
	const limit, messages = 5, 200
	synctest.Test(t, func(t *testing.T) {
		s, err := open(t, Config{}, func(b *broker) {
			b.accept(limit)
			received := make(chan *packets.Publish, messages)
			var acks sync.WaitGroup
			acks.Go(func() {
				for p := range received {
					b.write(&packets.Puback{PacketID: p.PacketID, Properties: &packets.Properties{}})
				}
			})
			for i := range messages {
				p := b.read().Content.(*packets.Publish)
				if int(p.Payload[0]) != i%256 {
					t.Errorf("message %d has payload %d", i, p.Payload[0])
				}
				if p.PacketID < 1 || p.PacketID > limit {
					t.Errorf("packet id %d is outside the window of %d", p.PacketID, limit)
				}
				received <- p
			}
			close(received)
			acks.Wait()
			b.conn.Close()
		})
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		outcomes := map[int]int{}
		for i := range messages {
			err := s.Send(t.Context(), Message{Topic: "t", Payload: []byte{byte(i)}}, func(code byte, err error) {
				mu.Lock()
				defer mu.Unlock()
				if err == nil && code == 0 {
					outcomes[i]++
				}
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		<-s.Done()
		for i := range messages {
			if outcomes[i] != 1 {
				t.Errorf("message %d has %d outcomes", i, outcomes[i])
			}
		}
	})
}

// A message larger than the server takes would end the session, and would be
// the first one again in the next.
func TestTooLargeForTheServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, err := open(t, Config{}, func(b *broker) {
			b.read()
			b.write(&packets.Connack{Properties: &packets.Properties{MaximumPacketSize: new(uint32(100))}})
			p := b.read().Content.(*packets.Publish)
			b.write(&packets.Puback{PacketID: p.PacketID, Properties: &packets.Properties{}})
			b.read()
		})
		if err != nil {
			t.Fatal(err)
		}
		const head = 1 + 1 + 2 + 1 + 2 + 1 // type, length, topic "t", identifier, no properties
		for size, want := range map[int]byte{100 - head: 0, 101 - head: 0x95} {
			if code, err := s.Publish(t.Context(), Message{Topic: "t", Payload: make([]byte, size)}); code != want || err != nil {
				t.Errorf("a payload of %d bytes: %#x, %v; want %#x", size, code, err, want)
			}
		}
		s.Close()
	})
}

func TestSubscribeAndReceive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := make(chan string, 1)
		s, err := open(t, Config{OnMessage: func(topic string, payload []byte) { got <- topic + " " + string(payload) }}, func(b *broker) {
			b.accept(10)
			sub := b.read().Content.(*packets.Subscribe)
			if sub.Properties != nil && sub.Properties.SubscriptionIdentifier != nil {
				t.Error("SUBSCRIBE has a subscription identifier, which AWS answers with a DISCONNECT")
			}
			b.write(&packets.Suback{PacketID: sub.PacketID, Reasons: []byte{1, 0x87}, Properties: &packets.Properties{}})
			b.write(&packets.Publish{Topic: "a", QoS: 1, PacketID: 7, Payload: []byte("x"), Properties: &packets.Properties{}})
			if ack := b.read(); ack == nil || ack.Type != packets.PUBACK || ack.PacketID() != 7 {
				t.Errorf("got %+v; want PUBACK 7", ack)
			}
			b.conn.Close()
		})
		if err != nil {
			t.Fatal(err)
		}
		codes, err := s.Subscribe(t.Context(), []string{"a", "b"})
		if err != nil || len(codes) != 2 || codes[0] != 1 || codes[1] != 0x87 {
			t.Errorf("Subscribe = %v, %v", codes, err)
		}
		if m := <-got; m != "a x" {
			t.Errorf("received %q", m)
		}
		<-s.Done()
	})
}

// Nothing stays behind however a session ends; the leak would be one goroutine
// per attempt, for years.
func TestNoLeak(t *testing.T) {
	scripts := []func(*broker){
		func(b *broker) { b.conn.Close() },
		func(b *broker) { b.read(); b.conn.Close() },
		func(b *broker) { b.read(); b.write(&packets.Connack{ReasonCode: 0x87}) },
		func(b *broker) { b.accept(10); b.conn.Close() },
		func(b *broker) { b.accept(10); b.write(&packets.Disconnect{ReasonCode: 0x8B}); b.conn.Close() },
	}
	// synctest.Test fails when goroutines of its bubble outlive it.
	synctest.Test(t, func(t *testing.T) {
		for range 20 {
			for _, script := range scripts {
				if s, err := open(t, Config{KeepAlive: 30 * time.Second}, script); err == nil {
					_ = s.Err() // it waits for the end
				}
			}
		}
		synctest.Wait()
		if n := strings.Count(stacks(), "paho.golang"); n > 0 {
			t.Errorf("%d frames of paho are still running", n)
		}
	})
}

func stacks() string {
	buf := make([]byte, 1<<20)
	return string(buf[:runtime.Stack(buf, true)])
}
