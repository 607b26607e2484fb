package chaos

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// proxy is a line that breaks: it carries bytes between the gateway and a
// broker, and cuts anywhere, also in the middle of a record of TLS, or carries
// nothing for a while.
type proxy struct {
	port     string
	broker   string // its port
	seed     uint64
	mute     time.Duration // the shortest silence
	capture  *capture
	listener net.Listener
	running  sync.WaitGroup
	calm     atomic.Bool

	storm context.Context //nolint:containedctx // not of a call: it ends when the faults begin
	Storm context.CancelFunc
}

// startProxy starts a calm proxy. Storm lets the faults begin, and cuts the
// connections that are there.
func startProxy(t *testing.T, brokerPort string, seed uint64, mute time.Duration, c *capture) *proxy {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{broker: brokerPort, seed: seed, mute: mute, capture: c, listener: l}
	p.storm, p.Storm = context.WithCancel(context.Background())
	if _, p.port, err = net.SplitHostPort(l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	p.running.Go(func() { p.accept(ctx) })
	t.Cleanup(func() {
		stop()
		l.Close()
		p.running.Wait()
		p.Storm()
	})
	return p
}

// Calm ends the faults, also those that a connection had before it.
func (p *proxy) Calm() { p.calm.Store(true) }

func (p *proxy) faulty() bool { return p.storm.Err() != nil && !p.calm.Load() }

func (p *proxy) accept(ctx context.Context) {
	for n := uint64(0); ; n++ {
		gateway, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		random := rand.New(rand.NewPCG(p.seed, n))
		p.running.Go(func() { p.carry(ctx, gateway.(*net.TCPConn), random) })
	}
}

// carry is one connection. To check each one is a session: one that is cut
// before its CONNACK is one without messages.
func (p *proxy) carry(ctx context.Context, gateway *net.TCPConn, random *rand.Rand) {
	defer gateway.Close()
	broker, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", p.broker))
	if err != nil {
		p.capture.Violation("the proxy cannot reach its broker: %v", err)
		return
	}
	defer broker.Close()
	p.capture.Session()

	ctx, end := context.WithCancel(ctx)
	defer end()
	cut := sync.OnceFunc(func() {
		p.capture.Cut()
		end()
	})
	defer context.AfterFunc(ctx, func() {
		gateway.Close()
		broker.Close()
	})()
	out, back := &pipe{from: gateway, to: broker}, &pipe{from: broker, to: gateway}
	switch {
	case p.faulty():
		// A handshake is some 3,000 bytes each way; a message is some 200 out, and
		// its PUBACK some 40 back.
		out.limit, back.limit = 1+random.IntN(80_000), 1+random.IntN(30_000)
		life := time.Second + time.Duration(random.Int64N(int64(4*time.Second)))
		if random.IntN(4) == 0 {
			back.muteAt, back.mute = 3000+random.IntN(3000), p.mute+time.Duration(random.Int64N(int64(p.mute)))
			life += back.mute
		}
		if random.IntN(2) == 0 {
			_ = gateway.SetLinger(0) // its end is a reset; an error means that it has ended
		}
		timer := time.AfterFunc(life, func() {
			if p.faulty() {
				cut()
			}
		})
		defer timer.Stop()
	case !p.calm.Load(): // before the storm
		defer context.AfterFunc(p.storm, cut)()
	}
	var pipes sync.WaitGroup
	for _, way := range []*pipe{out, back} {
		pipes.Go(func() {
			way.carry(ctx, p.faulty, cut)
			end() // each way's end is that of the other one
		})
	}
	pipes.Wait()
}

// pipe is one way of a connection.
type pipe struct {
	from, to net.Conn
	limit    int           // so many bytes are carried before the cut; 0: no limit
	muteAt   int           // behind so many bytes ...
	mute     time.Duration // ... comes a silence; 0: none
}

// carry carries bytes until a side closes or the limit comes.
func (w *pipe) carry(ctx context.Context, faulty func() bool, cut func()) {
	buffer := make([]byte, 4096)
	for carried := 0; ; {
		n, err := w.from.Read(buffer)
		last := w.limit > 0 && carried+n >= w.limit && faulty()
		if last {
			n = max(0, w.limit-carried)
		}
		if w.mute > 0 && carried+n > w.muteAt && faulty() {
			timer := time.NewTimer(w.mute)
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
			timer.Stop()
			w.mute = 0
		}
		if _, failed := w.to.Write(buffer[:n]); failed != nil || err != nil {
			return
		}
		if carried += n; last {
			cut()
			return
		}
	}
}
