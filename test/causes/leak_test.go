package causes

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/url"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/netpath"
	"github.com/jitr-agent/jitr-agent/pkg/jitr"
	"github.com/jitr-agent/jitr-agent/pkg/mqtt"
	"github.com/jitr-agent/jitr-agent/test/rig"
)

// A gateway that cannot connect tries for years: no kind of failure may leave a
// goroutine or a descriptor behind. This is the agent's own code in this
// process, on real sockets; 2,000 of each kind with SLOW=1. It is not parallel:
// it counts what all tests of this process have.
func TestNothingLeaks(t *testing.T) {
	attempts := 500
	if os.Getenv(slowTests) != "" {
		attempts = 2000
	}
	device := issue(t, newAuthority(t, "Device CA"), thing, nil)
	for name, c := range map[string]struct {
		play play
		edit func(srv *server, target *netpath.Target)
		want jitr.Cause
	}{
		"closed port":   {online, func(_ *server, target *netpath.Target) { target.Port = 1 }, jitr.Network},
		"FIN in TLS":    {func(context.Context, net.Conn, *tls.Config) {}, nil, jitr.Network},
		"alert":         {alert(42), nil, jitr.Pending},
		"foreign root":  {online, func(_ *server, target *netpath.Target) { target.Roots = x509.NewCertPool() }, jitr.ServerUntrusted},
		"not TLS":       {raw(func(conn net.Conn) { _, _ = conn.Write([]byte("SSH-2.0-x\r\n")); linger(conn) }), nil, jitr.Protocol},
		"FIN in MQTT":   {closes, nil, jitr.Pending},
		"CONNACK 0x87":  {connack(0x87), nil, jitr.Pending},
		"a bad frame":   {frame(0, 0), nil, jitr.Protocol},
		"accept, cut":   {after(func(p *peer) { p.accept() }), nil, jitr.ServerClosed},
		"DISCONNECT":    {after(func(p *peer) { p.accept(); p.send(disconnect(0x8B)) }), nil, jitr.ServerBusy},
		"proxy says no": {tunnels, func(srv *server, target *netpath.Target) { target.Proxy = &url.URL{Host: srv.Endpoint()} }, jitr.Proxy},
	} {
		t.Run(name, func(t *testing.T) {
			srv := startServer(t, "127.0.0.1:0", c.play)
			roots := x509.NewCertPool()
			roots.AddCert(srv.ca.cert)
			target := netpath.Target{
				Host: srv.Host, Port: srv.Port, Roots: roots, MaxTLS: tls.VersionTLS12, Certificate: &device, Stall: 20 * time.Second,
			}
			if c.edit != nil {
				c.edit(srv, &target)
			}
			var dialer netpath.Dialer
			attempt := func() {
				if got := jitr.Classify(fail(t, &dialer, target)); got != c.want {
					t.Fatalf("the cause is %s; want %s", got, c.want)
				}
			}
			attempt() // what is made once is made
			goroutines, descriptors := census(t, srv)
			for range attempts {
				attempt()
			}
			rig.Eventually(t, soon, func() error {
				if g, d := census(t, srv); g > goroutines || d > descriptors {
					return errors.New("there are more goroutines or descriptors than before")
				}
				return nil
			})
		})
	}
}

// fail makes one attempt, which must come to an end, and returns what is known
// of it.
func fail(t *testing.T, dialer *netpath.Dialer, target netpath.Target) jitr.Evidence {
	t.Helper()
	conn, err := dialer.Dial(t.Context(), target)
	if dial := new(netpath.Error); errors.As(err, &dial) {
		return jitr.Evidence{Phase: jitr.Phase(dial.Phase), Err: err, Now: time.Now()}
	}
	if err != nil {
		t.Fatal(err)
	}
	session, err := mqtt.Connect(t.Context(), conn, mqtt.Config{ClientID: thing, KeepAlive: time.Minute, Stall: target.Stall})
	if err != nil {
		return jitr.Evidence{Phase: jitr.PhaseConnack, Err: err}
	}
	return jitr.Evidence{Phase: jitr.PhaseSession, Err: session.Err(), Accepted: true}
}

// census counts goroutines and open descriptors when the server has none of
// its own any more.
func census(t *testing.T, srv *server) (goroutines, descriptors int) {
	t.Helper()
	rig.Eventually(t, soon, func() error {
		if srv.Live() > 0 {
			return errors.New("the server still has connections")
		}
		return nil
	})
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return runtime.NumGoroutine(), len(open)
}
