package causes

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/jitr-agent/jitr-agent/test/rig"
)

// A server that accepts and then cuts does not make the agent knock without a
// pause: the CONNACK is no success.
func TestAcceptThenCut(t *testing.T) {
	t.Parallel()
	const window, most = 30 * time.Second, 14
	// on acknowledges all before a packet of kind, and cuts there.
	on := func(kind byte) play {
		return after(func(p *peer) {
			p.accept()
			p.serve(func(packet *packets.ControlPacket) bool { return packet.Type == kind })
		})
	}
	for name, play := range map[string]play{
		"at the CONNACK":   after(func(p *peer) { p.accept() }),
		"at the init":      on(packets.PUBLISH),
		"at the SUBSCRIBE": on(packets.SUBSCRIBE),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := startServer(t, "127.0.0.1:0", play)
			g := newGateway(t, srv.Settings())
			g.Start()
			g.await(soon, "server-closed", 0)
			rig.Throughout(t, time.Until(srv.Met()[0].Add(window)), func() error {
				if n := len(srv.Met()); n > most {
					return fmt.Errorf("%d connects; want at most %d in %v", n, most, window)
				}
				return nil
			})
			n := len(srv.Met())
			t.Logf("%d connects in %v", n, window)
			if n < 2 {
				t.Errorf("%d connects: it does not try again", n)
			}
		})
	}
}

// SIGTERM ends the agent in time although nobody reads what it sends: the
// server floods it with publishes, whose acknowledgements fill the way back.
func TestStopWithFullSendBuffer(t *testing.T) {
	t.Parallel()
	blocked := make(chan struct{})
	srv := startServer(t, "127.0.0.1:0", after(func(p *peer) {
		p.accept()
		p.serve(func(packet *packets.ControlPacket) bool { return packet.Type == packets.SUBSCRIBE })
		flood := packets.Publish{Topic: "$aws/things/" + thing + "/shadow/get/rejected", QoS: 1, PacketID: 1, Properties: &packets.Properties{}}
		for {
			// A write that does not get through shows that the agent does not
			// read any more, as its own writes do not get through.
			_ = p.SetWriteDeadline(time.Now().Add(2 * time.Second))
			if _, err := flood.WriteTo(p); err != nil {
				if errors.Is(err, os.ErrDeadlineExceeded) {
					close(blocked)
				}
				<-p.ended
				return
			}
		}
	}))
	g := newGateway(t, srv.Settings(), map[string]string{"cloud.stall": `"2m"`})
	g.Start()
	g.await(soon, "online", 0)
	select {
	case <-blocked:
	case <-time.After(time.Minute):
		t.Fatal("the agent's send buffer does not fill")
	}
	asked := time.Now()
	if code := g.Stop(); code != 0 { // within 5 s, or it fails
		t.Errorf("exit code %d", code)
	}
	t.Logf("it ended after %v", time.Since(asked).Round(time.Millisecond))
}

// The ladder: port 443 with ALPN where 8883 is blocked, also after a restart,
// and 8883 where it is not.
func TestPortLadder(t *testing.T) {
	t.Parallel()
	on443 := func(t *testing.T, host string) *server {
		t.Helper()
		srv, err := listen(t, net.JoinHostPort(host, "443"), online)
		if errors.Is(err, fs.ErrPermission) {
			t.Skip("skipped: port 443 needs root")
		}
		if err != nil {
			t.Fatal(err)
		}
		srv.identity.NextProtos = []string{"x-amzn-mqtt-ca"}
		return srv
	}
	settings := func(srv *server) map[string]string {
		return with(srv.Settings(), "cloud.endpoint", strconv.Quote(srv.Host)) // port 8883, that is
	}
	resets := raw(func(conn net.Conn) {
		_, _ = conn.Read(make([]byte, 1))
		_ = conn.(*net.TCPConn).SetLinger(0)
	})
	for i, c := range []struct {
		name string
		play play // on 8883; nil: nobody listens there
	}{{"closed", nil}, {"reset in TLS", resets}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			host := fmt.Sprintf("127.88.%d.%d", os.Getpid()%250, i+1)
			srv := on443(t, host)
			if c.play != nil {
				startServer(t, net.JoinHostPort(host, "8883"), c.play)
			}
			g := newGateway(t, settings(srv))
			g.Start()
			l, skip := g.await(soon, "network", 0)
			says(t, "the log", l.Message, host+":8883")
			l, _ = g.await(time.Minute, "online", skip)
			says(t, "the log", l.Message, host+":443")
			on := map[string]any{"cloud.port": 443.0, "cloud.alpn": "x-amzn-mqtt-ca"}
			wants(t, g.Status(), on)
			g.Stop()

			g.Start()
			g.await(soon, "online", 0)
			wants(t, g.Status(), on)
			for _, l := range g.lines() {
				if l.Cause != "" {
					t.Errorf("after the restart it tried another way first: %s", l.Message)
				}
			}
		})
	}
	t.Run("open", func(t *testing.T) {
		t.Parallel()
		host := fmt.Sprintf("127.88.%d.9", os.Getpid()%250)
		upper := on443(t, host)
		srv := startServer(t, net.JoinHostPort(host, "8883"), online)
		g := newGateway(t, settings(srv))
		g.Start()
		g.await(soon, "online", 0)
		wants(t, g.Status(), map[string]any{"cloud.port": 8883.0, "cloud.alpn": nil})
		if n := len(upper.Met()); n != 0 {
			t.Errorf("%d dials on 443", n)
		}
	})
	t.Run("443 without the ALPN", func(t *testing.T) {
		t.Parallel()
		host := fmt.Sprintf("127.88.%d.10", os.Getpid()%250)
		srv := on443(t, host)
		srv.identity.NextProtos = []string{"h2"}
		g := newGateway(t, settings(srv), map[string]string{"cloud.port_443": `"always"`})
		g.Start()
		g.judge(connecting("tls"), "tls", waits["tls"].first, 0, []string{host + ":443", "alert 120"}, nil)
	})
}
