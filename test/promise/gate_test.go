package promise

import (
	"context"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// gate is the way from a gateway to its cloud, which a test opens and shuts.
// While it is shut each connection is reset.
type gate struct {
	Address string

	listener net.Listener
	target   string
	work     sync.WaitGroup

	mu    sync.Mutex
	open  bool
	dials []time.Time
	late  time.Duration     // of what the cloud sends
	conns map[net.Conn]bool // both sides of those that are open
}

// newGate makes one that is open. It ends with the test.
func newGate(t *testing.T, target string) *gate {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{Address: l.Addr().String(), listener: l, target: target, open: true, conns: map[net.Conn]bool{}}
	ctx := t.Context()
	g.work.Go(func() { g.serve(ctx) })
	t.Cleanup(func() {
		l.Close()
		g.Shut()
		g.work.Wait()
	})
	return g
}

func (g *gate) serve(ctx context.Context) {
	for {
		conn, err := g.listener.Accept()
		if err != nil {
			return // it was closed
		}
		g.note(time.Now())
		far, err := new(net.Dialer).DialContext(ctx, "tcp", g.target)
		if err != nil || !g.add(conn, far) {
			reset(conn)
			if far != nil {
				far.Close()
			}
			continue
		}
		g.work.Go(func() {
			_, _ = io.Copy(far, conn) // either side may end it
			g.end(conn, far)
		})
		g.work.Go(func() {
			g.answer(ctx, conn, far)
			g.end(conn, far)
		})
	}
}

// answer copies what the cloud sends, which is late.
func (g *gate) answer(ctx context.Context, conn io.Writer, far io.Reader) {
	type piece struct {
		data []byte
		due  time.Time
	}
	pieces := make(chan piece, 10_000)
	g.work.Go(func() {
		defer close(pieces)
		for {
			data := make([]byte, 4<<10)
			n, err := far.Read(data)
			if err != nil {
				return // either side may end it
			}
			select {
			case pieces <- piece{data[:n], time.Now().Add(g.latency())}:
			case <-ctx.Done():
				return
			}
		}
	})
	for p := range pieces {
		if wait := time.Until(p.due); wait > 0 {
			<-time.After(wait)
		}
		if _, err := conn.Write(p.data); err != nil {
			return
		}
	}
}

// Delay makes all answers of the cloud late.
func (g *gate) Delay(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.late = d
}

func (g *gate) latency() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.late
}

func (g *gate) note(at time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dials = append(g.dials, at)
}

// Dials are the moments of all connections, also those that were reset.
func (g *gate) Dials() []time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.dials)
}

// add takes note of a connection, where the gate is open.
func (g *gate) add(conns ...net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.open {
		return false
	}
	for _, c := range conns {
		g.conns[c] = true
	}
	return true
}

func (g *gate) end(conns ...net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range conns {
		c.Close()
		delete(g.conns, c)
	}
}

// Shut cuts all connections, and those to come.
func (g *gate) Shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = false
	for c := range g.conns {
		reset(c)
	}
}

// Open lets connections through again.
func (g *gate) Open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = true
}

func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // then Close sends RST; where that fails, FIN
	}
	c.Close()
}
