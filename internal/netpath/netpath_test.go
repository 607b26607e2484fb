package netpath

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func dial(t *testing.T, d *Dialer, target Target) *Conn {
	t.Helper()
	conn, err := d.Dial(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// The server sees the whole chain and the name it is called by, though its
// request names other CAs than ours: AWS registers nobody without it.
func TestDial(t *testing.T) {
	for _, limit := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		e := newEndpoint(t, &tls.Config{ClientCAs: newAuthority(t, "somebody else's CA").pool()})
		target := e.target()
		target.MaxTLS = limit
		conn := dial(t, new(Dialer), target)
		saw := <-e.seen
		if saw.Version != limit {
			t.Errorf("TLS %x; want %x, both sides could do 1.3", saw.Version, limit)
		}
		if want := map[uint16]string{tls.VersionTLS12: "1.2", tls.VersionTLS13: "1.3"}[limit]; conn.TLSVersion() != want {
			t.Errorf("TLSVersion %s; want %s", conn.TLSVersion(), want)
		}
		if saw.ServerName != e.host {
			t.Errorf("SNI %q; want %q", saw.ServerName, e.host)
		}
		if len(saw.PeerCertificates) != 2 || !bytes.Equal(saw.PeerCertificates[1].Raw, e.device.Certificate[1]) {
			t.Errorf("the server saw %d certificates; want leaf and CA", len(saw.PeerCertificates))
		}
		server := conn.ConnectionState().PeerCertificates[0]
		if conn.Port != e.port || conn.ALPN != "" || !conn.ServerNotBefore.Equal(server.NotBefore) {
			t.Errorf("port %d, ALPN %q, not before %v; want %d, none, %v", conn.Port, conn.ALPN, conn.ServerNotBefore, e.port, server.NotBefore)
		}
	}
}

// Port 443 is that of MQTT with ALPN. The proxy stands in for the port, which
// only root may listen on.
func TestDialPort443(t *testing.T) {
	e := newEndpoint(t, &tls.Config{NextProtos: []string{"h2", "x-amzn-mqtt-ca"}})
	p := newProxy(t, "HTTP/1.1 200 OK\r\n\r\n", e)
	target := e.target()
	target.Port443, target.Proxy = true, p.URL
	conn := dial(t, new(Dialer), target)
	if asked := <-p.asked; asked.RequestURI != "localhost:443" {
		t.Errorf("the proxy was asked for %s; want localhost:443", asked.RequestURI)
	}
	if saw := <-e.seen; saw.NegotiatedProtocol != "x-amzn-mqtt-ca" || conn.ALPN != "x-amzn-mqtt-ca" || conn.Port != 443 {
		t.Errorf("the server saw ALPN %q, and Conn says %q, port %d", saw.NegotiatedProtocol, conn.ALPN, conn.Port)
	}
}

// Each error says in which phase it happened.
func TestDialErrors(t *testing.T) {
	e := newEndpoint(t, &tls.Config{})
	other := newEndpoint(t, &tls.Config{})
	old := newEndpoint(t, &tls.Config{MaxVersion: tls.VersionTLS11}) //nolint:gosec // that is the point
	closed := func() int {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return l.Addr().(*net.TCPAddr).Port
	}()
	_, plain := listen(t, func(conn net.Conn) {
		_, _ = io.WriteString(conn, "220 mail.example.com ESMTP\r\n")
		_, _ = io.Copy(io.Discard, conn)
	})
	_, hangsUp := listen(t, func(net.Conn) {})

	for name, c := range map[string]struct {
		change func(*Target)
		phase  Phase
		is     error
		as     any
	}{
		"a name that does not resolve": {func(g *Target) { g.Host = "no-such-host.invalid" }, DNS, nil, new(*net.DNSError)},
		"a closed port":                {func(g *Target) { g.Port = closed }, TCP, syscall.ECONNREFUSED, nil},
		"a server that speaks no TLS":  {func(g *Target) { g.Port = plain }, TLS, nil, new(tls.RecordHeaderError)},
		"a server that hangs up":       {func(g *Target) { g.Port = hangsUp }, TLS, nil, nil},
		"a root we do not trust":       {func(g *Target) { g.Roots = other.ca.pool() }, TLS, nil, new(x509.UnknownAuthorityError)},
		"a certificate of another name": {func(g *Target) { g.Host = "127.0.0.1" }, TLS, nil,
			new(x509.HostnameError)},
		"a server with TLS 1.1": {func(g *Target) { g.Port, g.Roots = old.port, old.ca.pool() }, TLS, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			target := e.target()
			c.change(&target)
			conn, err := new(Dialer).Dial(t.Context(), target)
			var failed *Error
			if !errors.As(err, &failed) {
				t.Fatalf("%v, %v; want an *Error", conn, err)
			}
			if failed.Phase != c.phase {
				t.Errorf("phase %s (%v); want %s", failed.Phase, err, c.phase)
			}
			if c.is != nil && !errors.Is(err, c.is) || c.as != nil && !errors.As(err, c.as) {
				t.Errorf("%v; want %v, %T behind it", err, c.is, c.as)
			}
			if failed.Peer == "" {
				t.Error("it does not say whom it dialled")
			}
		})
	}
}

// A caller who stops gets that as the reason, in whatever phase.
func TestDialStops(t *testing.T) {
	reached := make(chan struct{}, 1)
	host, port := listen(t, func(conn net.Conn) { // takes the ClientHello and says nothing
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			reached <- struct{}{}
		}
		_, _ = io.Copy(io.Discard, conn)
	})
	e := newEndpoint(t, &tls.Config{})
	target := e.target()
	target.Host, target.Port = host, port
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-reached; cancel() }()
	if _, err := new(Dialer).Dial(ctx, target); !errors.Is(err, context.Canceled) {
		t.Errorf("%v; want %v", err, context.Canceled)
	}
	if _, err := new(Dialer).Dial(ctx, target); !errors.Is(err, context.Canceled) {
		t.Errorf("from the start: %v; want %v", err, context.Canceled)
	}
}

// The socket has what finds a dead link, and nothing that costs a metered one.
func TestSocketOptions(t *testing.T) {
	e := newEndpoint(t, &tls.Config{})
	target := e.target()
	target.Stall = 17 * time.Second
	conn := dial(t, new(Dialer), target)
	tcp := conn.NetConn().(*counted).Conn.(*net.TCPConn)
	raw, err := tcp.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	if err := raw.Control(func(fd uintptr) {
		for name, option := range map[string][2]int{
			"TCP_USER_TIMEOUT": {unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT},
			"SO_KEEPALIVE":     {unix.SOL_SOCKET, unix.SO_KEEPALIVE},
		} {
			value, err := unix.GetsockoptInt(int(fd), option[0], option[1])
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			got[name] = value
		}
	}); err != nil {
		t.Fatal(err)
	}
	want := map[string]int{"TCP_USER_TIMEOUT": 17000, "SO_KEEPALIVE": 0}
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s is %d; want %d", name, got[name], value)
		}
	}
}

// Behind the counting there is the TCP connection: pkg/mqtt looks for it, to
// make the server acknowledge what it has.
func TestReachesSocket(t *testing.T) {
	e := newEndpoint(t, &tls.Config{})
	p := newProxy(t, "HTTP/1.1 200 OK\r\n\r\n", e)
	through := e.target()
	through.Proxy = p.URL
	for name, target := range map[string]Target{"straight": e.target(), "through a proxy": through} {
		var conn net.Conn = dial(t, new(Dialer), target)
		for {
			outer, ok := conn.(interface{ NetConn() net.Conn })
			if !ok {
				break
			}
			conn = outer.NetConn()
		}
		if _, ok := conn.(syscall.Conn); !ok {
			t.Errorf("%s: a %T is below; want the socket", name, conn)
		}
	}
}

// All bytes count, those of the handshake and of all connections too.
func TestTraffic(t *testing.T) {
	var d Dialer
	var sent, received int64
	for range 2 {
		e := newEndpoint(t, &tls.Config{})
		conn := dial(t, &d, e.target())
		handshakeSent, handshakeReceived := d.Traffic.Sent.Load()-sent, d.Traffic.Received.Load()-received
		// Each direction carries the chain of one side.
		if handshakeSent < int64(len(e.device.Certificate[0])) || handshakeReceived < int64(len(e.device.Certificate[0])) {
			t.Errorf("the handshake took %d and %d bytes", handshakeSent, handshakeReceived)
		}
		sent, received = d.Traffic.Sent.Load(), d.Traffic.Received.Load()
		const payload = 1000
		if _, err := io.WriteString(conn, strings.Repeat("x", payload)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, make([]byte, payload)); err != nil {
			t.Fatal(err)
		}
		out, in := d.Traffic.Sent.Load()-sent, d.Traffic.Received.Load()-received
		if out < payload || out > payload+100 || in < payload || in > payload+100 {
			t.Errorf("%d bytes and their echo took %d and %d", payload, out, in)
		}
		sent, received = d.Traffic.Sent.Load(), d.Traffic.Received.Load()
	}
}
