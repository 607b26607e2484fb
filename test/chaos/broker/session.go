package broker

import (
	"bufio"
	"context"
	"crypto/tls"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// session is one connection of the client.
type session struct {
	broker *Broker
	raw    *net.TCPConn
	conn   *tls.Conn
	fate   fate
	random *rand.Rand // of the reading side
	done   chan struct{}
	began  time.Time // of the accept

	mu    sync.Mutex
	open  map[uint16]bool // packet identifiers that wait for their PUBACK
	ended bool            // told as cut
}

// answer is a packet to send, for a message where it is a PUBACK.
type answer struct {
	data    []byte
	message *message
	code    byte
	hold    time.Duration // nothing goes out for so long before it
	half    bool          // only the first half of it is sent, and the connection closed
}

func (s *session) serve(ctx context.Context) {
	if err := s.conn.HandshakeContext(ctx); err != nil {
		return
	}
	in := bufio.NewReader(s.conn)
	first, err := readPacket(in)
	if err != nil {
		return // killed before it said who it is
	}
	c, err := parseConnect(first)
	if err != nil {
		s.broker.cfg.Recorder.Violation("%v", err)
		return
	}
	if s.fate.end == beforeConnack && s.faulty() {
		return
	}
	present := s.broker.enter(s, c)
	s.open = map[uint16]bool{}
	answers := make(chan answer, 2*s.fate.receiveMaximum+100)
	var writing sync.WaitGroup
	ctx, end := context.WithCancel(ctx)
	defer end()
	writing.Go(func() { s.write(ctx, answers) })
	if s.fate.end != ends { // the end comes also where no message does
		timer := time.AfterFunc(s.fate.within, func() {
			if s.faulty() {
				s.cut()
			}
		})
		defer timer.Stop()
	}
	answers <- answer{data: connack(present, s.fate.receiveMaximum)}
	s.read(in, answers)
	end() // nobody is left to be silent to
	close(answers)
	writing.Wait()
}

// faulty says whether faults still happen.
func (s *session) faulty() bool { return s.fate.end != ends && !s.broker.calm.Load() }

// cut closes at once.
func (s *session) cut() {
	s.tellCut()
	s.raw.Close()
}

// tellCut tells once that the end is the broker's doing.
func (s *session) tellCut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.ended = true
		s.broker.cfg.Recorder.Cut()
	}
}

// read reads packets until the end of the connection, and leaves it to the
// writer to send what is still in answers.
func (s *session) read(in *bufio.Reader, answers chan<- answer) {
	for count := 0; ; {
		p, err := readPacket(in)
		if err != nil {
			return
		}
		switch p.kind {
		case publish:
			count++
			if !s.publish(p, count, answers) || s.faulty() && count >= s.fate.after && s.finish(in, answers) {
				return
			}
		case subscribe:
			granted, err := suback(p)
			if err != nil {
				s.broker.cfg.Recorder.Violation("SUBSCRIBE: %v", err)
				return
			}
			answers <- answer{data: granted}
		case unsubscribe:
			if len(p.body) < 2 {
				s.broker.cfg.Recorder.Violation("UNSUBSCRIBE of %d bytes", len(p.body))
				return
			}
			// For one filter, which is all that a bridge takes back at a time.
			answers <- answer{data: []byte{0xb0, 4, p.body[0], p.body[1], 0, 0}}
		case pingreq:
			answers <- answer{data: []byte{0xd0, 0}}
		case disconnect:
			return
		default:
			s.broker.cfg.Recorder.Violation("a packet of type %d", p.kind)
			return
		}
	}
}

// publish takes the count-th message of the connection. It returns false where
// the client broke the rules.
func (s *session) publish(p packet, count int, answers chan<- answer) bool {
	tell := s.broker.cfg.Recorder
	m, err := parsePublish(p)
	if err != nil {
		tell.Violation("PUBLISH: %v", err)
		return false
	}
	s.mu.Lock()
	taken := s.open[m.id]
	s.open[m.id] = true
	inFlight := len(s.open)
	s.mu.Unlock()
	switch {
	case m.qos != 1 || m.retained || m.id == 0:
		tell.Violation("PUBLISH with QoS %d, retain %v, packet identifier %d", m.qos, m.retained, m.id)
	case taken:
		tell.Violation("packet identifier %d is in use", m.id)
	case inFlight > s.fate.receiveMaximum:
		tell.Violation("%d messages in flight, and a Receive Maximum of %d", inFlight, s.fate.receiveMaximum)
	}
	tell.Arrived(m.Message)

	a := answer{message: &m, code: Taken}
	if s.faulty() {
		if s.fate.end == swallowed && (count > s.fate.after-s.fate.unanswered || time.Since(s.began) > s.fate.within-s.fate.silent) {
			return true
		}
		if count == s.fate.muteAt {
			a.hold = s.fate.mute
		}
		a.half = s.fate.end == halfWritten && count >= s.fate.after
	}
	switch {
	case s.broker.cfg.Denied(m.Topic):
		a.code = NotAuthorized
	case s.faulty() && s.random.Float64() < s.fate.busy:
		a.code = QuotaExceeded
	}
	a.data = puback(m.id, a.code)
	answers <- a
	return true
}

// finish ends the connection in the way of its fate; false leaves that to the
// writer.
func (s *session) finish(in *bufio.Reader, answers chan<- answer) bool {
	switch s.fate.end {
	case halfRead:
		_, _ = in.Peek(1 + s.random.IntN(40)) // the beginning of one more packet
		s.cut()
	case halfWritten:
		return false
	case goodbye:
		s.tellCut()
		answers <- answer{data: []byte{0xe0, 1, 0x8b}}
	case swallowed:
		s.cut()
	case reset:
		s.tellCut()
		_ = s.raw.SetLinger(0) // an error means that it is closed
		s.raw.Close()
	default:
		s.tellCut()
	}
	return true
}

// write sends what comes, until answers is closed or the connection is.
func (s *session) write(ctx context.Context, answers <-chan answer) {
	for a := range answers {
		if a.hold > 0 && !s.silence(ctx, a.hold) {
			break
		}
		if a.message != nil {
			s.mu.Lock()
			delete(s.open, a.message.id)
			s.mu.Unlock()
			if a.half { // as good as not sent
				s.tellCut()
				_, _ = s.conn.Write(a.data[:1+len(a.data)/2])
				break
			}
			s.broker.cfg.Recorder.Answered(a.code, a.message.Message)
		}
		if _, err := s.conn.Write(a.data); err != nil {
			break
		}
		if a.message != nil && a.code == NotAuthorized && s.broker.cfg.CutDenied {
			s.tellCut()
			// What the client still sends is read, else the end would be a reset,
			// which overtakes the PUBACK.
			_ = s.raw.CloseWrite()
			for range answers {
				// until the client closes too
			}
		}
	}
	s.raw.Close() // the reader ends
	for range answers {
		// until the reader has closed it
	}
}

// silence waits, and reports false where the connection ended meanwhile.
func (s *session) silence(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
