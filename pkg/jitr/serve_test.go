package jitr

import (
	"context"
	"crypto/tls"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/jitr-agent/jitr-agent/internal/netpath"
	"github.com/jitr-agent/jitr-agent/internal/state"
	"github.com/jitr-agent/jitr-agent/pkg/identity"
	"github.com/jitr-agent/jitr-agent/pkg/mqtt"
)

// A PUBACK to the init counts also where the server hangs up right behind it,
// else the init would be sent twice. The loop is slow here, so that it sees
// both at once and must not choose; it would choose well half of the time.
func TestInitIsNotForgottenAtTheEnd(t *testing.T) {
	dir := stateDir(t)
	for range 12 {
		synctest.Test(t, func(t *testing.T) {
			c := newCloud(t, func(_ int, s *serverConn) {
				s.accept()
				p, err := packets.ReadPacket(s)
				if err != nil {
					t.Error(err)
					return
				}
				s.send(&packets.Puback{PacketID: p.PacketID(), Properties: &packets.Properties{}})
			})
			g := &gateway{dir: dir}
			id, err := g.Load(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer id.Close()
			store, _, err := state.Open(filepath.Join(t.TempDir(), "state.json"))
			if err != nil {
				t.Fatal(err)
			}
			l := New(Config{
				Endpoint:   func() Endpoint { return Endpoint{Host: "endpoint"} },
				Identities: g, Dialer: c, Store: store, Observer: &g.record,
				Init:  func(*identity.Identity) mqtt.Message { return mqtt.Message{Topic: "init/gw-1"} },
				Serve: func(ctx context.Context, _ *mqtt.Session, _ *identity.Identity) { <-ctx.Done() },
				Boot: func() time.Duration {
					elapse(time.Second)
					return time.Hour + time.Since(c.start)
				},
			})
			l.snap.Identity, l.snap.Endpoint = id, Endpoint{Host: "endpoint"}
			conn, err := c.Dial(t.Context(), netpath.Target{Certificate: id.TLSCertificate(), MaxTLS: tls.VersionTLS12})
			if err != nil {
				t.Fatal(err)
			}
			session, err := mqtt.Connect(t.Context(), conn, mqtt.Config{ClientID: "gw-1", KeepAlive: time.Minute, Stall: 20 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			l.serve(t.Context(), session)
			if h := store.Get().Histories[state.Key(id.CertificateID(), "endpoint")]; h.InitAt.IsZero() {
				t.Error("the init was acknowledged, and nobody remembers")
			}
			c.work.Wait()
		})
	}
}
