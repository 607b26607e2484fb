package causes

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/jitr-agent/jitr-agent/test/rig"
)

// play is what a server does with one connection. The connection is closed
// when it returns; when ctx ends it is closed under it.
type play func(ctx context.Context, conn net.Conn, identity *tls.Config)

// server is an endpoint that plays. It is made of the standard library and a
// packet codec, and knows nothing of our code.
type server struct {
	t        testing.TB
	ca       *authority
	identity *tls.Config // for handshake; what a play changes in it is a copy's
	rootFile string
	Host     string
	Port     int

	mu   sync.Mutex
	play play
	met  []time.Time         // when each connection came
	live map[net.Conn]func() // closes it
	work sync.WaitGroup
}

// startServer listens on address and plays first until told otherwise.
func startServer(t testing.TB, address string, first play) *server {
	t.Helper()
	s, err := listen(t, address, first)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func listen(t testing.TB, address string, first play) (*server, error) {
	t.Helper()
	// A small buffer is soon full where a server does not read.
	small := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var set error
		err := c.Control(func(fd uintptr) { set = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 8<<10) })
		if err != nil {
			return err
		}
		return set
	}}
	l, err := small.Listen(t.Context(), "tcp", address)
	if err != nil {
		return nil, err
	}
	at := l.Addr().(*net.TCPAddr)
	ca := newAuthority(t, "Server CA")
	own := endpointCert(t, ca, func(c *x509.Certificate) { c.IPAddresses = []net.IP{at.IP} })
	s := &server{
		t: t, ca: ca, rootFile: filepath.Join(rig.TempDir(t), "server-ca.pem"), play: first, live: map[net.Conn]func(){},
		identity: &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAnyClientCert},
		Host:     at.IP.String(), Port: at.Port,
	}
	writePEM(t, s.rootFile, "CERTIFICATE", ca.cert.Raw)
	if s.Host == "127.0.0.1" {
		s.Host = "localhost" // a name, so that the client sends it
	}
	s.work.Go(func() { s.accept(l) })
	t.Cleanup(func() {
		l.Close()
		s.Cut()
		s.work.Wait()
	})
	return s, nil
}

func (s *server) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		ctx, cancel := context.WithCancel(s.t.Context())
		s.mu.Lock()
		s.met = append(s.met, time.Now())
		now := s.play
		s.live[conn] = func() {
			cancel()
			conn.Close()
		}
		s.mu.Unlock()
		s.work.Go(func() {
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			now(ctx, conn, s.identity.Clone())
			stop()
			conn.Close()
			cancel()
			s.mu.Lock()
			delete(s.live, conn)
			s.mu.Unlock()
		})
	}
}

// Play is for the connections to come.
func (s *server) Play(p play) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.play = p
}

// Cut closes the connections that there are.
func (s *server) Cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, end := range s.live {
		end()
	}
}

// Met is when each connection came.
func (s *server) Met() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]time.Time(nil), s.met...)
}

// Live is how many connections there are.
func (s *server) Live() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.live)
}

// Endpoint is its host:port.
func (s *server) Endpoint() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// Settings are what an agent needs to come here and be watched.
func (s *server) Settings() map[string]string {
	return map[string]string{
		"cloud.endpoint": strconv.Quote(s.Endpoint()), "cloud.server_ca": strconv.Quote(s.rootFile),
		"identity.key": `"file"`, "log.format": `"json"`, "telemetry.interval": `"1h"`,
	}
}

// raw plays below TLS.
func raw(script func(conn net.Conn)) play {
	return func(_ context.Context, conn net.Conn, _ *tls.Config) { script(conn) }
}

// mute says nothing.
func mute(ctx context.Context, conn net.Conn, _ *tls.Config) {
	go io.Copy(io.Discard, conn) //nolint:errcheck // it ends with the connection
	<-ctx.Done()
}

// answers waits for the ClientHello and writes bytes.
func answers(data ...byte) play {
	return raw(func(conn net.Conn) {
		_, _ = conn.Read(make([]byte, 4096)) // whatever it says, the answer is the same
		_, _ = conn.Write(data)
		linger(conn)
	})
}

// linger gives the client the time to read before the connection is closed: a
// close with unread data is an RST, which overtakes what was written.
func linger(conn net.Conn) {
	_ = conn.SetReadDeadline(time.Now().Add(2 * time.Second))
	_, _ = io.Copy(io.Discard, conn)
}

// alert ends the handshake with a TLS 1.2 alert in the place of the server's
// Finished: when the client has shown its certificate.
func alert(number byte) play {
	return func(ctx context.Context, conn net.Conn, identity *tls.Config) {
		identity.MaxVersion = tls.VersionTLS12
		_ = tls.Server(&alertConn{Conn: conn, number: number}, identity).HandshakeContext(ctx)
		linger(conn)
	}
}

// alertConn replaces the second flight of a TLS 1.2 server.
type alertConn struct {
	net.Conn
	number  byte
	flights int
}

func (c *alertConn) Write(p []byte) (int, error) {
	if c.flights++; c.flights == 1 {
		return c.Conn.Write(p)
	}
	const fatal = 2
	_, err := c.Conn.Write([]byte{21, 3, 3, 0, 2, fatal, c.number})
	if err == nil {
		err = io.ErrClosedPipe // the server's own handshake is over
	}
	return 0, err
}

// presents shakes hands with another certificate.
func presents(cert tls.Certificate) play {
	return func(ctx context.Context, conn net.Conn, identity *tls.Config) {
		identity.Certificates = []tls.Certificate{cert}
		_ = tls.Server(conn, identity).HandshakeContext(ctx)
		linger(conn)
	}
}

// peer is an agent whose CONNECT was read.
type peer struct {
	net.Conn
	tcp   net.Conn
	ended <-chan struct{}
	// Connect is its CONNECT.
	Connect *packets.Connect
}

// after shakes hands, reads the CONNECT and plays on.
func after(script func(p *peer)) play {
	return afterTLS(func(*tls.Config) {}, script)
}

func afterTLS(edit func(*tls.Config), script func(p *peer)) play {
	return func(ctx context.Context, conn net.Conn, identity *tls.Config) {
		edit(identity)
		secure := tls.Server(conn, identity)
		if secure.HandshakeContext(ctx) != nil {
			linger(conn)
			return
		}
		p := &peer{Conn: secure, tcp: conn, ended: ctx.Done()}
		packet, err := packets.ReadPacket(secure)
		if err != nil {
			return
		}
		p.Connect, _ = packet.Content.(*packets.Connect)
		script(p)
	}
}

// send sends a packet in one piece; an agent that has gone is no concern of a
// server's.
func (p *peer) send(packet io.WriterTo) {
	var whole bytes.Buffer
	_, _ = packet.WriteTo(&whole) // a buffer takes everything
	_, _ = p.Write(whole.Bytes())
}

func (p *peer) accept() { p.acceptWith(&packets.Properties{}) }

func (p *peer) acceptWith(properties *packets.Properties) {
	p.send(&packets.Connack{Properties: properties})
}

func (p *peer) disconnect(code byte) {
	p.send(disconnect(code))
	linger(p.tcp)
}

func disconnect(code byte) io.WriterTo { return &packets.Disconnect{ReasonCode: code} }

// mute reads on and says nothing.
func (p *peer) mute() {
	go io.Copy(io.Discard, p) //nolint:errcheck // it ends with the connection
	<-p.ended
}

func (p *peer) reset() {
	if tcp, ok := p.tcp.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
}

// serve answers all that comes, until the connection ends or on says stop.
func (p *peer) serve(on func(packet *packets.ControlPacket) (stop bool)) {
	for {
		packet, err := packets.ReadPacket(p)
		if err != nil || on != nil && on(packet) {
			return
		}
		switch c := packet.Content.(type) {
		case *packets.Publish:
			p.send(&packets.Puback{PacketID: c.PacketID, Properties: &packets.Properties{}})
		case *packets.Subscribe:
			p.send(&packets.Suback{PacketID: c.PacketID, Reasons: make([]byte, len(c.Subscriptions)), Properties: &packets.Properties{}})
		case *packets.Pingreq:
			p.send(packets.NewControlPacket(packets.PINGRESP))
		}
	}
}

// online accepts the agent and stays.
var online = after(func(p *peer) {
	p.accept()
	p.serve(nil)
})

// closes ends it before a CONNACK, as AWS IoT does with a certificate that it
// does not let in.
var closes = after(func(*peer) {})

// connack answers a CONNECT with a reason code.
func connack(code byte) play {
	return after(func(p *peer) {
		p.send(&packets.Connack{ReasonCode: code, Properties: &packets.Properties{}})
		linger(p.tcp)
	})
}

// disconnects accepts, and ends it with a reason code.
func disconnects(code byte) play {
	return after(func(p *peer) {
		p.accept()
		p.disconnect(code)
	})
}

// frame answers a CONNECT with bytes.
func frame(data ...byte) play {
	return after(func(p *peer) {
		_, _ = p.Write(data)
		linger(p.tcp)
	})
}
