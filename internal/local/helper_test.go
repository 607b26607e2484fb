package local

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/jitr-agent/jitr-agent/pkg/buffer"
	e2e "github.com/jitr-agent/jitr-agent/test/rig"
)

var _ Buffer = (*buffer.Buffer)(nil)

var nop = zap.NewNop()

func eventually(t testing.TB, condition func() error) {
	t.Helper()
	e2e.Eventually(t, patience, condition)
}

// store is a buffer. What is handed in is safe at once, unless hold is set;
// then the test settles it.
type store struct {
	mu       sync.Mutex
	hold     bool
	forget   bool  // keep no messages
	full     error // Put's answer
	messages []buffer.Message
	waiting  []func(error)
	put      chan struct{} // a token for each message
}

func newStore() *store { return &store{put: make(chan struct{}, 1<<16)} }

func (s *store) Put(_ context.Context, m buffer.Message, done func(error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full != nil {
		return s.full
	}
	if !s.forget {
		s.messages = append(s.messages, m)
	}
	switch {
	case done == nil:
	case s.hold:
		s.waiting = append(s.waiting, done)
	default:
		defer func() { done(nil) }()
	}
	select {
	case s.put <- struct{}{}:
	default: // nobody counts so many
	}
	return nil
}

func (s *store) setHold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hold = true
}

func (s *store) setFull(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.full = err
}

// await waits until n messages more were handed in.
func (s *store) await(t testing.TB, n int) {
	t.Helper()
	for range n {
		select {
		case <-s.put:
		case <-time.After(patience):
			t.Fatal("the message did not reach the buffer")
		}
	}
}

// take is what was handed in so far, and what is to be called for it.
func (s *store) take() (messages []buffer.Message, done []func(error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.messages), slices.Clone(s.waiting)
}

// patience is for what happens at once.
const patience = 10 * time.Second

// rig is a server that listens on a unix socket.
type rig struct {
	*Server
	*store
	t       testing.TB
	refused chan string // what Refused was told
	stop    func()      // and wait for the end
}

func start(t testing.TB, change ...func(*Config)) *rig {
	t.Helper()
	dir := e2e.TempDir(t) // a socket's path must be short
	var err error
	r := &rig{store: newStore(), t: t, refused: make(chan string, 1000)}
	cfg := r.config(t)
	cfg.Socket = filepath.Join(dir, "mqtt.sock")
	listening := make(chan struct{}, 10)
	cfg.Changed = func(s Status) {
		if s.State == OK {
			listening <- struct{}{}
		}
	}
	for _, f := range change {
		f(&cfg)
	}
	if r.Server, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan struct{})
	go func() {
		defer close(served)
		r.Serve(ctx)
	}()
	r.stop = func() { cancel(); <-served }
	t.Cleanup(r.stop)
	select {
	case <-listening:
	case <-time.After(patience):
		t.Fatal("it does not listen")
	}
	return r
}

func (r *rig) config(t testing.TB) Config {
	log := zaptest.NewLogger(t)
	if _, bench := t.(*testing.B); bench {
		log = nop
	}
	return Config{
		Map:    func(topic string) (string, error) { return "dt/gw-1/" + topic, nil },
		Buffer: r.store,
		Feeds:  []string{"agent/status"},
		Refused: func(client, topic, why string) {
			if strings.HasPrefix(client, "auto-") {
				client = "auto"
			}
			r.refused <- client + "|" + topic + "|" + why
		},
		Log: log,
	}
}

// awaitClients waits until n are connected.
func (r *rig) awaitClients(t testing.TB, n int) {
	t.Helper()
	eventually(t, func() error {
		if got := r.Status().Clients; got != n {
			return fmt.Errorf("%d clients, want %d", got, n)
		}
		return nil
	})
}

// peer is a client that sends and expects bytes.
type peer struct {
	net.Conn
	t testing.TB
}

func (r *rig) dial() *peer {
	r.t.Helper()
	conn, err := new(net.Dialer).DialContext(context.Background(), "unix", r.cfg.Socket)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	return &peer{conn, r.t}
}

// client is a peer that is connected.
func (r *rig) client(version byte, id string) *peer {
	r.t.Helper()
	p := r.dial()
	p.send(connect(version, id))
	if ack := p.packet(); ack[0] != 0x20 || ack[3] != 0 {
		r.t.Fatalf("the CONNACK is % x", ack)
	}
	return p
}

func (p *peer) send(packets ...[]byte) {
	p.t.Helper()
	if _, err := p.Write(bytes.Join(packets, nil)); err != nil {
		p.t.Fatal(err)
	}
}

// read is the next packet, or the error.
func (p *peer) read() ([]byte, error) {
	if err := p.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	var head []byte
	n, b := 0, make([]byte, 1)
	for shift := -7; shift <= 0 || b[0] >= 0x80; shift += 7 {
		if _, err := io.ReadFull(p, b); err != nil {
			return nil, err
		}
		if shift >= 0 {
			n |= int(b[0]&0x7F) << shift
		}
		head = append(head, b[0])
	}
	body := make([]byte, n)
	_, err := io.ReadFull(p, body)
	return slices.Concat(head, body), err
}

func (p *peer) packet() []byte {
	p.t.Helper()
	packet, err := p.read()
	if err != nil {
		p.t.Fatal(err)
	}
	return packet
}

// expect wants these bytes next, in hex; blanks are for the eye.
func (p *peer) expect(want string) {
	p.t.Helper()
	want = strings.ReplaceAll(want, " ", "")
	if got := hex.EncodeToString(p.packet()); got != want {
		p.t.Fatalf("got %s, want %s", got, want)
	}
}

// expectReason wants a packet of this kind next, with this reason code at this
// byte.
func (p *peer) expectReason(kind byte, at int, reason byte) {
	p.t.Helper()
	got := p.packet()
	if got[0] != kind || len(got) <= at || got[at] != reason {
		p.t.Fatalf("got % x (%q), want %02x with reason code %02x", got, got, kind, reason)
	}
}

// expectEnd wants the connection to be closed, with a DISCONNECT of this
// reason code before; 0: none.
func (p *peer) expectEnd(reason byte) {
	p.t.Helper()
	if reason != 0 {
		p.expectReason(0xE0, 2, reason)
	}
	if got, err := p.read(); !errors.Is(err, io.EOF) {
		p.t.Fatalf("got % x, %v, want the end of the connection", got, err)
	}
}

// expectAlive wants an answer to a PINGREQ next, and so nothing before.
func (p *peer) expectAlive() {
	p.t.Helper()
	p.send([]byte{0xC0, 0})
	p.expect("d000")
}

// What follows makes packets, byte by byte.

func packet(header byte, parts ...[]byte) []byte {
	body := bytes.Join(parts, nil)
	out := []byte{header}
	for n := len(body); ; {
		b := byte(n % 128)
		if n /= 128; n > 0 {
			b |= 0x80
		}
		out = append(out, b)
		if n == 0 {
			return append(out, body...)
		}
	}
}

func str(s string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...)
}

func u16(n int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(n)) }

// properties has their length in front.
func properties(parts ...[]byte) []byte { return packet(0, parts...)[1:] }

func none(version byte) []byte {
	if version < v5 {
		return nil
	}
	return []byte{0}
}

// connect is a CONNECT with Clean Start and 60 s of keep-alive.
func connect(version byte, id string) []byte {
	return packet(0x10, str("MQTT"), []byte{version, 2, 0, 60}, none(version), str(id))
}

func publish(version byte, topic string, id int, payload string) []byte {
	if id == 0 {
		return packet(0x30, str(topic), none(version), []byte(payload))
	}
	return packet(0x32, str(topic), u16(id), none(version), []byte(payload))
}

func subscribe(version byte, id int, options byte, filters ...string) []byte {
	parts := [][]byte{u16(id), none(version)}
	for _, f := range filters {
		parts = append(parts, str(f), []byte{options})
	}
	return packet(0x82, parts...)
}
