package jitr

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/jitr-agent/jitr-agent/internal/atomicfile"
	"github.com/jitr-agent/jitr-agent/internal/certs"
	"github.com/jitr-agent/jitr-agent/internal/netpath"
	"github.com/jitr-agent/jitr-agent/internal/state"
	"github.com/jitr-agent/jitr-agent/pkg/identity"
	"github.com/jitr-agent/jitr-agent/pkg/mqtt"
)

// cloud is a scripted server behind a pipe: TLS and MQTT are real, time is
// virtual.
type cloud struct {
	t      *testing.T
	server tls.Certificate
	roots  *x509.CertPool
	// script plays one connection, whose CONNECT was read.
	script func(n int, c *serverConn)
	// dial, where set, may fail the n-th dial.
	dial func(n int, target netpath.Target) error

	brokenTPM bool // the gateway's key does not sign

	mu       sync.Mutex
	dials    []time.Duration // since start
	connects []time.Duration
	inits    int
	start    time.Time
	work     sync.WaitGroup
}

type serverConn struct {
	*tls.Conn
	cloud *cloud
}

// certificateID is who connects.
func (c *serverConn) certificateID() string {
	return certs.ID(c.ConnectionState().PeerCertificates[0])
}

func newCloud(t *testing.T, script func(n int, c *serverConn)) *cloud {
	key, cert := makeCert(t, "endpoint", []string{"endpoint"})
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return &cloud{
		t: t, roots: roots, script: script, start: time.Now(),
		server: tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key},
	}
}

func (c *cloud) Dial(ctx context.Context, target netpath.Target) (*netpath.Conn, error) {
	c.mu.Lock()
	c.dials = append(c.dials, time.Since(c.start))
	n := len(c.dials)
	c.mu.Unlock()
	if c.dial != nil {
		if err := c.dial(n, target); err != nil {
			return nil, err
		}
	}
	near, far := net.Pipe()
	c.work.Go(func() {
		defer far.Close()
		conn := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{c.server}, ClientAuth: tls.RequireAnyClientCert})
		if conn.HandshakeContext(c.t.Context()) != nil {
			return
		}
		if n := len(conn.ConnectionState().PeerCertificates); n != 2 {
			c.t.Errorf("the client presented %d certificates; want leaf and CA", n)
		}
		if _, err := packets.ReadPacket(conn); err != nil {
			return
		}
		c.mu.Lock()
		c.connects = append(c.connects, time.Since(c.start))
		n := len(c.connects)
		c.mu.Unlock()
		c.script(n, &serverConn{conn, c})
	})
	conn := tls.Client(near, &tls.Config{
		ServerName: "endpoint", RootCAs: c.roots, MaxVersion: target.MaxTLS,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return target.Certificate, nil },
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		near.Close()
		return nil, &netpath.Error{Phase: netpath.TLS, Peer: "endpoint", Err: err}
	}
	port := target.Port
	if target.Port443 {
		port = 443
	}
	return &netpath.Conn{Conn: conn, Port: port}, nil
}

// send sends a packet; a client that has gone is no concern of a server's.
func (c *serverConn) send(p io.WriterTo) { _, _ = p.WriteTo(c) }

func (c *serverConn) accept() { c.send(&packets.Connack{Properties: &packets.Properties{}}) }

// answer acknowledges publishes until the connection ends.
func (c *serverConn) answer() {
	for {
		p, err := packets.ReadPacket(c)
		if err != nil {
			return
		}
		switch m := p.Content.(type) {
		case *packets.Publish:
			if m.Topic == "init/gw-1" {
				c.cloud.mu.Lock()
				c.cloud.inits++
				c.cloud.mu.Unlock()
			}
			c.send(&packets.Puback{PacketID: m.PacketID, Properties: &packets.Properties{}})
		case *packets.Pingreq:
			c.send(packets.NewControlPacket(packets.PINGRESP))
		case *packets.Disconnect:
			return
		}
	}
}

func (c *cloud) seen() (dials, connects []time.Duration, inits int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.dials), slices.Clone(c.connects), c.inits
}

// record keeps what the loop said.
type record struct {
	mu    sync.Mutex
	snaps []Snapshot
	news  []News
}

func (r *record) Observe(s Snapshot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.snaps = append(r.snaps, s)
}

func (r *record) NotSaved(error) {}

func (r *record) Candidate(n News) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.news = append(r.news, n)
}

func (r *record) said() []News {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.news)
}

func (r *record) last() Snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.snaps[len(r.snaps)-1]
}

// states are the states in their order, each once in a row.
func (r *record) states() []State {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []State
	for _, s := range r.snaps {
		if len(all) == 0 || all[len(all)-1] != s.State {
			all = append(all, s.State)
		}
	}
	return all
}

// gateway is a loop with what it needs.
type gateway struct {
	*Loop
	record
	dir    string
	served atomic.Int32
	host   string
	cloud  *cloud
	cancel context.CancelFunc
	done   chan struct{}
}

func (g *gateway) Load(ctx context.Context) (*identity.Identity, error) {
	id, err := identity.Load(ctx, identity.Options{StateDir: g.dir, Key: "file"})
	if err == nil && g.cloud != nil && g.cloud.brokenTPM {
		id.Signer = brokenSigner{id.Signer}
	}
	return id, err
}

// brokenSigner is a key that loads and does not sign.
type brokenSigner struct{ crypto.Signer }

func (brokenSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, identity.ErrTPMFailing
}

func (g *gateway) Stamp() string { return identity.Stamp(identity.Options{StateDir: g.dir}) }

func (g *gateway) LoadNext(ctx context.Context) (*identity.Identity, error) {
	return identity.LoadNext(ctx, identity.Options{StateDir: g.dir})
}

func (g *gateway) NextStamp() string { return identity.NextStamp(identity.Options{StateDir: g.dir}) }

func (g *gateway) Promote(ctx context.Context, next *identity.Identity) error {
	return identity.Promote(ctx, identity.Options{StateDir: g.dir}, next.CertificateID())
}

// run starts a gateway; stop ends it and waits.
func run(t *testing.T, c *cloud, dir string) *gateway {
	t.Helper()
	store, setAside, err := state.Open(filepath.Join(dir, "state.json"))
	if err != nil || setAside != nil {
		t.Fatal(err, setAside)
	}
	g := &gateway{dir: dir, host: "endpoint", cloud: c, done: make(chan struct{})}
	g.Loop = New(Config{
		Endpoint: func() Endpoint {
			return Endpoint{Host: g.host, Port: 8883, Fallback: true, MaxTLS: tls.VersionTLS12, KeepAlive: time.Minute, Stall: 20 * time.Second}
		},
		Identities: g, Dialer: c, Store: store, Observer: &g.record,
		Init: func(*identity.Identity) mqtt.Message { return mqtt.Message{Topic: "init/gw-1"} },
		Serve: func(ctx context.Context, _ *mqtt.Session, _ *identity.Identity) {
			g.served.Add(1)
			<-ctx.Done()
		},
		Boot: func() time.Duration { return time.Hour + time.Since(c.start) },
	})
	ctx, cancel := context.WithCancel(t.Context())
	g.cancel = cancel
	go func() {
		defer close(g.done)
		g.Run(ctx)
	}()
	return g
}

func (g *gateway) stop() {
	g.cancel()
	<-g.done
}

// elapse lets virtual time pass.
func elapse(d time.Duration) { <-time.After(d) }

// stateDir has a file key and a certificate with its CA, valid in synctest's
// year 2000 too.
func stateDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	enrol(t, dir, "device")
	return dir
}

// enrol writes NAME.key and NAME.crt.
func enrol(t *testing.T, dir, name string) {
	t.Helper()
	key, leaf := makeCert(t, "gw-1", nil)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, blocks ...*pem.Block) {
		var data []byte
		for _, b := range blocks {
			data = append(data, pem.EncodeToMemory(b)...)
		}
		if err := atomicfile.Write(filepath.Join(dir, name), data, 0o600); err != nil { // the loop may look just now
			t.Fatal(err)
		}
	}
	_, ca := makeCert(t, "ca", nil) // whether it signed the leaf is for import to check
	write(name+".key", &pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	write(name+".crt", &pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw}, &pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw})
}

func makeCert(t *testing.T, name string, dns []string) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: dns,
		NotBefore: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2049, 1, 1, 0, 0, 0, 0, time.UTC),
		BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return key, cert
}

// The dance: refused while pending, let in when activated, init sent once, and
// not again by a new process.
func TestFirstConnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := stateDir(t)
		active := time.Now().Add(20 * time.Second)
		c := newCloud(t, func(_ int, s *serverConn) {
			if time.Now().Before(active) {
				return // closes without a CONNACK
			}
			s.accept()
			s.answer()
		})
		g := run(t, c, dir)
		elapse(time.Minute)
		want := []State{Starting, PendingActivation, Initializing, Online}
		if got := g.states(); !slices.Equal(got, want) {
			t.Errorf("states %v; want %v", got, want)
		}
		_, connects, inits := c.seen()
		if inits != 1 || g.served.Load() != 1 {
			t.Errorf("%d inits, served %d times; want 1 and 1", inits, g.served.Load())
		}
		if online := connects[len(connects)-1]; online < 20*time.Second || online > 24*time.Second {
			t.Errorf("in at %v; want within a fifth of the 20 s of waiting", online)
		}
		if len(connects) > 16 {
			t.Errorf("%d attempts for 20 s of waiting", len(connects))
		}
		g.stop()

		g = run(t, c, dir)
		elapse(time.Minute)
		if _, _, inits := c.seen(); inits != 1 {
			t.Errorf("%d inits after a restart; want 1", inits)
		}
		if got := g.states(); !slices.Equal(got, []State{Starting, Online}) {
			t.Errorf("states after a restart: %v", got)
		}
		g.stop()
		c.work.Wait()
	})
}

// A server that accepts and then cuts, as AWS does when a policy denies, is
// not met with a hot loop: a CONNACK is no success.
func TestCutAfterConnackBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, func(_ int, s *serverConn) { s.accept() })
		g := run(t, c, stateDir(t))
		elapse(time.Hour)
		_, connects, _ := c.seen()
		// Full jitter between 0 and 5 s, 10 s, … 10 min: about 13 in an hour, 1,000
		// and more if each CONNACK started the schedule anew.
		if n := len(connects); n < 3 || n > 60 {
			t.Errorf("%d connects in an hour; want a handful", n)
		}
		g.stop()
		c.work.Wait()
	})
}

// However often it is woken, the loop sends one CONNECT a second at most.
func TestNeverTwoConnectsASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, func(int, *serverConn) {})
		g := run(t, c, stateDir(t))
		for range 200 {
			elapse(100 * time.Millisecond)
			g.Wake()
		}
		_, connects, _ := c.seen()
		if len(connects) < 15 {
			t.Errorf("%d connects in 20 s of waking; want one a second", len(connects))
		}
		for i := range connects[1:] {
			if gap := connects[i+1] - connects[i]; gap < time.Second {
				t.Errorf("connects %d and %d are %v apart", i, i+1, gap)
			}
		}
		g.stop()
		c.work.Wait()
	})
}

// A policy that denies the init topic: the state says so, messages flow, and
// the init is sent again on the schedule and at each new connection.
func TestInitDenied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := stateDir(t)
		allowed := time.Now().Add(2 * time.Minute)
		c := newCloud(t, func(_ int, s *serverConn) {
			s.accept()
			for time.Now().Before(allowed) {
				p, err := packets.ReadPacket(s)
				if err != nil {
					return
				}
				switch m := p.Content.(type) {
				case *packets.Publish:
					code := byte(0x87)
					if !time.Now().Before(allowed) {
						code = 0
					}
					s.cloud.mu.Lock()
					s.cloud.inits++
					s.cloud.mu.Unlock()
					s.send(&packets.Puback{PacketID: m.PacketID, ReasonCode: code, Properties: &packets.Properties{}})
				case *packets.Pingreq:
					s.send(packets.NewControlPacket(packets.PINGRESP))
				}
			}
			s.answer()
		})
		g := run(t, c, dir)
		elapse(time.Minute)
		if s := g.last(); s.State != Initializing || s.Cause != NotAuthorized {
			t.Errorf("state %s, cause %q; want initializing, not-authorized", s.State, s.Cause)
		}
		if g.served.Load() != 1 {
			t.Errorf("served %d times; want 1 although the init is denied", g.served.Load())
		}
		if g.last().History.AcceptedAt.IsZero() {
			t.Error("a PUBACK of any code is acceptance")
		}
		elapse(5 * time.Minute)
		if s := g.last(); s.State != Online {
			t.Errorf("state %s after the policy was mended; want online", s.State)
		}
		_, connects, inits := c.seen()
		if len(connects) != 1 || inits < 4 || inits > 7 {
			t.Errorf("%d connects, %d inits; want 1 connect, and inits at 10 s, 20 s, 40 s …", len(connects), inits)
		}
		g.stop()
		c.work.Wait()
	})
}

// A cut in mid-session of an accepted gateway: offline, and back within the
// first step. The certificate's acceptance and the init are not forgotten.
func TestCutInMidSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, func(n int, s *serverConn) {
			s.accept()
			if n == 1 {
				cut := time.AfterFunc(time.Hour, func() { s.Close() })
				defer cut.Stop()
			}
			s.answer()
		})
		g := run(t, c, stateDir(t))
		elapse(time.Hour + 35*time.Second)
		want := []State{Starting, Initializing, Online, Offline, Online}
		if got := g.states(); !slices.Equal(got, want) {
			t.Errorf("states %v; want %v", got, want)
		}
		_, connects, inits := c.seen()
		if inits != 1 {
			t.Errorf("%d inits; want 1", inits)
		}
		if back := connects[1] - time.Hour; back > 31*time.Second {
			t.Errorf("back after %v; want within the 30 s of the first step", back)
		}
		g.stop()
		c.work.Wait()
	})
}

// A session of 30 s is acceptance even where the init's PUBACK never comes.
func TestLongSessionIsAcceptance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, func(_ int, s *serverConn) {
			s.accept()
			_, _ = io.Copy(io.Discard, s)
		})
		g := run(t, c, stateDir(t))
		elapse(29 * time.Second)
		if !g.last().History.AcceptedAt.IsZero() {
			t.Error("accepted after 29 s without a PUBACK")
		}
		elapse(2 * time.Second)
		if s := g.last(); s.History.AcceptedAt.IsZero() || s.State != Initializing || g.served.Load() != 1 {
			t.Errorf("after 31 s: accepted %v, state %s, served %d", s.History.AcceptedAt, s.State, g.served.Load())
		}
		g.stop()
		c.work.Wait()
	})
}

// Dead links are retried with full jitter up to a minute, for ever, and the
// step survives a restart.
func TestDeadLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := stateDir(t)
		c := newCloud(t, nil)
		c.dial = func(int, netpath.Target) error {
			return &netpath.Error{Phase: netpath.TCP, Peer: "endpoint:8883", Err: errors.New("unreachable")}
		}
		g := run(t, c, dir)
		elapse(time.Hour)
		if s := g.last(); s.State != Connecting || s.Cause != Network || s.Attempts.LastPhase != PhaseTCP {
			t.Errorf("state %s, cause %s, phase %s", s.State, s.Cause, s.Attempts.LastPhase)
		}
		dials, _, _ := c.seen()
		if len(dials) < 60 || len(dials) > 240 {
			t.Errorf("%d dials in an hour; want about 120", len(dials))
		}
		g.stop()

		g = run(t, c, dir)
		synctest.Wait()
		if s := g.last(); s.Step != time.Minute {
			t.Errorf("the step after a restart is %v; want the minute that was reached", s.Step)
		}
		g.stop()
	})
}

// A key and certificate that come while the service waits are used within 2 s.
func TestNewIdentityIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full, dir := stateDir(t), t.TempDir()
		c := newCloud(t, func(_ int, s *serverConn) { s.accept(); s.answer() })
		g := run(t, c, dir)
		elapse(time.Minute)
		if s := g.last(); s.State != WaitingForIdentity || s.Cause != NoKey {
			t.Errorf("state %s, cause %s; want waiting-for-identity, no-key", s.State, s.Cause)
		}
		for _, name := range []string{"device.key", "device.crt"} {
			if err := os.Rename(filepath.Join(full, name), filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		elapse(2 * time.Second)
		if s := g.last(); s.State != Online {
			t.Errorf("state %s 2 s after key and certificate came; want online", s.State)
		}
		g.stop()
		c.work.Wait()
	})
}

// Below the floor nothing is dialled; a clock that is set is noticed.
func TestClockBelowTheFloor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := stateDir(t)
		store, _, err := state.Open(filepath.Join(dir, "state.json"))
		if err != nil {
			t.Fatal(err)
		}
		store.Change(func(f *state.File) { f.ServerNotBefore = time.Now().Add(time.Hour) })
		if err := store.Save(); err != nil {
			t.Fatal(err)
		}
		c := newCloud(t, func(_ int, s *serverConn) { s.accept(); s.answer() })
		g := run(t, c, dir)
		elapse(59 * time.Minute)
		if s := g.last(); s.State != WaitingForClock || s.ClockOK {
			t.Errorf("state %s; want waiting-for-clock", s.State)
		}
		if dials, _, _ := c.seen(); len(dials) > 0 {
			t.Errorf("%d dials with a clock below the floor", len(dials))
		}
		elapse(2 * time.Minute)
		if s := g.last(); s.State != Online {
			t.Errorf("state %s after the clock passed the floor; want online", s.State)
		}
		g.stop()
		c.work.Wait()
	})
}

// The watchdog is fed by the loop's rounds: a week of pending must not look
// like a loop that is stuck.
func TestAWeekOfPendingKeepsGoingRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, nil)
		c.dial = func(int, netpath.Target) error { return dialError(netpath.TLS, alert(46)) } // a pending certificate, without the cost of TLS
		g := run(t, c, stateDir(t))
		worst := time.Duration(0)
		for range 7 * 24 * 60 * 2 {
			elapse(30 * time.Second)
			worst = max(worst, g.Idle())
		}
		if worst > 150*time.Second {
			t.Errorf("the loop took %v to come round; want two minutes and a half at most", worst)
		}
		if s := g.last(); s.State != PendingActivation {
			t.Errorf("state %s", s.State)
		}
		if dials, _, _ := c.seen(); len(dials) > 2600 {
			t.Errorf("%d attempts in a week; want one in four to five minutes", len(dials))
		}
		g.stop()
	})
}

// A link that comes up ends the wait of a loop that could not reach anything,
// and of no other.
func TestLinkUpEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, nil)
		c.dial = func(int, netpath.Target) error { return dialError(netpath.TCP, errors.New("unreachable")) }
		g := run(t, c, stateDir(t))
		elapse(time.Hour)
		for range 20 {
			before, _, _ := c.seen()
			g.LinkUp()
			elapse(linkJitter)
			if after, _, _ := c.seen(); len(after) == len(before) {
				t.Fatal("no dial within 2 s of the link coming up")
			}
		}
		g.stop()

		c = newCloud(t, nil)
		c.dial = func(int, netpath.Target) error { return dialError(netpath.TLS, x509.UnknownAuthorityError{}) }
		g = run(t, c, stateDir(t))
		elapse(time.Second)
		g.LinkUp()
		elapse(3 * time.Second)
		if dials, _, _ := c.seen(); len(dials) != 1 {
			t.Errorf("%d dials; a link has nothing to do with an untrusted server", len(dials))
		}
		g.stop()
	})
}

// A server certificate that is not valid yet means that the clock is behind:
// setting it ends the wait.
func TestClockSetEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, nil)
		c.dial = func(int, netpath.Target) error {
			future := &x509.Certificate{NotBefore: time.Now().Add(time.Hour), NotAfter: time.Now().Add(2 * time.Hour)}
			return dialError(netpath.TLS, &tls.CertificateVerificationError{
				UnverifiedCertificates: []*x509.Certificate{future}, Err: x509.CertificateInvalidError{Cert: future, Reason: x509.Expired},
			})
		}
		g := run(t, c, stateDir(t))
		elapse(5 * time.Second)
		if s := g.last(); s.State != WaitingForClock || s.Cause != Clock {
			t.Errorf("state %s, cause %s; want waiting-for-clock, clock", s.State, s.Cause)
		}
		g.ClockSet()
		elapse(time.Second)
		if dials, _, _ := c.seen(); len(dials) != 2 {
			t.Errorf("%d dials; want one at the start and one when the clock was set", len(dials))
		}
		g.stop()
	})
}

// Where a firewall blocks 8883 the agent gets through on 443, and knows it
// after a restart.
func TestPort443WhereTheOtherIsBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := stateDir(t)
		blocked := 0
		c := newCloud(t, func(_ int, s *serverConn) { s.accept(); s.answer() })
		c.dial = func(_ int, target netpath.Target) error {
			if target.Port443 {
				return nil
			}
			blocked++
			return dialError(netpath.TCP, errors.New("unreachable"))
		}
		g := run(t, c, dir)
		elapse(time.Minute)
		if s := g.last(); s.State != Online || s.Link.Port != 443 || blocked != 2 {
			t.Errorf("state %s after %d dials on 8883; want online on 443 after 2", s.State, blocked)
		}
		g.stop()
		g = run(t, c, dir)
		elapse(time.Minute)
		if s := g.last(); s.State != Online || blocked != 2 {
			t.Errorf("after a restart: state %s, %d dials on 8883; want none more", s.State, blocked)
		}
		g.stop()
		c.work.Wait()
	})
}

// A key that loads and does not sign is found out only in a handshake, so it is
// not tried as often as one looks at a file.
func TestKeyThatDoesNotSignIsNotTriedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCloud(t, nil)
		c.brokenTPM = true
		g := run(t, c, stateDir(t))
		elapse(time.Minute)
		if s := g.last(); s.State != WaitingForIdentity || s.Cause != TPMFailing {
			t.Errorf("state %s, cause %s; want waiting-for-identity, tpm-failing", s.State, s.Cause)
		}
		if dials, _, _ := c.seen(); len(dials) < 4 || len(dials) > 7 {
			t.Errorf("%d handshakes in a minute; want one in about ten seconds", len(dials))
		}
		g.stop()
		c.work.Wait()
	})
}
