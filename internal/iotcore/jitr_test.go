package iotcore

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

// try sends one CONNECT and tells how the connection ended: "fin", "rst",
// "connack 0xNN", or the error.
func (b *bench) try(i identity, clientID string, change ...func(*tls.Config)) string {
	b.t.Helper()
	conn, err := b.tlsDial(i, change...)
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	device{b.t, conn}.send(connectPacket(clientID))
	cp, err := packets.ReadPacket(conn)
	switch {
	case errors.Is(err, io.EOF):
		return "fin"
	case errors.Is(err, syscall.ECONNRESET):
		return "rst"
	case err != nil:
		return err.Error()
	}
	if ack, ok := cp.Content.(*packets.Connack); ok {
		return "connack 0x" + strconv.FormatUint(uint64(ack.ReasonCode), 16)
	}
	return cp.String()
}

// untilAccepted tries again and again, as a device does.
func (b *bench) untilAccepted(i identity, clientID string) {
	b.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		got := b.try(i, clientID)
		if got == "connack 0x0" {
			return
		}
		if got != "fin" || time.Now().After(deadline) {
			b.t.Fatalf("still %s", got)
		}
	}
}

func TestFirstConnect(t *testing.T) {
	b := start(t, Config{})
	op := b.connect(b.accepted("operator", ""), "operator")
	if ack := op.subscribe("$aws/events/certificates/registered/#"); ack.Reasons[0] != 1 {
		t.Fatalf("SUBACK 0x%02x", ack.Reasons[0])
	}
	gw := b.ca.issue(t, "gw-1")

	// The handshake alone registers nothing.
	conn := b.mustDial(gw)
	conn.Close()
	b.recorded(2) // the operator's, and this one
	if _, ok := b.Story(gw.id); ok {
		t.Error("a handshake without CONNECT registered the certificate")
	}

	before := time.Now().Add(-time.Millisecond)
	for attempt := range 3 {
		if got := b.try(gw, "gw-1"); got != "fin" {
			t.Fatalf("attempt %d ended with %s, want fin without CONNACK", attempt, got)
		}
		m := op.receive()
		if m.Topic != "$aws/events/certificates/registered/"+b.caID {
			t.Errorf("event on %s", m.Topic)
		}
		var raw map[string]json.RawMessage
		if err := json.Unmarshal(m.Payload, &raw); err != nil {
			t.Fatal(err)
		}
		if len(raw) != 6 || string(raw["certificateId"]) != `"`+gw.id+`"` || string(raw["caCertificateId"]) != `"`+b.caID+`"` ||
			string(raw["certificateStatus"]) != `"PENDING_ACTIVATION"` || string(raw["awsAccountId"]) != `"123456789012"` {
			t.Errorf("event %s", m.Payload)
		}
		if ms, err := strconv.ParseInt(string(raw["timestamp"]), 10, 64); err != nil || time.UnixMilli(ms).Before(before) {
			t.Errorf("timestamp %s", raw["timestamp"])
		}
		first := string(raw["certificateRegistrationTimestamp"])
		if ms, err := strconv.ParseInt(strings.Trim(first, `"`), 10, 64); (attempt == 0) != (first == "null") ||
			attempt > 0 && (err != nil || first[0] != '"' || time.UnixMilli(ms).Before(before.Truncate(time.Millisecond))) {
			t.Errorf("attempt %d: certificateRegistrationTimestamp %s", attempt, first)
		}
	}

	story, ok := b.Story(gw.id)
	if !ok || story.Status != "PENDING_ACTIVATION" || story.RefusedWhilePending != 3 || story.ActivatedAt != nil || story.CACertificateID != b.caID {
		t.Errorf("story %+v", story)
	}
	if err := b.Activate(gw.id); err != nil {
		t.Fatal(err)
	}
	if got := b.try(gw, "gw-1"); got != "connack 0x0" {
		t.Fatalf("after activation: %s", got)
	}
	story, _ = b.Story(gw.id)
	if story.AcceptedAt == nil || story.ActivatedAt == nil || story.AcceptedAt.Before(*story.ActivatedAt) || story.RefusedWhilePending != 3 {
		t.Errorf("story %+v", story)
	}
	if thing, err := b.registry.thing("gw-1"); err != nil || !slices.Equal(thing.Principals, []string{gw.id}) {
		t.Errorf("thing %+v, %v", thing, err)
	}
	want := []Outcome{OutcomeAccepted, OutcomeNoConnect, OutcomeRegistered, OutcomePending, OutcomePending, OutcomeAccepted}
	if got := b.outcomes(len(want)); !slices.Equal(got, want) {
		t.Errorf("attempts %v, want %v", got, want)
	}
}

// withoutSNI verifies the server by its address, for which TLS sends no name.
func withoutSNI(c *tls.Config) { c.ServerName = "127.0.0.1" }

func TestWhoIsRegistered(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(b *bench) identity
		change  []func(*tls.Config)
		want    Outcome
	}{
		{"with its CA", func(b *bench) identity { return b.ca.issue(t, "x") }, nil, OutcomeRegistered},
		{"with its CA, no SNI", func(b *bench) identity { return b.ca.issue(t, "x") }, []func(*tls.Config){withoutSNI}, OutcomeRegistered},
		{"leaf only, SNI", func(b *bench) identity { return b.ca.issue(t, "x").leafOnly() }, nil, OutcomeRegistered},
		{"leaf only, no SNI", func(b *bench) identity { return b.ca.issue(t, "x").leafOnly() }, []func(*tls.Config){withoutSNI}, OutcomeNotRegistered},
		{"unknown CA", func(b *bench) identity { return newTestCA(t, "Other").issue(t, "x") }, nil, OutcomeNotRegistered},
		{"rogue CA of the same name", func(b *bench) identity { return newTestCA(t, "Acme device CA").issue(t, "x") }, nil, OutcomeNotRegistered},
		{"rogue leaf behind the real CA", func(b *bench) identity {
			i := newTestCA(t, "Acme device CA").issue(t, "x")
			i.Certificate.Certificate[1] = b.ca.cert.Raw
			return i
		}, nil, OutcomeNotRegistered},
		{"CA INACTIVE", func(b *bench) identity {
			st := statusInactive
			if err := b.registry.updateCA(b.caID, &st, nil); err != nil {
				t.Fatal(err)
			}
			return b.ca.issue(t, "x")
		}, nil, OutcomeNotRegistered},
		{"auto-registration off", func(b *bench) identity {
			off := false
			if err := b.registry.updateCA(b.caID, nil, &off); err != nil {
				t.Fatal(err)
			}
			return b.ca.issue(t, "x")
		}, nil, OutcomeNotRegistered},
		{"CA expired since its registration", func(b *bench) identity {
			b.registry.records.CAs[b.caID].NotAfter = time.Now().Add(-time.Minute)
			return b.ca.issue(t, "x")
		}, nil, OutcomeNotRegistered},
		{"expired", func(b *bench) identity {
			return b.ca.issue(t, "x", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
		}, nil, OutcomeExpired},
		{"not yet valid", func(b *bench) identity {
			return b.ca.issue(t, "x", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) })
		}, nil, OutcomeExpired},
		{"signed by an unregistered intermediate", func(b *bench) identity {
			return intermediate(t, b.ca).issue(t, "x")
		}, nil, OutcomeNotRegistered},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := start(t, Config{})
			events := make(chan Message, 8)
			b.Observe(func(m Message) { events <- m })
			i := tt.prepare(b)
			if got := b.try(i, "x", tt.change...); got != "fin" {
				t.Errorf("ended with %s, want fin", got)
			}
			b.stop()
			if got := b.outcomes(1); !slices.Equal(got, []Outcome{tt.want}) {
				t.Errorf("outcome %v (%s), want %s", got, b.Attempts()[0].Detail, tt.want)
			}
			_, known := b.Story(i.id)
			if registered := tt.want == OutcomeRegistered; known != registered || len(events) == 1 != registered {
				t.Errorf("registered: %v, events: %d", known, len(events))
			}
		})
	}
}

func intermediate(t *testing.T, root *testCA) *testCA {
	t.Helper()
	i := root.issue(t, "Intermediate", func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
	})
	return &testCA{i.Leaf, i.PrivateKey.(*ecdsa.PrivateKey)}
}

func TestCertificateNotActive(t *testing.T) {
	for _, st := range []status{statusInactive, statusRevoked} {
		t.Run(string(st), func(t *testing.T) {
			b := start(t, Config{NoConnectRate: true})
			gw := b.accepted("gw-1", "")
			d := b.connect(gw, "gw-1")
			if code, _, _ := b.api("PUT", "/certificates/"+gw.id+"?newStatus="+string(st), ""); code != 200 {
				t.Fatalf("UpdateCertificate: %d", code)
			}
			d.wantClosed() // the connection goes down with it
			if got := b.try(gw, "gw-1"); got != "fin" {
				t.Errorf("reconnect ended with %s", got)
			}
			if got := b.outcomes(2); !slices.Equal(got, []Outcome{OutcomeAccepted, OutcomeNotActive}) {
				t.Errorf("outcomes %v", got)
			}
		})
	}
}

func TestPendingClose(t *testing.T) {
	tests := []struct {
		how  PendingClose
		want string
		max  uint16
	}{
		{CloseFIN, "fin", tls.VersionTLS13},
		{CloseFIN, "fin", tls.VersionTLS12},
		{CloseRST, "rst", tls.VersionTLS13},
		{CloseConnack, "connack 0x87", tls.VersionTLS13},
		{CloseAlert, "remote error: tls: unknown certificate", tls.VersionTLS13},
	}
	for _, tt := range tests {
		t.Run(string(tt.how)+tls.VersionName(tt.max), func(t *testing.T) {
			b := start(t, Config{PendingClose: tt.how})
			gw := b.ca.issue(t, "gw-1")
			for i := range 2 {
				if got := b.try(gw, "gw-1", func(c *tls.Config) { c.MaxVersion = tt.max }); got != tt.want {
					t.Errorf("ended with %s, want %s", got, tt.want)
				}
				b.recorded(i + 1)
			}
			if err := b.Activate(gw.id); err != nil {
				t.Fatal(err)
			}
			if got := b.try(gw, "gw-1"); got != "connack 0x0" {
				t.Errorf("after activation: %s", got)
			}
			if got := b.outcomes(3); !slices.Equal(got, []Outcome{OutcomeRegistered, OutcomePending, OutcomeAccepted}) {
				t.Errorf("outcomes %v", got)
			}
			if a := b.Attempts()[0]; a.CertificateID != gw.id || a.ClientCertificates != 2 || a.SNI != "localhost" {
				t.Errorf("attempt %+v", a)
			}
		})
	}
}

func TestActivation(t *testing.T) {
	t.Run("after a while", func(t *testing.T) {
		b := start(t, Config{NoConnectRate: true, Activation: ActivateAfter(50 * time.Millisecond), Policy: []byte(`{"Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"arn:aws:iot:us-east-1:123456789012:client/${iot:Connection.Thing.ThingName}"}]}`)})
		gw := b.ca.issue(t, "gw-1")
		b.untilAccepted(gw, "gw-1")
		story, _ := b.Story(gw.id)
		if waited := story.ActivatedAt.Sub(*story.FirstSeenAt); waited < 50*time.Millisecond {
			t.Errorf("activated after %s", waited)
		}
		if got := b.try(gw, "gw-2"); got != "connack 0x87" {
			t.Errorf("as another client: %s", got)
		}
	})
	t.Run("named by the client id", func(t *testing.T) {
		b := start(t, Config{Activation: ActivateAfter(0)})
		gw := b.ca.issue(t, "no thing name!")
		b.untilAccepted(gw, "gw-7")
		if _, err := b.registry.thing("gw-7"); err != nil {
			t.Error(err)
		}
	})
	t.Run("never", func(t *testing.T) {
		b := start(t, Config{Activation: NeverActivate()})
		gw := b.ca.issue(t, "gw-1")
		b.try(gw, "gw-1")
		if code, header, _ := b.api("PUT", "/certificates/"+gw.id+"?newStatus=ACTIVE", ""); code != 503 || header.Get("X-Amzn-Errortype") != "ServiceUnavailableException" {
			t.Errorf("UpdateCertificate: %d %v", code, header)
		}
		if got := b.try(gw, "gw-1"); got != "fin" {
			t.Errorf("ended with %s", got)
		}
	})
}

func TestRestartRemembers(t *testing.T) {
	dir := t.TempDir()
	b := start(t, Config{Dir: dir})
	ca, root := b.ca, string(b.ServerCAPEM())
	code := b.registry.registrationCode()
	gw, waiting := b.accepted("gw-1", ""), b.ca.issue(t, "gw-2")
	b.try(waiting, "gw-2")
	b.api("POST", "/things/gw-1/shadow", `{"state":{"desired":{"n":9007199254740993}}}`)
	b.stop()

	again := start(t, Config{Dir: dir, Activation: ActivateAfter(0)})
	again.ca = ca
	if string(again.ServerCAPEM()) != root || again.registry.registrationCode() != code {
		t.Error("the server CA or the registration code changed")
	}
	if got := again.try(gw, "gw-1"); got != "connack 0x0" {
		t.Errorf("known device: %s", got)
	}
	again.untilAccepted(waiting, "gw-2") // taken up where it was left
	if story, _ := again.Story(waiting.id); story.RefusedWhilePending < 1 {
		t.Errorf("story %+v", story)
	}
	_, _, doc := again.api("GET", "/things/gw-1/shadow", "")
	if doc["version"] != 1.0 {
		t.Errorf("shadow %v", doc)
	}
	if again.shadows.all[shadowKey{thing: "gw-1"}].Desired["n"] != json.Number("9007199254740993") {
		t.Error("the shadow's number was rounded")
	}
}

func TestDamagedStoreIsNotOverwritten(t *testing.T) {
	for name, content := range map[string]string{"garbage": "{", "newer": `{"version":2}`} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, storeName), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := New(t.Context(), Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), storeName) {
				t.Errorf("error %v", err)
			}
		})
	}
}
