package local

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"unicode"

	"github.com/mochi-mqtt/server/v2/packets"
	"go.uber.org/zap"

	"github.com/jitr-agent/jitr-agent/pkg/buffer"
)

const (
	// maxClients is how many are served at a time.
	maxClients = 64
	// maxGuests is how many connections more there may be: those that have
	// yet to send their CONNECT, and those that are being told goodbye.
	maxGuests = 32
)

// Buffer takes the messages; a *buffer.Buffer does.
type Buffer interface {
	// Put hands m in. It waits while room for m can come. done, which may be
	// nil, is called once, from another goroutine: with nil when m is safe,
	// else with why it was refused. Where Put returns an error
	// (buffer.ErrFull, buffer.ErrTooLarge, buffer.ErrClosed, ctx's), done is
	// not called. What m points to belongs to the buffer from then on.
	Put(ctx context.Context, m buffer.Message, done func(error)) error
}

// Config says where to listen, and what to do with what comes. Map, Buffer and
// Log are needed.
type Config struct {
	Socket string // path of the unix socket; empty: none
	Listen string // host:port of a loopback address; empty: none

	// Map gives the cloud's topic of a publish to telemetry/{topic}. An error
	// says that there is none for now. It is called for each message, from
	// many goroutines.
	Map    func(topic string) (string, error)
	Buffer Buffer
	// Feeds are the topics of Server.Publish, to which clients may subscribe.
	Feeds []string

	// Refused is told why a message, a subscription or a client was refused,
	// once for each client id; topic may be empty. It must not block, and is
	// called from many goroutines.
	Refused func(client, topic, why string)
	// Changed is told when Status has another State or Why. It must not block.
	Changed func(Status)
	Log     *zap.Logger // details, at debug level
}

// State is how the acceptor stands, as the status has it.
type State string

// The states of the acceptor.
const (
	Off  State = "off"  // nothing is configured
	OK   State = "ok"   // it listens wherever it should
	Busy State = "busy" // it does not, and tries again
)

// Status is how the acceptor stands.
type Status struct {
	State   State
	Why     string // of Busy: a sentence with what to do
	Socket  string // as configured
	Listen  string // as configured
	Clients int    // connected
	Refused int64  // messages that were not taken, since the start
}

// Server is the acceptor. It is safe for concurrent use; Serve runs once.
type Server struct {
	cfg       Config
	endpoints []*endpoint
	refused   atomic.Int64
	diary     diary

	mu      sync.Mutex
	clients map[string]*client // by client id
	last    Status             // that Changed was told

	feed feed
}

// New checks where to listen; Serve does it.
func New(cfg Config) (*Server, error) {
	s := &Server{cfg: cfg, clients: map[string]*client{}, feed: feed{retained: map[string]*buffer.Message{}}}
	if cfg.Socket != "" {
		s.endpoints = append(s.endpoints, &endpoint{network: "unix", address: cfg.Socket, key: "local.socket"})
	}
	if cfg.Listen != "" {
		if err := loopbackOnly(cfg.Listen); err != nil {
			return nil, fmt.Errorf("cannot listen on %s: %w; set local.listen to an address such as 127.0.0.1:1883", cfg.Listen, err)
		}
		s.endpoints = append(s.endpoints, &endpoint{network: "tcp", address: cfg.Listen, key: "local.listen"})
	}
	s.last = s.status()
	return s, nil
}

// loopbackOnly: this is no port for the network.
func loopbackOnly(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if ip, err := netip.ParseAddr(host); host == "localhost" || err == nil && ip.Unmap().IsLoopback() {
		return nil
	}
	return errors.New("it is not a loopback address")
}

// Serve listens and serves until ctx ends, then says goodbye to the clients
// and returns when all is closed.
func (s *Server) Serve(ctx context.Context) {
	var all sync.WaitGroup
	connections := make(chan struct{}, maxClients+maxGuests)
	for _, e := range s.endpoints {
		all.Go(func() { s.keepListening(ctx, e, connections) })
	}
	all.Wait()
}

// Status tells how the acceptor stands.
func (s *Server) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status()
}

// status is Status with the lock held.
func (s *Server) status() Status {
	st := Status{
		State: OK, Socket: s.cfg.Socket, Listen: s.cfg.Listen,
		Clients: len(s.clients), Refused: s.refused.Load(),
	}
	if len(s.endpoints) == 0 {
		st.State = Off
	}
	for _, e := range s.endpoints {
		if !e.listening {
			st.State = Busy
			if st.Why == "" {
				st.Why = e.why
			}
		}
	}
	return st
}

// join counts a client in. One with the same id has to go ([MQTT-3.1.4-3]).
func (s *Server) join(c *client) (ok bool) {
	s.mu.Lock()
	old := s.clients[c.id]
	if ok = old != nil || len(s.clients) < maxClients; ok {
		s.clients[c.id] = c
	}
	s.mu.Unlock()
	if old != nil {
		old.finish(errTakenOver)
	}
	return ok
}

func (s *Server) leave(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clients[c.id] == c {
		delete(s.clients, c.id)
	}
}

// refuse counts a message that was not taken, and says why.
func (s *Server) refuse(c *client, topic string, why *fault) {
	s.refused.Add(1)
	s.explain(c, topic, why)
}

// explain says why a message is not taken.
func (s *Server) explain(c *client, topic string, why *fault) {
	// That the buffer is full is known already.
	if why.code != packets.ErrQuotaExceeded.Code {
		s.tell(c, topic, why)
	}
}

// tell says why something was refused, once for each client and kind of fault.
func (s *Server) tell(c *client, topic string, why *fault) {
	topic = printable(topic)
	s.cfg.Log.Debug("refused what a local client asked for",
		zap.String("client", c.id), zap.String("topic", topic), zap.Error(why))
	key := told{client: c.id, code: why.code}
	if c.assigned {
		// An id that we made up is another one at the next connection; there
		// the topic tells that it is the same program.
		key.client, key.topic = "", topic
		if slices.Contains(c.explained, why.code) {
			return
		}
		c.explained = append(c.explained, why.code)
	}
	if s.cfg.Refused != nil && s.diary.first(key) {
		s.cfg.Refused(printable(c.id), topic, why.why)
	}
}

// printable is what a client said as the journal can have it: not longer than a
// topic may be, and without what moves the cursor of a terminal.
func printable(s string) string {
	if len(s) > maxTopicBytes {
		s = strings.ToValidUTF8(s[:maxTopicBytes], "") + "…" // a character may be cut in two
	}
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

// told is something that Refused was told.
type told struct {
	client, topic string
	code          byte
}

// diary remembers what Refused was told. A client of MQTT 3.1.1 that publishes
// to a wrong topic is back every second.
type diary struct {
	mu      sync.Mutex
	entries []told // latest last
}

// first says whether e is new, or was forgotten.
func (d *diary) first(e told) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := slices.Index(d.entries, e)
	switch {
	case i >= 0:
		d.entries = slices.Delete(d.entries, i, i+1)
	case len(d.entries) == 4*maxClients:
		d.entries = slices.Delete(d.entries, 0, 1)
	}
	d.entries = append(d.entries, e)
	return i < 0
}
