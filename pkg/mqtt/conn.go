package mqtt

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

const (
	// maxPending is how many bytes may wait to be written before whoever wants
	// to add a packet waits too: four TLS records of the largest size, more
	// than a window of 100 messages of 200 bytes.
	maxPending = 64 << 10
	// readSize is how much is read at once: the PUBACKs of ten windows.
	readSize = 4 << 10
)

// conn is the connection as paho sees it.
//
// Packets are gathered in pending, and one goroutine, the flusher, writes what
// there is: a packet on an idle connection leaves at once, and under load the
// packets that come while a write is under way leave together, in one TLS
// record. No timer is involved. Packets leave in the order in which they were
// added.
//
// A write that does not finish within stall, and any other failed write,
// closes the connection: paho itself would go on with a broken stream.
//
// PUBACKs, which are all that a server sends a gateway under load, do not go
// through paho: it allocates a dozen times for each.
type conn struct {
	net.Conn

	mu      sync.Mutex    // held while a packet is added
	pending []byte        // packets that the flusher has not taken yet
	shut    error         // why no more packets are taken
	room    chan struct{} // closed when pending has been taken, nil while nobody waits for that

	more    chan struct{} // a token: the flusher has something to look at
	flushed chan struct{} // closed when the flusher has ended

	limits sync.Mutex // held while a write deadline is set
	stall  time.Duration

	// The reading side is used by paho's single reader only.
	guard    guard
	buffer   []byte
	unread   []byte // the part of buffer that has not been handed on
	readErr  error  // what came with the last bytes
	acked    func(id uint16, code byte)
	hasten   func() bool // whether the peer is to be hastened before the next read
	hastener *hastener   // nil where it cannot be

	// The last byte in each direction, in nanoseconds since opened: a wall
	// clock would jump.
	opened         time.Time
	sent, received atomic.Int64

	reasons sync.Mutex
	end     error // the first error of either direction
}

// newConn wraps c. Close must be called: it ends the flusher.
func newConn(c net.Conn, stall time.Duration) *conn {
	wrapped := &conn{
		Conn:    c,
		more:    make(chan struct{}, 1),
		flushed: make(chan struct{}),
		stall:   stall,
		buffer:  make([]byte, readSize),
		opened:  time.Now(),

		hastener: newHastener(c),
	}
	go wrapped.flush()
	return wrapped
}

// lock waits until there is room for a packet and returns with mu held. Its
// only error is the context's; mu is not held then.
func (c *conn) lock(ctx context.Context) error {
	for {
		c.mu.Lock()
		full := c.shut == nil && len(c.pending) >= maxPending
		if !full {
			return nil
		}
		if c.room == nil {
			c.room = make(chan struct{})
		}
		room := c.room
		c.mu.Unlock()
		select {
		case <-room: // at the latest when the write under way stalls
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Lock is called by paho before it writes the parts of one packet.
func (c *conn) Lock() { _ = c.lock(context.Background()) } // which has no error

// Unlock is called by paho behind the last part, and hands the packet over.
func (c *conn) Unlock() {
	if len(c.pending) > 0 {
		c.wake()
	}
	c.mu.Unlock()
}

// Write adds p to the packet. It fails where an earlier packet did not get out,
// or the connection is closed.
func (c *conn) Write(p []byte) (int, error) {
	if c.shut != nil {
		return 0, c.shut
	}
	c.pending = append(c.pending, p...)
	return len(p), nil
}

func (c *conn) wake() {
	select {
	case c.more <- struct{}{}:
	default:
	}
}

// flush is the flusher. It ends when a write fails, and when the connection is
// closed and nothing is pending.
func (c *conn) flush() {
	defer close(c.flushed)
	var batch []byte
	for last := false; !last; {
		<-c.more
		for {
			if batch, last = c.take(batch); len(batch) == 0 {
				break
			}
			c.extend()
			if _, err := c.Conn.Write(batch); err != nil {
				c.fail(err)
				c.refuse(err)
				c.abort()
				return
			}
			c.sent.Store(int64(time.Since(c.opened)))
		}
	}
}

// take exchanges what is pending for an empty buffer, and says whether no
// packets will come behind it. The two buffers take turns; one that a large
// message has blown up is let go.
func (c *conn) take(empty []byte) (batch []byte, last bool) {
	if cap(empty) > 2*maxPending {
		empty = nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	batch, c.pending = c.pending, empty[:0]
	c.makeRoom()
	return batch, c.shut != nil
}

// refuse makes everybody fail who still wants to add a packet.
func (c *conn) refuse(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shut == nil {
		c.shut = err
	}
	c.makeRoom()
}

// makeRoom wakes those who wait for room; mu is held.
func (c *conn) makeRoom() {
	if c.room != nil {
		close(c.room)
		c.room = nil
	}
}

// extend gives the next write its time.
func (c *conn) extend() {
	c.limits.Lock()
	defer c.limits.Unlock()
	_ = c.SetWriteDeadline(time.Now().Add(c.stall)) // fails only on a closed connection
}

// hurry shortens what a write may take from now on, the one under way too.
func (c *conn) hurry(limit time.Duration) {
	c.limits.Lock()
	c.stall = limit
	c.limits.Unlock()
	c.extend()
}

// Close ends the connection when what is pending has been written, and waits
// for the flusher. That, and what TLS still has to say, may take farewell: on a
// full send buffer crypto/tls alone would wait 5 s to get it out.
func (c *conn) Close() error {
	giveUp := time.AfterFunc(farewell, c.abort)
	defer giveUp.Stop()
	c.refuse(net.ErrClosed)
	c.wake()
	<-c.flushed
	if c.hastener != nil {
		c.hastener.close()
	}
	return c.Conn.Close()
}

// abort closes the connection below TLS, without a word.
func (c *conn) abort() {
	below := c.Conn
	if secure, ok := below.(interface{ NetConn() net.Conn }); ok {
		below = secure.NetConn()
	}
	below.Close()
}

// Read hands on the next bytes of a frame, and never more than one frame: what
// stands between two frames is looked at for PUBACKs.
func (c *conn) Read(p []byte) (int, error) {
	for {
		if c.guard.between() {
			c.unread = c.takePubacks(c.unread)
		}
		if len(c.unread) > 0 {
			n, err := c.guard.next(c.unread[:min(len(p), len(c.unread))])
			if err != nil {
				c.fail(err)
				c.abort()
				return 0, err
			}
			copy(p, c.unread[:n])
			c.unread = c.unread[n:]
			return n, nil
		}
		if c.readErr != nil {
			c.fail(c.readErr)
			return 0, c.readErr
		}
		if c.hastener != nil && c.hasten != nil && c.hasten() {
			c.hastener.hasten()
		}
		n, err := c.Conn.Read(c.buffer)
		c.unread, c.readErr = c.buffer[:n], err
		if n > 0 {
			c.received.Store(int64(time.Since(c.opened)))
		}
	}
}

// takePubacks tells the PUBACKs at the start of p to acked and returns what is
// behind them. One that is not there as a whole, has properties or is malformed
// is left to paho.
func (c *conn) takePubacks(p []byte) []byte {
	for c.acked != nil && len(p) >= 4 && p[0] == packets.PUBACK<<4 {
		length := int(p[1]) // of identifier, and reason code, and property length
		if length < 2 || length > 4 || len(p) < 2+length || length == 4 && p[5] != 0 {
			break
		}
		code := byte(packets.PubackSuccess)
		if length > 2 {
			code = p[4]
		}
		c.acked(uint16(p[2])<<8|uint16(p[3]), code)
		p = p[2+length:]
	}
	return p
}

// lastSent and lastReceived are when a byte last went in that direction, or
// when the connection was opened.
func (c *conn) lastSent() time.Time     { return c.opened.Add(time.Duration(c.sent.Load())) }
func (c *conn) lastReceived() time.Time { return c.opened.Add(time.Duration(c.received.Load())) }

// fail keeps the first reason: what follows (use of a closed connection) is
// its consequence.
func (c *conn) fail(err error) {
	c.reasons.Lock()
	defer c.reasons.Unlock()
	if c.end == nil {
		c.end = err
	}
}

func (c *conn) reason() error {
	c.reasons.Lock()
	defer c.reasons.Unlock()
	return c.end
}
