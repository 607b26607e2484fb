package mqtt

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// conn is the connection as paho sees it. paho holds Lock while it writes the
// parts of one packet and calls Unlock behind the last one: the packet leaves
// there, in one TLS record instead of three.
//
// A write that does not finish within stall, and any other failed write,
// closes the connection: paho itself would go on with a broken stream.
type conn struct {
	net.Conn
	stall atomic.Int64 // nanoseconds that one write may take

	writing sync.Mutex // held by paho from Lock to Unlock
	pending []byte     // guarded by writing
	broken  error      // guarded by writing: why a packet did not get out

	guard guard // used by paho's single reader only

	mu  sync.Mutex
	end error // the first error of either direction
}

func newConn(c net.Conn, stall time.Duration) *conn {
	wrapped := &conn{Conn: c}
	wrapped.stall.Store(int64(stall))
	return wrapped
}

func (c *conn) Lock() { c.writing.Lock() }

func (c *conn) Unlock() {
	defer c.writing.Unlock()
	if len(c.pending) == 0 {
		return
	}
	err := c.SetWriteDeadline(time.Now().Add(time.Duration(c.stall.Load())))
	if err == nil {
		_, err = c.Conn.Write(c.pending)
	}
	c.pending = c.pending[:0]
	if err != nil {
		c.broken = err
		c.fail(err)
		c.abort()
	}
}

// Close ends the connection. What TLS still has to say may take farewell: on a
// full send buffer crypto/tls would wait 5 s to get it out.
func (c *conn) Close() error {
	giveUp := time.AfterFunc(farewell, c.abort)
	defer giveUp.Stop()
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

// hurry shortens what a write may take from now on, the one under way too.
func (c *conn) hurry(limit time.Duration) {
	c.stall.Store(int64(limit))
	_ = c.SetWriteDeadline(time.Now().Add(limit)) // fails only on a closed connection
}

// Write keeps p until Unlock; paho holds the lock. It fails where an earlier
// packet did not get out.
func (c *conn) Write(p []byte) (int, error) {
	if c.broken != nil {
		return 0, c.broken
	}
	c.pending = append(c.pending, p...)
	return len(p), nil
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if bad := c.guard.check(p[:n]); bad != nil {
		c.fail(bad)
		c.abort()
		return 0, bad
	}
	if err != nil {
		c.fail(err)
	}
	return n, err
}

// fail keeps the first reason: what follows (use of a closed connection) is
// its consequence.
func (c *conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end == nil {
		c.end = err
	}
}

func (c *conn) reason() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.end
}
