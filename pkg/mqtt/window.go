package mqtt

import (
	"context"
	"io"
	"sync"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho/log"
	"github.com/eclipse/paho.golang/paho/session"
)

// maxInFlight is how many publishes may be unacknowledged at once, whatever
// the server offers: AWS IoT's own limit (quota "unacknowledged QoS 1 publish
// requests", 100 a connection).
const maxInFlight = 100

// Outcome is told how a publish ended, exactly once: with the PUBACK's reason
// code, or with ErrLost when the session ended first. It is called on the
// session's reader and must not block.
type Outcome func(code byte, err error)

// window is paho's session manager for one connection. It hands out packet
// identifiers, holds at most the server's Receive Maximum of publishes, and
// tells every one's outcome. paho's own manager offers order or outcomes, not
// both, and overruns the Receive Maximum after a reconnect.
type window struct {
	conn  *conn
	free  places
	lost  chan struct{}
	limit int // how many publishes may be in flight, valid after ConAckReceived

	mu       sync.Mutex
	inFlight [maxInFlight + 1]Outcome                // by packet identifier; nil: not in flight
	waiting  map[uint16]chan<- packets.ControlPacket // SUBSCRIBE
	lastID   uint16                                  // of a SUBSCRIBE, above those of publishes
	ended    bool
	server   *packets.Disconnect // what the server said when it ended the session
}

var _ session.SessionManager = (*window)(nil)

func newWindow(c *conn) *window {
	return &window{
		conn:    c,
		lost:    make(chan struct{}),
		waiting: map[uint16]chan<- packets.ControlPacket{},
		lastID:  maxInFlight,
	}
}

// ConAckReceived opens the window as wide as the server allows. paho's reader
// starts behind it.
func (w *window) ConAckReceived(_ io.Writer, _ *packets.Connect, ack *packets.Connack) error {
	w.limit = maxInFlight
	if p := ack.Properties; p != nil && p.ReceiveMaximum != nil {
		w.limit = min(w.limit, int(*p.ReceiveMaximum))
	}
	w.free.open(w.limit, w.conn.hastener != nil)
	w.conn.hasten = w.free.hasten
	w.conn.acked = w.acknowledged
	return nil
}

// acquire waits for a free slot and reserves it for the publish that follows.
func (w *window) acquire(ctx context.Context) (uint16, error) {
	select {
	case <-w.lost: // a free slot of a dead session is of no use
		return 0, ErrLost
	default:
	}
	return w.free.take(ctx, w.lost)
}

// release gives back what acquire gave, for a publish that was not sent.
func (w *window) release(id uint16) { w.free.put(id) }

// prepare registers the outcome of the publish with this identifier.
// It reports false where the session has ended: the outcome is not told then.
func (w *window) prepare(id uint16, outcome Outcome) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return false
	}
	w.inFlight[id] = outcome
	return true
}

// AddToSession gives a SUBSCRIBE its identifier. Publishes do not come here:
// Session.Send writes them itself.
func (w *window) AddToSession(_ context.Context, p session.Packet, resp chan<- packets.ControlPacket) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return session.ErrNoConnection
	}
	for {
		w.lastID++
		if w.lastID <= maxInFlight { // wrapped around
			w.lastID = maxInFlight + 1
		}
		if _, taken := w.waiting[w.lastID]; !taken {
			break
		}
	}
	p.SetIdentifier(w.lastID)
	w.waiting[w.lastID] = resp
	return nil
}

// PacketReceived takes what the server acknowledges, and hands its publishes
// on. An identifier that is not in flight is passed over.
func (w *window) PacketReceived(p *packets.ControlPacket, pubs chan<- *packets.Publish) error {
	switch c := p.Content.(type) {
	case *packets.Publish:
		select {
		case pubs <- c:
		case <-w.lost:
		}
	case *packets.Puback:
		w.acknowledged(c.PacketID, c.ReasonCode)
	default:
		w.mu.Lock()
		resp, ok := w.waiting[p.PacketID()]
		delete(w.waiting, p.PacketID())
		w.mu.Unlock()
		if ok {
			resp <- *p // buffered by paho
		}
	}
	return nil
}

// acknowledged ends the publish with this identifier.
func (w *window) acknowledged(id uint16, code byte) {
	if int(id) >= len(w.inFlight) {
		return
	}
	w.mu.Lock()
	outcome := w.inFlight[id]
	w.inFlight[id] = nil
	w.mu.Unlock()
	if outcome != nil {
		w.release(id)
		outcome(code, nil)
	}
}

// Ack acknowledges a publish of the server whose handlers have returned.
func (w *window) Ack(p *packets.Publish) error {
	if p.QoS == 0 {
		return nil
	}
	_, err := (&packets.Puback{PacketID: p.PacketID}).WriteTo(w.conn)
	return err
}

// ConnectionLost tells everybody who still waits. paho may call it twice for
// one end; the DISCONNECT, if there was one, comes first.
func (w *window) ConnectionLost(d *packets.Disconnect) error {
	w.mu.Lock()
	if w.ended {
		w.mu.Unlock()
		return nil
	}
	w.ended, w.server = true, d
	inFlight, waiting := w.inFlight, w.waiting
	w.inFlight, w.waiting = [maxInFlight + 1]Outcome{}, nil
	w.mu.Unlock()
	close(w.lost)
	for _, outcome := range inFlight {
		if outcome != nil {
			outcome(0, ErrLost)
		}
	}
	for _, resp := range waiting {
		resp <- packets.ControlPacket{} // paho's sign for "the connection is gone"
	}
	return nil
}

// disconnect is the server's DISCONNECT, nil where it sent none.
func (w *window) disconnect() *packets.Disconnect {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.server
}

// Close and the loggers are part of paho's interface; a session manager that
// was passed in is never closed by paho.
func (w *window) Close() error              { return w.ConnectionLost(nil) }
func (w *window) SetErrorLogger(log.Logger) {}
func (w *window) SetDebugLogger(log.Logger) {}
