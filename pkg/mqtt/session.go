package mqtt

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
)

const (
	// connackTimeout is how long a CONNACK may take; the AWS CRT's value.
	connackTimeout = 20 * time.Second
	// receiveMaximum is how many publishes of the server may wait for our
	// handler. It must be set: without it paho allocates 541 KB a connect.
	receiveMaximum = 20
	// farewell is how long Close may take to send the DISCONNECT.
	farewell = time.Second
)

// Config says how to open a session. All fields but OnMessage are needed.
type Config struct {
	ClientID  string
	KeepAlive time.Duration // rounded down to seconds; the server may make it shorter
	// Stall is how long one write may take before the connection counts as
	// dead.
	Stall time.Duration
	// OnMessage is called for each publish of the server, one after the other.
	// It must not block: acknowledgements wait behind it.
	OnMessage func(topic string, payload []byte)
}

// Session is one MQTT 5 connection after its CONNACK. It is safe for
// concurrent use.
type Session struct {
	client *paho.Client
	conn   *conn
	window *window
	errs   chan error // what paho says of the end
	done   chan struct{}
	err    error // valid when done is closed

	receiveMaximum int
	maxPacket      int // bytes, of a whole packet; 0 where the server names no limit
}

// Connect sends the CONNECT (MQTT 5, Clean Start, session expiry 0, no will)
// on c and waits for the CONNACK. It owns c from here on: on an error c is
// closed.
//
// The error is a *Refused, ErrFrame, what the network said, or the context's.
func Connect(ctx context.Context, c net.Conn, cfg Config) (*Session, error) {
	conn := newConn(c, cfg.Stall)
	s := &Session{
		conn:   conn,
		window: newWindow(conn),
		errs:   make(chan error, 2), // a read error and a pinger's may both come
		done:   make(chan struct{}),
	}
	report := func(err error) {
		select {
		case s.errs <- err:
		default:
		}
	}
	s.client = paho.NewClient(paho.ClientConfig{
		Conn:          s.conn,
		Session:       s.window,
		PingHandler:   &pinger{conn: conn, atLeastEvery: cfg.KeepAlive.Truncate(time.Second)},
		PacketTimeout: connackTimeout,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){
			func(p paho.PublishReceived) (bool, error) {
				if cfg.OnMessage != nil {
					cfg.OnMessage(p.Packet.Topic, p.Packet.Payload)
				}
				return true, nil
			},
		},
		OnClientError:      report,
		OnServerDisconnect: func(*paho.Disconnect) { report(nil) },
	})

	ack, err := s.client.Connect(ctx, &paho.Connect{
		ClientID:   cfg.ClientID,
		CleanStart: true,
		KeepAlive:  uint16(cfg.KeepAlive / time.Second),
		Properties: &paho.ConnectProperties{ReceiveMaximum: new(uint16(receiveMaximum))},
	})
	if err != nil {
		return nil, s.connectError(ctx, ack, err)
	}
	s.receiveMaximum = s.window.limit
	if p := ack.Properties; p != nil && p.MaximumPacketSize != nil {
		s.maxPacket = int(min(*p.MaximumPacketSize, maxFrameLength))
	}
	go s.watch()
	return s, nil
}

// connectError finds the reason behind paho's error: what the connection saw
// first, else the CONNACK, else the time limit.
func (s *Session) connectError(ctx context.Context, ack *paho.Connack, err error) error {
	switch {
	case ack != nil && ack.ReasonCode >= 0x80:
		refused := &Refused{Code: ack.ReasonCode}
		if ack.Properties != nil {
			refused.Reason = ack.Properties.ReasonString
		}
		return refused
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no CONNACK within %v: %w", connackTimeout, err)
	}
	if reason := s.conn.reason(); reason != nil {
		return reason
	}
	return fmt.Errorf("%w: %w", ErrFrame, err)
}

// watch closes done when the session has ended and its reason is known.
func (s *Session) watch() {
	<-s.client.Done()
	defer close(s.done)
	if d := s.window.disconnect(); d != nil {
		end := &Disconnected{Code: d.ReasonCode}
		if d.Properties != nil {
			end.Reason = d.Properties.ReasonString
		}
		s.err = end
		return
	}
	if s.err = s.conn.reason(); s.err == nil {
		// Neither side closed and the stream did not break: paho stumbled
		// over a packet, and says so right after Done.
		s.err = fmt.Errorf("%w: %w", ErrFrame, <-s.errs)
	}
}

// Done is closed when the session has ended.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err is why the session ended: *Disconnected, ErrKeepAlive, ErrFrame,
// ErrClosed, or what the network said. It waits for the end.
func (s *Session) Err() error {
	<-s.done
	return s.err
}

// ReceiveMaximum is how many publishes may be unacknowledged at once: the
// server's Receive Maximum, at most 100.
func (s *Session) ReceiveMaximum() int { return s.receiveMaximum }

// Send hands m over behind all earlier ones and returns; outcome is told later
// how it ended. It waits while the window is full or the link is busy. An error,
// ErrLost or the context's, means that m was not sent and outcome will not be
// called.
//
// A message larger than the server takes ends with 0x95, packet too large, as
// if the server had said so: sending it would end the session instead. This
// outcome alone is told before Send returns.
//
// For an order among messages call it from one goroutine.
func (s *Session) Send(ctx context.Context, m Message, outcome Outcome) error {
	frame := frameOf(&m)
	if !frame.fits(s.maxPacket) {
		outcome(packets.DisconnectPacketTooLarge, nil)
		return nil
	}
	id, err := s.window.acquire(ctx)
	if err != nil {
		return err
	}
	if err := s.conn.lock(ctx); err != nil {
		s.window.release(id)
		return err
	}
	defer s.conn.Unlock()
	if s.conn.shut != nil || !s.window.prepare(id, outcome) {
		return ErrLost
	}
	s.conn.pending = frame.append(s.conn.pending, id)
	return nil
}

// Publish sends m and waits for its PUBACK. The code is the PUBACK's; an
// error is ErrLost or the context's, and m may have arrived all the same.
func (s *Session) Publish(ctx context.Context, m Message) (code byte, err error) {
	type result struct {
		code byte
		err  error
	}
	answer := make(chan result, 1)
	if err := s.Send(ctx, m, func(code byte, err error) { answer <- result{code, err} }); err != nil {
		return 0, err
	}
	select {
	case r := <-answer:
		return r.code, r.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// Subscribe asks for filters at QoS 1, at most 8 of them (AWS IoT's limit for
// one SUBSCRIBE), and returns the SUBACK's reason codes in their order. A
// refused filter is a code of 0x80 or above, not an error.
func (s *Session) Subscribe(ctx context.Context, filters []string) ([]byte, error) {
	subscribe := &paho.Subscribe{}
	for _, f := range filters {
		subscribe.Subscriptions = append(subscribe.Subscriptions, paho.SubscribeOptions{Topic: f, QoS: 1})
	}
	ack, err := s.client.Subscribe(ctx, subscribe)
	if ack != nil {
		return ack.Reasons, nil
	}
	return nil, err
}

// Close sends a DISCONNECT, closes the connection and waits for the end. A
// dead link holds it up for a second at most.
func (s *Session) Close() {
	s.conn.fail(ErrClosed)
	s.conn.hurry(farewell)
	_ = s.client.Disconnect(&paho.Disconnect{}) // its error says that the link is dead
	<-s.done
}
