package local

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"go.uber.org/zap"
)

const (
	// writeTimeout is how long a client may take to make room for what is
	// sent to it. Its own socket buffer is full all the time.
	writeTimeout = 10 * time.Second
	// farewell is how long the last words may take, and how long is waited
	// for the client to hear them.
	farewell = time.Second
	// maxControl is how many bytes of answers (but PUBACKs, which the window
	// bounds) may wait for a client before nothing more is read from it.
	maxControl = 4 << 10
)

var (
	errTakenOver = &fault{packets.ErrSessionTakenOver.Code, "another client has connected with the same client id"}
	errStopping  = &fault{packets.ErrServerShuttingDown.Code, "jitr-agent is stopping"}
)

// client is one connection. The goroutine of serve reads, that of write
// writes; what they share is guarded by mu.
type client struct {
	server *Server
	conn   net.Conn
	cancel context.CancelFunc // ends what the reading goroutine waits for

	in        inbound // used by the reading goroutine only, as the next two
	lastTopic string  // of the last PUBLISH
	explained []byte  // the codes that Refused was told of, where the id is ours

	hello // written with mu held, by the reading goroutine only

	wake chan struct{} // a token: there may be something to write
	room chan struct{} // a token: something was written

	mu            sync.Mutex
	end           error        // why it ends; the first reason counts
	control       bytes.Buffer // encoded answers
	window        window
	subscriptions []subscription
	queue         []delivery
	queueBytes    int
	inFlight      map[uint16]struct{} // ids of deliveries without PUBACK
	lastID        uint16
}

// hello is what the client said in its CONNECT.
type hello struct {
	version     byte // 0: nothing yet
	greeted     bool // the CONNACK accepts it
	id          string
	assigned    bool // id is ours
	keepAlive   time.Duration
	maxPacket   uint32 // that it takes, in bytes; 0: any
	quota       int    // publishes at QoS 1 that it takes at a time
	problemInfo bool   // it wants to hear reasons
}

// serve serves one connection from CONNECT to its end, and closes it.
func (s *Server) serve(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	ours, cancel := context.WithCancel(ctx)
	defer cancel()
	c := &client{
		server: s, conn: conn, cancel: cancel,
		wake: make(chan struct{}, 1), room: make(chan struct{}, 1),
	}
	var helpers sync.WaitGroup
	helpers.Go(c.write)
	helpers.Go(func() {
		<-ours.Done()
		if ctx.Err() != nil {
			c.finish(errStopping)
		}
	})

	err := c.connect(ours)
	if err == nil {
		err = c.read(ours)
	}
	s.leave(c)
	s.feed.change(c, false)
	if ctx.Err() != nil {
		err = errStopping
	}
	c.finish(err)
	helpers.Wait()
	c.window.cutLoose()
	c.linger()
}

// finish ends the connection because of err; only the first call counts. The
// writing goroutine sends what is due, and the reason.
func (c *client) finish(err error) {
	c.mu.Lock()
	if c.end == nil {
		c.end = err
		// These fail only on a connection that is closed.
		_ = c.conn.SetReadDeadline(time.Now())
		_ = c.conn.SetWriteDeadline(time.Now().Add(farewell))
		c.server.cfg.Log.Debug("a local client's connection ends", zap.String("client", c.id), zap.Error(err))
	}
	c.mu.Unlock()
	c.cancel()
	signal(c.wake)
}

func signal(token chan struct{}) {
	select {
	case token <- struct{}{}:
	default:
	}
}

// linger waits until the client has heard why it is cut off: closing while
// it is still sending would throw that away.
func (c *client) linger() {
	c.mu.Lock()
	end := c.end
	c.mu.Unlock()
	var f *fault
	conn, ok := c.conn.(interface{ CloseWrite() error })
	if !ok || !errors.As(end, &f) || f == errStopping || conn.CloseWrite() != nil {
		return
	}
	if c.conn.SetReadDeadline(time.Now().Add(farewell)) == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(c.conn, 1<<20)) // whatever it says
	}
}

// read answers the client's packets until it, or the connection, ends.
func (c *client) read(ctx context.Context) error {
	for {
		header, body, err := c.in.next()
		if err != nil {
			return c.readError(err)
		}
		if err := c.handle(ctx, header, body); err != nil {
			return err
		}
		c.in.handled()
	}
}

// readError says what the end of the reading means.
func (c *client) readError(err error) error {
	var f *fault
	var timeout net.Error
	switch {
	case errors.As(err, &f):
		if f.code == packets.ErrPacketTooLarge.Code {
			c.server.refuse(c, "", f)
		}
		return f
	case errors.As(err, &timeout) && timeout.Timeout():
		return faultf(packets.ErrKeepAliveTimeout, "nothing came for one and a half times the keep-alive interval of %v", c.keepAlive)
	}
	return errGone
}

// handle does what one packet asks for.
func (c *client) handle(ctx context.Context, header byte, body []byte) error {
	kind := header >> 4
	if kind == packets.Publish {
		return c.publish(ctx, header, body)
	}
	var fixed packets.FixedHeader
	if err := fixed.Decode(header); err != nil {
		return malformed(err)
	}
	switch kind {
	case packets.Pingreq:
		return c.answer(ctx, packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingresp}})
	case packets.Puback:
		return c.acknowledged(body)
	case packets.Subscribe:
		return c.subscribe(ctx, body)
	case packets.Unsubscribe:
		return c.unsubscribe(ctx, body)
	case packets.Disconnect:
		return errGone
	}
	return faultf(packets.ErrProtocolViolation, "a %s packet has no place here", packets.PacketNames[kind])
}

// answer queues an answer. A client that does not fetch its answers is not
// read any further.
func (c *client) answer(ctx context.Context, pk packets.Packet) error {
	for {
		c.mu.Lock()
		wait := c.control.Len() > maxControl
		if !wait {
			c.encode(&c.control, &pk)
		}
		c.mu.Unlock()
		if !wait {
			signal(c.wake)
			return nil
		}
		if err := c.waitRoom(ctx); err != nil {
			return err
		}
	}
}

// waitRoom waits until something was written, or for a while: the caller looks
// whether there is room. A client that has gone meanwhile is not waited for.
func (c *client) waitRoom(ctx context.Context) error {
	look := time.NewTimer(fullRetry)
	defer look.Stop()
	select {
	case <-c.room:
		return nil
	case <-look.C:
		if hungUp(c.conn) {
			return errGone
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
