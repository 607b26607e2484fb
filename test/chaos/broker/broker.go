// Package broker is a cloud that misbehaves: an MQTT 5 server with mutual TLS
// that takes messages at QoS 1, and cuts, stalls, forgets and refuses at random
// until Calm is called.
//
// It judges, so it shares no code with the programs that it judges: it imports
// the standard library only. It also watches over the client: more messages in
// flight than its Receive Maximum, a packet identifier that is in use, anything
// but QoS 1 are told as violations.
package broker

import (
	"context"
	"crypto/tls"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Message is a message as it came.
type Message struct {
	Topic      string
	Payload    []byte
	Properties [][2]string // user properties
}

// Recorder is told what happens, in its order. It is called from several
// goroutines.
type Recorder interface {
	Session()               // a connection gets its CONNACK; the one before has ended
	Cut()                   // the broker is about to end a session
	Arrived(Message)        // a message was read
	Answered(byte, Message) // its PUBACK is about to be sent, with this code
	Violation(format string, args ...any)
}

// Reason codes of MQTT 5.0 section 3.4.2.1.
const (
	Taken         = 0x00
	NotAuthorized = 0x87
	QuotaExceeded = 0x97
)

// Config is a broker. All of it is needed but CutDenied.
type Config struct {
	TLS        *tls.Config             // of the server
	Seed       uint64                  // of everything that is random
	SpillAfter time.Duration           // the gateway's; silence lasts 1 to 2 times that
	Denied     func(topic string) bool // topics whose messages get 0x87
	Recorder   Recorder
	// CutDenied closes the connection behind each PUBACK 0x87, also when it is
	// calm.
	CutDenied bool
}

// Broker is a running broker. Its methods are safe for concurrent use.
type Broker struct {
	cfg      Config
	listener net.Listener
	stop     context.CancelFunc
	running  sync.WaitGroup
	calm     atomic.Bool
	away     atomic.Bool

	mu       sync.Mutex
	current  *session        // the one connection that the client has
	sessions map[string]bool // client ids that have a session to come back to
}

// Start listens on a free port of the loopback interface. Close ends it, and so
// does the context. It is calm until Storm is called.
func Start(ctx context.Context, cfg Config) (*Broker, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	b := &Broker{cfg: cfg, listener: l, stop: stop, sessions: map[string]bool{}}
	b.calm.Store(true)
	b.running.Go(func() {
		defer context.AfterFunc(ctx, func() { l.Close() })()
		b.accept(ctx)
	})
	return b, nil
}

// Port is where it listens.
func (b *Broker) Port() string {
	_, port, _ := net.SplitHostPort(b.listener.Addr().String())
	return port
}

// Storm lets the faults begin. A connection that is there is cut.
func (b *Broker) Storm() {
	b.calm.Store(false)
	b.cutCurrent()
}

// Leave cuts the connection that is there, and lets nobody in until Calm.
func (b *Broker) Leave() {
	b.away.Store(true)
	b.Storm()
}

func (b *Broker) cutCurrent() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.current != nil {
		b.current.cut()
	}
}

// Calm ends the faults. A connection that is there is cut, since messages may
// wait on it for a PUBACK that will not come.
func (b *Broker) Calm() {
	b.calm.Store(true)
	b.cutCurrent()
}

// Close ends all connections and waits for them.
func (b *Broker) Close() {
	b.stop()
	b.listener.Close()
	b.running.Wait()
}

func (b *Broker) accept(ctx context.Context) {
	for n := uint64(0); ; n++ {
		raw, err := b.listener.Accept()
		if err != nil {
			return // closed
		}
		random := rand.New(rand.NewPCG(b.cfg.Seed, n))
		f := calm
		if !b.calm.Load() {
			f = draw(random, b.cfg.SpillAfter)
			if b.away.Load() {
				f.end = beforeConnack
			}
		}
		s := &session{
			broker: b, raw: raw.(*net.TCPConn), conn: tls.Server(raw, b.cfg.TLS), fate: f, random: random,
			done: make(chan struct{}), began: time.Now(),
		}
		b.running.Go(func() {
			defer context.AfterFunc(ctx, func() { raw.Close() })()
			defer close(s.done)
			defer raw.Close()
			s.serve(ctx)
		})
	}
}

// enter makes s the client's connection: the one before ends first, as MQTT
// wants it. It returns whether the server still had a session for the client.
func (b *Broker) enter(s *session, c client) (present bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if old := b.current; old != nil {
		old.raw.Close()
		<-old.done // it does not need the lock
	}
	b.current = s
	present = b.sessions[c.id] && !c.cleanStart && !s.fate.forget
	b.sessions[c.id] = true
	b.cfg.Recorder.Session()
	return present
}
