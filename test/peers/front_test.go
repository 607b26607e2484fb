package peers

import (
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/test/peers/front"
	"github.com/jitr-agent/jitr-agent/test/rig"
)

// stage is a front with mosquitto behind it, and an observer there.
type stage struct {
	*front.Front
	Server   rig.Credentials
	Broker   *mosquitto
	Observer *observer
}

func startFront(t *testing.T, closing front.Close, activateAfter time.Duration) *stage {
	t.Helper()
	s := &stage{Server: serverCert(t), Broker: startMosquitto(t, "")}
	s.Observer = s.Broker.observe(t)
	certificate, err := tls.LoadX509KeyPair(s.Server.Cert, s.Server.Key)
	if err != nil {
		t.Fatal(err)
	}
	s.Front, err = front.Start(t.Context(), front.Config{
		Certificate: certificate, Broker: net.JoinHostPort("127.0.0.1", s.Broker.Plain),
		Close: closing, ActivateAfter: activateAfter,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Close()
		if t.Failed() {
			for _, a := range s.Attempts() {
				t.Logf("the front: %s %+v %d certificates %+v let in %v: %v", a.At.Format("05.000"), a.Hello, len(a.Certificates), a.Connect, a.LetIn, a.Err)
			}
		}
	})
	return s
}

// activation is late enough for the schedule's share to exceed its least wait:
// the last waits are longer than a second.
const activation = 8 * time.Second

// TestPendingInFrontOfMosquitto is the first connect against a real broker, as
// a front recorded it that knows nothing of our code.
func TestPendingInFrontOfMosquitto(t *testing.T) {
	t.Parallel()
	for _, closing := range []front.Close{front.FIN, front.RST, front.Alert, front.CONNACK} {
		t.Run(string(closing), func(t *testing.T) {
			t.Parallel()
			s := startFront(t, closing, activation)
			ca := rig.NewCA(t)
			agent := rig.NewAgent(t, endpoint(s.Port(), s.Server), file)
			id := agent.Enrol(ca, "gw-1")
			agent.Start()
			awaitCause(t, agent, "pending-activation", "pending")
			init := s.Observer.awaitInit(t, activation+soon, "gw-1")
			if err := contains(init.Payload, id); err != nil {
				t.Error(err)
			}
			agent.Await(soon, "online")
			attempts := s.Attempts()
			wantPresented(t, attempts, agent.File("device.crt"), "gw-1")
			wantSchedule(t, attempts, s.Activated(), init.At)
		})
	}
}

// wantPresented judges what went over the wire at each connection.
func wantPresented(t *testing.T, attempts []front.Attempt, chainPEM, clientID string) {
	t.Helper()
	chain := certificates(chainPEM)
	if len(chain) != 2 {
		t.Fatalf("device.crt holds %d certificates", len(chain))
	}
	for i, a := range attempts {
		if a.Hello.ServerName != "localhost" {
			t.Errorf("connection %d: SNI %q", i+1, a.Hello.ServerName)
		}
		if !slices.Equal(a.Hello.Versions, []uint16{0x0303}) {
			t.Errorf("connection %d: versions %#x, want TLS 1.2 alone", i+1, a.Hello.Versions)
		}
		// TLS_ECDHE_ECDSA and _RSA_WITH_AES_128_GCM_SHA256: in every security
		// policy of AWS IoT.
		if !slices.Contains(a.Hello.Suites, 0xc02b) || !slices.Contains(a.Hello.Suites, 0xc02f) {
			t.Errorf("connection %d: cipher suites %#x", i+1, a.Hello.Suites)
		}
		if len(a.Hello.ALPN) != 0 || a.Hello.Resumes {
			t.Errorf("connection %d: ALPN %q, resumes %v", i+1, a.Hello.ALPN, a.Hello.Resumes)
		}
		if !slices.EqualFunc(a.Certificates, chain, slices.Equal) {
			t.Errorf("connection %d: %d certificates which are not those of device.crt", i+1, len(a.Certificates))
		}
		if a.Connect == nil {
			if a.LetIn || i == len(attempts)-1 {
				t.Errorf("connection %d: no CONNECT", i+1)
			}
			continue // closed in the handshake
		}
		want := front.Connect{Protocol: "MQTT", Level: 5, CleanStart: true, KeepAlive: 60, ClientID: clientID}
		if *a.Connect != want {
			t.Errorf("connection %d: %+v, want %+v", i+1, *a.Connect, want)
		}
	}
}

// lag is what processes on a busy machine may need beyond a schedule: for a
// handshake and its end, and at the end for the way of the init to the
// observer.
const lag = 1500 * time.Millisecond

// wantSchedule judges the times: a wait is at least a second and at most the
// greater of that and a fifth of the time so far. So are the time between
// activation and init, and the number of connections.
func wantSchedule(t *testing.T, attempts []front.Attempt, activated, init time.Time) {
	t.Helper()
	share := func(since time.Duration) time.Duration { return max(time.Second, since/5) }
	first := attempts[0].At
	for i, gap := range front.Gaps(attempts) {
		if gap < time.Second {
			t.Errorf("connection %d came %s after the one before it: more than one in a second", i+2, gap)
		}
		if most := share(attempts[i].At.Sub(first)+lag) + lag; gap > most {
			t.Errorf("connection %d came %s after the one before it, want %s at the most", i+2, gap, most)
		}
	}
	total := activated.Sub(first)
	if after, most := init.Sub(activated), share(total)+lag; after < 0 || after > most {
		t.Errorf("the init came %s after the activation, want 0 to %s", after, most)
	}
	var fewest int
	for at := time.Duration(0); at < total; at += share(at+lag) + lag {
		fewest++
	}
	refused := len(slices.DeleteFunc(slices.Clone(attempts), func(a front.Attempt) bool { return a.LetIn }))
	if most := int(total/time.Second) + 1; refused < fewest || refused > most {
		t.Errorf("%d connections within %s, want %d to %d", refused, total, fewest, most)
	}
	if let := len(attempts) - refused; let != 1 {
		t.Errorf("%d connections were let in, want 1", let)
	}
}

// certificates are the DER of the certificates in a PEM text.
func certificates(text string) [][]byte {
	var all [][]byte
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return all
		}
		all = append(all, block.Bytes)
	}
}

// TestFrontNeverActivates is the negative control: no activation, no init.
func TestFrontNeverActivates(t *testing.T) {
	t.Parallel()
	s := startFront(t, front.FIN, front.Never)
	agent := rig.NewAgent(t, endpoint(s.Port(), s.Server), file)
	agent.Enrol(rig.NewCA(t), "gw-1")
	agent.Start()
	rig.Eventually(t, soon, func() error {
		if n := len(s.Attempts()); n < 4 {
			return fmt.Errorf("%d connections", n)
		}
		return nil
	})
	s.Observer.silent(t, s.Broker, 3*time.Second)
	awaitCause(t, agent, "pending-activation", "pending")
}

// TestFrontThatIsNotTrusted: with another server_ca no CONNECT is sent, and no
// certificate shown.
func TestFrontThatIsNotTrusted(t *testing.T) {
	t.Parallel()
	s := startFront(t, front.FIN, 0)
	agent := rig.NewAgent(t, endpoint(s.Port(), serverCert(t)), file)
	agent.Enrol(rig.NewCA(t), "gw-1")
	agent.Start()
	awaitCause(t, agent, "connecting", "server-untrusted")
	for _, a := range s.Attempts() {
		if a.Connect != nil || len(a.Certificates) != 0 {
			t.Errorf("to a server that it does not trust the agent sent %d certificates and %+v", len(a.Certificates), a.Connect)
		}
	}
	s.Observer.silent(t, s.Broker, 2*time.Second)
}

// TestFrontCounts shows that the front's record can say no: a client without a
// certificate, with its leaf alone, with another SNI, TLS 1.3, MQTT 3.1.1.
func TestFrontCounts(t *testing.T) {
	t.Parallel()
	need(t, "mosquitto_pub", "mosquitto-clients")
	s := startFront(t, front.FIN, 0)
	client := rig.NewCA(t).Issue(t, "client")
	leaf := write(t, client.Cert+".leaf", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificates(read(t, client.Cert))[0]})))
	publish := func(args ...string) rig.Result {
		return rig.Run(t, "mosquitto_pub", append([]string{"-p", s.Port(), "--cafile", s.Server.Cert, "-i", "other", "-k", "30", "-q", "1", "-t", "x", "-m", "x"}, args...)...)
	}
	if r := publish("-h", "localhost"); r.Code == 0 {
		t.Errorf("a client without a certificate got in: %v", r)
	}
	if r := publish("-h", "127.0.0.1", "--cert", leaf, "--key", client.Key, "-V", "mqttv311"); r.Code != 0 {
		t.Error(r)
	}
	all := s.Attempts()
	if len(all) != 2 {
		t.Fatalf("%d connections", len(all))
	}
	if a := all[0]; len(a.Certificates) != 0 || a.Connect != nil || a.LetIn || a.Err == nil || !strings.Contains(a.Err.Error(), "certificate") {
		t.Errorf("without a certificate: %+v", a)
	}
	a := all[1]
	if len(a.Certificates) != 1 || !slices.Contains(a.Hello.Versions, 0x0304) || a.Hello.ServerName != "127.0.0.1" {
		t.Errorf("%d certificates, %+v", len(a.Certificates), a.Hello)
	}
	if want := (front.Connect{Protocol: "MQTT", Level: 4, CleanStart: true, KeepAlive: 30, ClientID: "other"}); a.Connect == nil || *a.Connect != want {
		t.Errorf("%+v, want %+v", a.Connect, want)
	}
}

// TestFrontSharesNoCode: what judges us must not be made of us.
func TestFrontSharesNoCode(t *testing.T) {
	var pkg struct {
		ImportPath string
		Imports    []string
	}
	out := rig.MustRun(t, "go", "list", "-json=ImportPath,Imports", "./front")
	if err := json.Unmarshal([]byte(out), &pkg); err != nil || len(pkg.Imports) == 0 {
		t.Fatal(errors.Join(err, errors.New(out)))
	}
	for _, path := range pkg.Imports {
		if strings.Contains(path, ".") {
			t.Errorf("the front imports %s", path)
		}
	}
}
