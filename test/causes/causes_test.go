// Package causes drives the real agent through every cause of "not online",
// from outside: by a server that plays each of them, and by networks that do.
// What people and programs are told is what is judged.
package causes

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/jitr-agent/jitr-agent/test/rig"
)

func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("test.parallel", "16") // nearly all of the time is waiting
	rig.Main(m)
}

// wait are the bounds of the first wait after a failure.
type wait struct{ low, high time.Duration }

// The first steps of the schedules. In an accepted history the session that
// made it one was cut, which is the first step of the server's row.
var waits = map[string]struct{ first, accepted wait }{
	"pending":             {first: wait{time.Second, time.Second}},
	"server-closed":       {wait{0, 5 * time.Second}, wait{0, 10 * time.Second}},
	"keepalive":           {wait{0, 5 * time.Second}, wait{0, 10 * time.Second}},
	"throttled":           {wait{0, 5 * time.Second}, wait{0, 10 * time.Second}},
	"server-busy":         {wait{0, 5 * time.Second}, wait{0, 10 * time.Second}},
	"dns":                 both(0, time.Second),
	"network":             both(0, time.Second),
	"proxy":               both(0, time.Second),
	"not-authorized":      both(8*time.Second, 10*time.Second),
	"client-cert-refused": both(8*time.Second, 10*time.Second),
	"cert-expired":        both(8*time.Second, 10*time.Second),
	"server-untrusted":    both(24*time.Second, 30*time.Second),
	"tls":                 both(24*time.Second, 30*time.Second),
	"protocol":            both(24*time.Second, 30*time.Second),
	"duplicate-client-id": both(48*time.Second, time.Minute),
	"clock":               both(24*time.Second, 30*time.Second), // the server's certificate lies in the future
}

func both(low, high time.Duration) struct{ first, accepted wait } {
	return struct{ first, accepted wait }{wait{low, high}, wait{low, high}}
}

// outcome is what an agent makes of a play.
type outcome struct{ state, cause string }

func connecting(cause string) outcome { return outcome{"connecting", cause} }
func offline(cause string) outcome    { return outcome{"offline", cause} }
func rejected(cause string) outcome   { return outcome{"rejected", cause} }

var (
	pending = outcome{"pending-activation", "pending"}
	noClock = outcome{"waiting-for-clock", "clock"}
)

// scene is one way in which it does not work.
type scene struct {
	name     string
	play     play
	cert     func(*x509.Certificate) // the server's own with a change, in the place of a play
	settings map[string]string
	phase    string
	// The outcome for a certificate that was never accepted, and for one that
	// was. The zero one is not played.
	first, accepted outcome
	// says are words of the sentence, besides endpoint or certificate.
	says []string
	// remedy are words of what to do.
	remedy []string
}

// unlike is the same cause, for either history.
func unlike(cause string) (first, accepted outcome) { return connecting(cause), offline(cause) }

// scenes is contract §5, as a server plays it.
func scenes(t *testing.T) []scene {
	t.Helper()
	other := newAuthority(t, "Portal CA")
	tls13 := map[string]string{"cloud.tls_max": `"1.3"`}
	var all []scene
	add := func(s ...scene) { all = append(all, s...) }

	// The JITR cut, in all its forms.
	refuse := func(client *tls.Config) {
		client.MinVersion = tls.VersionTLS13
		client.VerifyConnection = func(tls.ConnectionState) error { return errors.New("no") }
	}
	unknown := func(client *tls.Config) {
		client.MinVersion, client.ClientAuth, client.ClientCAs = tls.VersionTLS13, tls.RequireAndVerifyClientCert, x509.NewCertPool()
	}
	add(
		scene{name: "FIN before CONNACK", play: closes, phase: "connack", first: pending, accepted: offline("server-closed"), says: []string{"closed"}},
		scene{name: "RST before CONNACK", play: after((*peer).reset), phase: "connack", first: pending, accepted: offline("server-closed")},
		scene{name: "CONNACK 0x87", play: connack(0x87), phase: "connack", first: pending, accepted: rejected("not-authorized")},
		scene{name: "alert 42 in TLS 1.3", settings: tls13, play: afterTLS(refuse, nil), phase: "connack", first: pending, accepted: rejected("client-cert-refused")},
		scene{name: "alert 48 in TLS 1.3", settings: tls13, play: afterTLS(unknown, nil), phase: "connack", first: pending, accepted: rejected("client-cert-refused")},
	)
	for _, a := range []struct {
		number byte
		said   string
	}{{42, "alert 42 (bad certificate)"}, {46, "alert 46 (unknown certificate)"}, {48, "alert 48 (unknown certificate authority)"}} {
		s := scene{name: a.said, play: alert(a.number), phase: "tls", first: pending, accepted: rejected("client-cert-refused")}
		add(s)
	}

	for said, number := range map[string]byte{
		"alert 43 (unsupported certificate)": 43, "alert 44 (revoked certificate)": 44, "alert 45 (expired certificate)": 45,
		"alert 49 (access denied)": 49, "alert 116 (certificate required)": 116,
	} {
		add(scene{name: said, play: alert(number), phase: "tls", first: rejected("client-cert-refused"), accepted: rejected("client-cert-refused"), says: []string{said}, remedy: []string{"operator"}})
	}

	for said, number := range map[string]byte{
		"alert 40 (handshake failure)": 40, "alert 71 (insufficient security level)": 71,
		"alert 80 (internal error)": 80, "alert 120 (no application protocol)": 120,
	} {
		first, accepted := unlike("tls")
		add(scene{name: said, play: alert(number), phase: "tls", first: first, accepted: accepted, says: []string{said}, remedy: []string{"cloud.tls_max"}})
	}
	add(scene{
		name: "no common version", phase: "tls", first: connecting("tls"), accepted: offline("tls"),
		play: afterTLS(func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }, nil),
		says: []string{"alert 70", "cloud.tls_max"}, remedy: []string{"cloud.tls_max", "1.3"},
	})

	protocol := func(name, phase string, p play, said ...string) {
		add(scene{name: name, play: p, phase: phase, first: connecting("protocol"), accepted: offline("protocol"), says: said, remedy: []string{"port"}})
	}
	protocol("HTTP", "tls", answers([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")...), "not TLS", `"HTTP/"`)
	protocol("SSH", "tls", answers([]byte("SSH-2.0-x\r\n")...), "not TLS", `"SSH-2"`)
	protocol("a frame of type 0", "connack", frame(0, 0), "frame")
	protocol("a frame of 256 MB", "connack", frame(0x20, 0xff, 0xff, 0xff, 0x7f), "268435455 bytes")
	protocol("a length of five bytes", "connack", frame(0x20, 0xff, 0xff, 0xff, 0xff, 0x0f), "frame")
	protocol("a PINGRESP for a CONNACK", "connack", frame(0xd0, 0), "frame")
	protocol("MQTT 3.1.1", "connack", frame(0x20, 2, 0, 1), "frame")
	for _, code := range []byte{0x81, 0x82, 0x84, 0x85} {
		protocol("CONNACK "+hex(code), "connack", connack(code), "CONNACK "+hex(code))
	}
	for _, code := range []byte{0x81, 0x82, 0x93, 0x95} {
		protocol("DISCONNECT "+hex(code), "session", disconnects(code), "DISCONNECT "+hex(code))
	}
	protocol("a large frame in mid-session", "session", after(func(p *peer) {
		p.accept()
		_, _ = p.Write([]byte{0x30, 0xff, 0xff, 0x7f})
		linger(p.tcp)
	}), "frame")

	untrusted := func(name string, cert tls.Certificate, said ...string) {
		add(scene{name: name, play: presents(cert), phase: "tls", first: connecting("server-untrusted"), accepted: offline("server-untrusted"), says: said, remedy: []string{"cloud.endpoint", "cloud.server_ca"}})
	}
	untrusted("a foreign root", endpointCert(t, other, nil), "authority")
	add(
		scene{name: "a captive portal", cert: func(c *x509.Certificate) { c.DNSNames = []string{"portal.hotel.example"} }, phase: "tls", first: connecting("server-untrusted"), accepted: offline("server-untrusted"), says: []string{"portal.hotel.example", "captive portal"}, remedy: []string{"log in"}},
		scene{name: "the server's certificate has expired", cert: func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }, phase: "tls", first: connecting("server-untrusted"), accepted: offline("server-untrusted"), says: []string{"clock says"}, remedy: []string{"clock", "timedatectl"}},
		scene{name: "the server's certificate is not valid yet", cert: func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }, phase: "tls", first: noClock, accepted: noClock, says: []string{"clock says"}, remedy: []string{"timedatectl"}},
	)

	coded := func(cause string, phase string, p play, said string) {
		first, accepted := unlike(cause)
		add(scene{name: said, play: p, phase: phase, first: first, accepted: accepted, says: []string{said}})
	}
	for _, code := range []byte{0x97, 0x9F} {
		coded("throttled", "connack", connack(code), "CONNACK "+hex(code))
	}
	for _, code := range []byte{0x96, 0x97} {
		coded("throttled", "session", disconnects(code), "DISCONNECT "+hex(code))
	}
	for _, code := range []byte{0x88, 0x89, 0x8B} {
		coded("server-busy", "connack", connack(code), "CONNACK "+hex(code))
	}
	coded("server-busy", "session", disconnects(0x8B), "DISCONNECT 0x8B")
	coded("keepalive", "session", disconnects(0x8D), "DISCONNECT 0x8D")

	add(
		scene{name: "pings unanswered", phase: "session", first: connecting("keepalive"), accepted: offline("keepalive"), says: []string{"ping"}, remedy: []string{"link"}, play: after(func(p *peer) {
			p.acceptWith(&packets.Properties{ServerKeepAlive: new(uint16(2))})
			p.mute()
		})},
		scene{name: "FIN behind CONNACK", phase: "session", first: connecting("server-closed"), accepted: offline("server-closed"), play: after(func(p *peer) { p.accept() }),
			says: []string{"mid-session", "drains a node or throttles the account", "deactivated"}, remedy: []string{"ACTIVE", "throttled"}},
		scene{name: "DISCONNECT 0x8E", play: disconnects(0x8E), phase: "session", first: connecting("duplicate-client-id"), accepted: offline("duplicate-client-id"), says: []string{thing}, remedy: []string{"cloned"}},
		scene{name: "DISCONNECT 0x87", play: disconnects(0x87), phase: "session", first: rejected("not-authorized"), accepted: rejected("not-authorized"), says: []string{"does not authorize", "0x87"}, remedy: []string{"ACTIVE", "iot:Connect"}},

		scene{name: "mute in TLS", play: mute, phase: "tls", first: connecting("network"), accepted: offline("network"), says: []string{"TCP connects", "MTU", "firewall"}, remedy: []string{"8883"}},
		scene{name: "mute in MQTT", play: after(func(p *peer) { p.mute() }), phase: "connack", first: connecting("network"), says: []string{"no answer in time"}},
		scene{name: "RST in TLS", phase: "tls", first: connecting("network"), accepted: offline("network"), play: raw(func(conn net.Conn) {
			_, _ = conn.Read(make([]byte, 1))
			_ = conn.(*net.TCPConn).SetLinger(0)
		}), says: []string{"reset"}},
	)
	return all
}

const digits = "0123456789ABCDEF"

func hex(code byte) string { return "0x" + string([]byte{digits[code>>4], digits[code&15]}) }

// TestCauses: for each cause, the state, the cause, the event, the phase, the
// sentence, what to do, and when it is tried again; for a new certificate and
// for one that the endpoint took before.
func TestCauses(t *testing.T) {
	t.Parallel()
	for _, s := range scenes(t) {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			if s.first != (outcome{}) {
				t.Run("first", func(t *testing.T) {
					t.Parallel()
					perform(t, s, false)
				})
			}
			if s.accepted != (outcome{}) {
				t.Run("accepted", func(t *testing.T) {
					t.Parallel()
					perform(t, s, true)
				})
			}
		})
	}
}

func perform(t *testing.T, s scene, accepted bool) {
	t.Helper()
	srv := startServer(t, "127.0.0.1:0", online)
	if s.cert != nil {
		s.play = presents(endpointCert(t, srv.ca, s.cert))
	}
	g := newGateway(t, srv.Settings(), s.settings)
	want, skip := s.first, 0
	if accepted {
		want = s.accepted
		g.Start()
		_, skip = g.await(soon, "online", 0)
		srv.Play(s.play)
		srv.Cut()
		_, skip = g.await(soon, "server-closed", skip)
		g.retry()
	} else {
		srv.Play(s.play)
		g.Start()
	}
	bounds := waits[want.cause].first
	if accepted {
		bounds = waits[want.cause].accepted
	}
	g.judge(want, s.phase, bounds, skip, s.says, s.remedy)
}

// judge checks everything that is told about the next failure.
func (g *gateway) judge(want outcome, phase string, bounds wait, skip int, said, todo []string) {
	t := g.t
	t.Helper()
	const limit = 40 * time.Second // a TLS handshake may take 20 s
	l, _ := g.await(limit, want.cause, skip)
	if l.State != want.state || l.Cause != want.cause || l.Phase != phase {
		t.Errorf("the log has state %s, cause %s, phase %s; want %v in phase %s", l.State, l.Cause, l.Phase, want, phase)
	}
	if l.NextRetryMS == nil {
		t.Fatalf("the log does not say when the next try is: %+v", l)
	}
	// The entry is written a moment after the wait was drawn.
	const moment = 100 * time.Millisecond
	next := time.Duration(*l.NextRetryMS) * time.Millisecond
	if next < bounds.low-moment || next > bounds.high {
		t.Errorf("the next try is in %v; want %v to %v", next, bounds.low, bounds.high)
	}
	// Until somebody asks for the status it may be one step further: the wait was
	// short, or the signal came when a try was due anyhow.
	bounds.high = 2*bounds.high + 5*time.Second

	s := g.Status()
	wants(t, s, map[string]any{
		"running": true, "state": want.state, "cause": want.cause, "event": want.cause, "attempts.last_phase": phase,
		"identity.certificate_id": g.certificateID, "cloud.connected_at": nil,
	})
	if s.At(t, "next") != nil { // null while a try is under way
		wants(t, s, map[string]any{"next.action": "connect"})
		in, _ := s.At(t, "next.in_ms").(float64)
		if in < 0 || time.Duration(in)*time.Millisecond > bounds.high {
			t.Errorf("next.in_ms is %v; want at most %v", in, bounds.high)
		}
	}
	remedy := text(t, s, "remedy")
	if remedy == "" && want.cause != "pending" {
		t.Error("nothing says what to do")
	}
	endpoint := text(t, s, "cloud.endpoint")
	switch want.cause {
	case "clock":
	case "pending": // why it was closed is no concern of a technician's
		said = []string{endpoint, g.certificateID, "PENDING_ACTIVATION"}
	default:
		said = append(slices.Clip(said), endpoint)
	}
	for what, sentence := range map[string]string{"status.json": text(t, s, "message"), "the log": l.Message} {
		says(t, what, sentence, said...)
	}
	says(t, "what to do", remedy, todo...)
	if want.cause != "pending" && !strings.Contains(l.Message, "; ") {
		t.Errorf("the log does not say what to do: %s", l.Message)
	}
	if strings.Contains(l.Message, "{") || strings.Contains(remedy, "{") {
		t.Errorf("a field is not filled in: %s; %s", l.Message, remedy)
	}
}
