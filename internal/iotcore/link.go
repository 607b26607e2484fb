package iotcore

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// link is one client's connection as the broker sees it, a net.Conn. It adds
// what the broker does not do:
//
//   - Write never blocks. A client that does not read holds up nobody else;
//     it is cut after writeTimeout or maxQueued bytes.
//   - Flow control as AWS has it: PUBLISHes to the client wait while its
//     Receive Maximum is used up, and PUBLISHes from it are counted until
//     their PUBACK has really left.
//   - Latency, where the configuration asks for it.
//   - Close first sends what is queued, then waits a moment for the client to
//     close: the kernel answers data that nobody reads with a reset, which
//     would destroy a DISCONNECT on its way.
type link struct {
	conn    *tls.Conn
	raw     net.Conn // beneath conn
	latency time.Duration

	// What the handshake showed; set before the broker gets the link.
	chain []*x509.Certificate
	sni   string

	// What CONNECT said; used only by the goroutine that reads, except
	// version, which is set before anything is written.
	clientID string
	version  byte
	filters  []subscription // of the SUBSCRIBE being processed
	outcome  bool           // an Attempt has been recorded

	principal atomic.Pointer[principal]

	wake chan struct{} // of capacity 1

	mu        sync.Mutex
	partial   []byte  // the beginning of a packet
	control   []frame // everything but PUBLISH
	publishes []frame
	queued    int    // bytes in both
	unacked   int    // QoS 1 PUBLISHes to the client without PUBACK
	window    int    // how many of them it takes
	incoming  int    // QoS 1 PUBLISHes from the client without PUBACK
	onIdle    func() // called where the keep-alive time is over
	closed    bool   // nothing more is taken in
	reset     bool   // end with a TCP reset
}

// frame is one MQTT packet on its way to the client.
type frame struct {
	data []byte
	due  time.Time
}

func newLink(conn *tls.Conn, raw net.Conn, latency time.Duration) *link {
	state := conn.ConnectionState()
	return &link{
		conn: conn, raw: raw, latency: latency,
		chain: state.PeerCertificates, sni: state.ServerName,
		wake: make(chan struct{}, 1), window: receiveMaximum,
	}
}

// Read reads from the client. It reports net.ErrClosed once Close was called,
// whatever still arrives.
func (l *link) Read(p []byte) (int, error) {
	n, err := l.conn.Read(p)
	l.mu.Lock()
	closed, onIdle := l.closed, l.onIdle
	l.mu.Unlock()
	if closed {
		return 0, net.ErrClosed
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && onIdle != nil {
		onIdle()
	}
	return n, err
}

// Write queues whole packets; the broker writes nothing else.
func (l *link) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return 0, net.ErrClosed
	}
	due := time.Now().Add(l.latency)
	l.partial = append(l.partial, p...)
	for {
		n := frameSize(l.partial)
		if n == 0 {
			break
		}
		l.enqueue(frame{l.partial[:n:n], due})
		l.partial = l.partial[n:]
	}
	if len(l.partial) == 0 {
		l.partial = nil // frames keep the old array
	}
	l.signal()
	if l.queued > maxQueued {
		l.closed, l.reset = true, true
		return 0, errors.New("the client does not read")
	}
	return len(p), nil
}

func (l *link) enqueue(f frame) {
	switch {
	case f.kind() == packets.Disconnect && l.version < 5:
		return // MQTT 3.1.1 has none from the server; the broker sends it all the same
	case f.kind() == packets.Publish:
		l.publishes = append(l.publishes, f)
	default:
		l.control = append(l.control, f)
	}
	l.queued += len(f.data)
}

func (f frame) kind() byte { return f.data[0] >> 4 }

// counted says whether it is a PUBLISH of QoS 1, which uses up the window.
func (f frame) counted() bool { return f.data[0]>>1&3 > 0 }

// frameSize is the length of the first MQTT packet in p; 0: it is not whole.
func frameSize(p []byte) int {
	size := 0
	for i := 1; i < len(p) && i <= 4; i++ {
		size |= int(p[i]&0x7f) << (7 * (i - 1))
		if p[i]&0x80 == 0 {
			if size += i + 1; size <= len(p) {
				return size
			}
			return 0
		}
	}
	return 0
}

// received counts a QoS 1 PUBLISH from the client; false: it has exceeded our
// Receive Maximum.
func (l *link) received() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.incoming++
	return l.incoming <= receiveMaximum
}

// acked notes the client's PUBACK.
func (l *link) acked() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unacked = max(0, l.unacked-1)
	l.signal()
}

// connected sets what CONNECT asked for. receive 0 is the default.
func (l *link) connected(version byte, receive uint16, onIdle func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.version, l.onIdle = version, onIdle
	if receive > 0 {
		l.window = min(int(receive), receiveMaximum)
	}
}

func (l *link) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Close ends the connection once what is queued is sent.
func (l *link) Close() error { return l.end(false) }

// abort ends it with a TCP reset.
func (l *link) abort() error { return l.end(true) }

func (l *link) end(reset bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return net.ErrClosed
	}
	l.closed, l.reset = true, reset
	l.signal()
	return l.conn.SetReadDeadline(time.Unix(1, 0)) // the reader returns
}

// run sends what is queued until the link is closed, and then ends the
// connection. It returns when the socket is closed.
func (l *link) run() {
	defer l.raw.Close()
	for {
		batch, wait, done := l.take(time.Now())
		if len(batch) > 0 {
			if err := l.send(batch); err != nil {
				_ = l.end(true) // an error says that it is closed already
				return
			}
			continue
		}
		if done {
			l.finish()
			return
		}
		if wait == 0 {
			<-l.wake
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-l.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// take gives the packets that may go now, control packets first: an
// acknowledgement must not wait behind a PUBLISH that waits for one. With
// nothing to send, wait is when to look again (0: when woken), and done says
// that there will be nothing more.
func (l *link) take(now time.Time) (batch []byte, wait time.Duration, done bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed && l.reset {
		return nil, 0, true
	}
	const enough = 32 << 10 // bytes: one system call and few TLS records
	for len(l.control) > 0 && len(batch) < enough && !l.control[0].due.After(now) {
		f := l.control[0]
		l.control = l.control[1:]
		if f.kind() == packets.Puback {
			l.incoming-- // before it leaves: the client may answer it at once
		}
		batch = append(batch, f.data...)
	}
	for len(l.publishes) > 0 && len(batch) < enough && !l.publishes[0].due.After(now) {
		f := l.publishes[0]
		if f.counted() {
			if l.unacked >= l.window {
				break
			}
			l.unacked++
		}
		l.publishes = l.publishes[1:]
		batch = append(batch, f.data...)
	}
	l.queued -= len(batch)
	if len(batch) > 0 {
		return batch, 0, false
	}
	blocked := len(l.publishes) > 0 && l.publishes[0].counted() && l.unacked >= l.window
	if len(l.control) > 0 {
		wait = max(l.control[0].due.Sub(now), 1)
	}
	if len(l.publishes) > 0 && !blocked {
		if w := max(l.publishes[0].due.Sub(now), 1); wait == 0 || w < wait {
			wait = w
		}
	}
	return nil, wait, l.closed && wait == 0
}

func (l *link) send(batch []byte) error {
	if err := l.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := l.conn.Write(batch)
	return err
}

func (l *link) finish() {
	l.mu.Lock()
	reset := l.reset
	l.mu.Unlock()
	if reset {
		if tcp, ok := l.raw.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // an error says that the connection is gone
		}
		return
	}
	if l.conn.SetWriteDeadline(time.Now().Add(lingerTimeout)) != nil {
		return // the connection is gone
	}
	_ = l.conn.CloseWrite() // close_notify, to a client that still listens
	linger(l.raw)
}

// linger closes our direction and waits for the client to close its own, for
// lingerTimeout at most. An error says that the connection is gone, and with
// it the reason to wait.
func linger(raw net.Conn) {
	if tcp, ok := raw.(*net.TCPConn); ok {
		if tcp.CloseWrite() != nil {
			return
		}
	}
	if raw.SetReadDeadline(time.Now().Add(lingerTimeout)) != nil {
		return
	}
	_, _ = io.Copy(io.Discard, raw)
}

// SetDeadline sets only when reading ends: writing has its own limit.
func (l *link) SetDeadline(t time.Time) error { return l.SetReadDeadline(t) }

// SetReadDeadline sets when reading ends.
func (l *link) SetReadDeadline(t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return net.ErrClosed
	}
	return l.conn.SetReadDeadline(t)
}

// SetWriteDeadline does nothing: Write does not block.
func (l *link) SetWriteDeadline(time.Time) error { return nil }

// LocalAddr is our end.
func (l *link) LocalAddr() net.Addr { return l.raw.LocalAddr() }

// RemoteAddr is the client's end.
func (l *link) RemoteAddr() net.Addr { return l.raw.RemoteAddr() }
