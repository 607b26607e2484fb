package jitr

import (
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

// takeover is a server with one session for a client id: a new one that it
// lets in ends the one before with 0x8E, as AWS does.
type takeover struct {
	mu      sync.Mutex
	present *serverConn
}

func (o *takeover) accept(s *serverConn) {
	o.mu.Lock()
	last := o.present
	o.present = s
	o.mu.Unlock()
	if last != nil {
		last.send(&packets.Disconnect{ReasonCode: 0x8E})
		last.Close()
	}
	s.accept()
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if os.IsNotExist(err) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// A certificate is proved before it replaces the old one: while it is pending
// the old session stays up, and what is on disk changes only when it was
// accepted.
func TestCandidateIsProvedThenPromoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := stateDir(t)
		var old string
		var server takeover
		active := time.Now().Add(time.Minute + 20*time.Second)
		c := newCloud(t, func(n int, s *serverConn) {
			if n == 1 {
				old = s.certificateID()
			} else if s.certificateID() != old && time.Now().Before(active) {
				return
			}
			server.accept(s)
			s.answer()
		})
		g := run(t, c, dir)
		elapse(time.Minute)
		enrol(t, dir, "next")
		key, crt := read(t, dir, "next.key"), read(t, dir, "next.crt")
		g.Wake()
		elapse(15 * time.Second)
		if s := g.last(); s.State != Online || read(t, dir, "device.crt") == crt {
			t.Errorf("while the new certificate is pending: state %s; want online with the old one", s.State)
		}
		if news := g.said(); len(news) == 0 || news[0].Cause != Pending {
			t.Errorf("news %+v; want pending", news)
		}
		elapse(time.Minute)
		if s := g.last(); s.State != Online || s.Identity.CertificateID() == old {
			t.Errorf("state %s with certificate %s; want online with the new one", s.State, s.Identity.CertificateID())
		}
		if read(t, dir, "device.key") != key || read(t, dir, "device.crt") != crt || read(t, dir, "next.key")+read(t, dir, "next.crt") != "" {
			t.Error("the proved certificate and its key are not in the place of the old ones")
		}
		if n := g.said()[len(g.said())-1]; n.Replaced != old {
			t.Errorf("last news %+v; want the replacement of %s", n, old)
		}
		if slices.Contains(g.states(), Offline) {
			t.Errorf("states %v; the gateway was never offline", g.states())
		}
		if _, _, inits := c.seen(); inits != 2 {
			t.Errorf("%d inits; want one for each certificate", inits)
		}
		g.stop()
		c.work.Wait()
	})
}

// A certificate that is let in and then cut off proves nothing.
func TestCandidateThatIsCutIsWithdrawn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := stateDir(t)
		var old string
		var server takeover
		c := newCloud(t, func(n int, s *serverConn) {
			if n == 1 {
				old = s.certificateID()
			}
			server.accept(s)
			if s.certificateID() == old {
				s.answer()
			}
		})
		g := run(t, c, dir)
		elapse(time.Minute)
		enrol(t, dir, "next")
		crt := read(t, dir, "next.crt")
		g.Wake()
		elapse(10 * time.Minute)
		if s := g.last(); s.State != Online || s.Identity.CertificateID() != old {
			t.Errorf("state %s with certificate %s; want online with the old one", s.State, s.Identity.CertificateID())
		}
		if read(t, dir, "next.crt") != crt {
			t.Error("the candidate is gone")
		}
		if _, connects, _ := c.seen(); len(connects) > 60 {
			t.Errorf("%d connects in ten minutes", len(connects))
		}
		g.stop()
		c.work.Wait()
	})
}
