package causes

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/jitr-agent/jitr-agent/test/rig"
)

// A certificate that is past its end is named as that, whatever form the
// refusal has.
func TestExpiredCertificate(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]play{"closed": closes, "CONNACK 0x87": connack(0x87), "alert 45": alert(45), "alert 42": alert(42)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := startServer(t, "127.0.0.1:0", p)
			g := newGateway(t, srv.Settings())
			enrol(t, g.Agent, issue(t, newAuthority(t, "Device CA"), thing, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }))
			g.certificateID = rig.CertificateID(t, filepath.Join(g.StateDir, "device.crt"))
			g.Start()
			phase := "connack"
			if name[0] == 'a' {
				phase = "tls"
			}
			g.judge(rejected("cert-expired"), phase, waits["cert-expired"].first, 0, []string{g.certificateID, "expired"}, []string{"jitr-agent csr", "jitr-agent import"})
		})
	}
}

// Below the floor nobody is dialled: the floor here is the device certificate,
// which was not made after tomorrow.
func TestClockBelowFloor(t *testing.T) {
	t.Parallel()
	srv := startServer(t, "127.0.0.1:0", online)
	g := newGateway(t, srv.Settings())
	enrol(t, g.Agent, issue(t, newAuthority(t, "Device CA"), thing, func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(49*time.Hour), time.Now().Add(99*time.Hour)
	}))
	g.Start()
	l, _ := g.await(soon, "clock", 0)
	s := g.Status()
	wants(t, s, map[string]any{"state": "waiting-for-clock", "cause": "clock", "event": "clock", "attempts.last_phase": "clock", "clock.ok": false})
	says(t, "the log", l.Message, "clock says", "cannot be before", "timedatectl")
	if n := len(srv.Met()); n != 0 {
		t.Errorf("%d dials with a wrong clock", n)
	}
}

// A policy that denies the init topic leaves the session alone: telemetry
// flows, and the init is sent again.
func TestInitDenied(t *testing.T) {
	t.Parallel()
	inits, telemetry := make(chan string, 9), make(chan string, 999)
	srv := startServer(t, "127.0.0.1:0", after(func(p *peer) {
		p.accept()
		p.serve(func(packet *packets.ControlPacket) bool {
			m, ok := packet.Content.(*packets.Publish)
			switch {
			case !ok:
			case m.Topic == "init/"+thing:
				inits <- m.Topic
				p.send(&packets.Puback{PacketID: m.PacketID, ReasonCode: 0x87, Properties: &packets.Properties{}})
			default:
				select {
				case telemetry <- m.Topic:
				default:
				}
			}
			return false
		})
	}))
	g := newGateway(t, srv.Settings(), map[string]string{"telemetry.interval": `"1s"`})
	g.Start()
	l, _ := g.await(soon, "not-authorized", 0)
	s := g.Status()
	wants(t, s, map[string]any{"state": "initializing", "cause": "not-authorized", "event": "not-authorized"})
	says(t, "the log", l.Message, srv.Endpoint(), "PUBACK 0x87", "init")
	says(t, "what to do", text(t, s, "remedy"), "init topic", g.certificateID)
	for what, c := range map[string]chan string{"telemetry": telemetry, "init": inits} {
		select {
		case <-c:
		case <-time.After(soon):
			t.Errorf("no %s came", what)
		}
	}
	select {
	case <-inits:
	case <-time.After(soon):
		t.Error("the init was not sent again")
	}
}

// The init is sent once, also where the server hangs up behind its PUBACK.
func TestInitOnceThoughCut(t *testing.T) {
	t.Parallel()
	for n := range 6 { // the order of the two is a matter of chance
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			inits := make(chan string, 99)
			srv := startServer(t, "127.0.0.1:0", after(func(p *peer) {
				p.accept()
				p.serve(func(packet *packets.ControlPacket) bool {
					m, ok := packet.Content.(*packets.Publish)
					if ok && m.Topic == "init/"+thing {
						inits <- m.Topic
						p.send(&packets.Puback{PacketID: m.PacketID, Properties: &packets.Properties{}})
					}
					return ok
				})
			}))
			g := newGateway(t, srv.Settings())
			g.Start()
			_, skip := g.await(soon, "server-closed", 0)
			srv.Play(online)
			g.retry()
			g.await(soon, "online", skip)
			if len(inits) != 1 {
				t.Errorf("%d inits; want 1", len(inits))
			}
			if sent := text(t, g.Status(), "identity.init_at"); sent == "" {
				t.Error("the status does not know of the init")
			}
		})
	}
}

func TestUnknownName(t *testing.T) {
	t.Parallel()
	g := newGateway(t, map[string]string{"cloud.endpoint": `"endpoint.invalid"`, "identity.key": `"file"`, "log.format": `"json"`})
	g.Start()
	g.judge(connecting("dns"), "dns", waits["dns"].first, 0, []string{"endpoint.invalid:8883", "name service"}, []string{"/etc/resolv.conf", "cloud.endpoint"})
}

// Nobody listens.
func TestClosedPort(t *testing.T) {
	t.Parallel()
	srv := startServer(t, "127.0.0.1:0", online)
	g := newGateway(t, srv.Settings(), map[string]string{"cloud.endpoint": `"127.0.0.1:1"`})
	g.Start()
	g.judge(connecting("network"), "tcp", waits["network"].first, 0, []string{"127.0.0.1:1", "refused"}, []string{"firewall", "8883"})
}

// secrets looks for a word in everything that the agent has written.
func (g *gateway) secrets(word string) {
	g.t.Helper()
	for _, dir := range []string{g.StateDir, g.RunDir} {
		err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(path)
			if err == nil {
				silent(g.t, path, string(data), word)
			}
			return err
		})
		if err != nil {
			g.t.Error(err)
		}
	}
	silent(g.t, "the log", g.Stderr.String(), word)
	silent(g.t, "stdout", g.Stdout.String(), word)
	silent(g.t, "status", g.Run("status").Stdout, word)
	silent(g.t, "config check", g.Run("config", "check").String(), word)
}
