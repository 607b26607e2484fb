package chaos

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/test/chaos/broker"
	"github.com/jitr-agent/jitr-agent/test/rig"
)

// cloud is where the gateway's messages go: a server that is calm at first.
type cloud struct {
	Port     string
	ServerCA string // PEM file of the root that signed the server's certificate
	Storm    func() // lets the faults begin
	Leave    func() // lets nobody in any more; nil where that cannot be had
	Calm     func() // ends the faults, or comes back
	Seen     *capture
	// Finish completes the capture, when all that was sent has arrived.
	Finish func(t *testing.T)
}

// startCloud starts a kind of cloud for gateways whose certificate ca signed.
type startCloud func(t *testing.T, ca *rig.CA, seed uint64, c *capture) *cloud

// serverCert makes a certificate for this machine, which is its own root.
func serverCert(t *testing.T, dir string) rig.Credentials {
	t.Helper()
	c := rig.Credentials{Cert: filepath.Join(dir, "server.crt"), Key: filepath.Join(dir, "server.key")}
	rig.MustRun(t, "openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
		"-keyout", c.Key, "-out", c.Cert, "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
	return c
}

// scripted is the broker that misbehaves.
func scripted(t *testing.T, ca *rig.CA, seed uint64, c *capture) *cloud {
	t.Helper()
	return startScripted(t, ca, seed, c, false)
}

// scriptedCutting also closes behind each PUBACK 0x87, as mosquitto 2.0.11 does
// with max_queued_messages 0.
func scriptedCutting(t *testing.T, ca *rig.CA, seed uint64, c *capture) *cloud {
	t.Helper()
	return startScripted(t, ca, seed, c, true)
}

func startScripted(t *testing.T, ca *rig.CA, seed uint64, c *capture, cutDenied bool) *cloud {
	t.Helper()
	server := serverCert(t, rig.TempDir(t))
	certificate, err := tls.LoadX509KeyPair(server.Cert, server.Key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.ReadFile(ca.Cert)
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM(root)
	b, err := broker.Start(t.Context(), broker.Config{
		TLS: &tls.Config{
			Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12,
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients,
		},
		Seed: seed, SpillAfter: spillAfter, Denied: denied, Recorder: c, CutDenied: cutDenied,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return &cloud{
		Port: b.Port(), ServerCA: server.Cert, Storm: b.Storm, Leave: b.Leave, Calm: b.Calm, Seen: c,
		Finish: func(t *testing.T) {
			b.Close()
			c.flush(t)
		},
	}
}

// mosquitto is a real broker behind a proxy that cuts; a mosquitto_sub, which
// nobody cuts, captures what the cloud got.
func mosquitto(t *testing.T, ca *rig.CA, seed uint64, c *capture) *cloud {
	t.Helper()
	dir := rig.TempDir(t)
	server, port, plain := serverCert(t, dir), rig.FreePort(t), rig.FreePort(t)
	acl := write(t, filepath.Join(dir, "acl"), "topic deny "+prefix+"+/denied\ntopic readwrite #\n")
	conf := write(t, filepath.Join(dir, "mosquitto.conf"), strings.Join([]string{
		"per_listener_settings true",
		"user root",                   // as root it would go over to a user who cannot read the keys
		"max_queued_messages 1000000", // for the subscriber: all there are; 0 would cut a client with each PUBACK 0x87
		"listener " + plain + " 127.0.0.1",
		"allow_anonymous true",
		"listener " + port + " 127.0.0.1",
		"allow_anonymous true",
		"acl_file " + acl,
		"require_certificate true",
		"cafile " + ca.Cert,
		"certfile " + server.Cert,
		"keyfile " + server.Key,
	}, "\n")+"\n")
	process := rig.StartProcess(t, nil, "mosquitto", "-c", conf)
	rig.AwaitPort(t, process, plain, soon)
	subscriber := rig.StartProcess(t, nil, "stdbuf", "-oL", "mosquitto_sub", "-h", "127.0.0.1", "-p", plain, "-i", "capture",
		"-V", "mqttv5", "-q", "1", "-d", "-F", "message\t%U\t%t\t%P\t%p", "-t", prefix+"#")
	rig.Eventually(t, soon, func() error {
		if !strings.Contains(subscriber.Stdout.String(), "Subscribed (mid:") {
			return errors.New("mosquitto_sub is not subscribed")
		}
		return nil
	})
	p := startProxy(t, port, seed, spillAfter, c)
	return &cloud{
		Port: p.port, ServerCA: server.Cert, Storm: p.Storm, Calm: p.Calm, Seen: c,
		Finish: func(t *testing.T) {
			const last = prefix + "last"
			rig.MustRun(t, "mosquitto_pub", "-h", "127.0.0.1", "-p", plain, "-q", "1", "-t", last, "-m", "last")
			rig.Eventually(t, soon, func() error {
				if !strings.Contains(subscriber.Stdout.String(), "\t"+last+"\t") {
					return errors.New("mosquitto_sub is behind")
				}
				return nil
			})
			for _, line := range subscriber.Stdout.Lines() {
				if err := c.seen(line); err != nil {
					t.Fatalf("what mosquitto_sub printed: %v in %q", err, line)
				}
			}
			c.flush(t)
		},
	}
}

// seen writes down a message in a line of mosquitto_sub.
func (c *capture) seen(line string) error {
	fields := strings.Split(line, "\t")
	if fields[0] != "message" {
		return nil
	}
	if len(fields) != 5 {
		return fmt.Errorf("%d fields", len(fields))
	}
	seconds, nanoseconds, _ := strings.Cut(fields[1], ".")
	s, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return err
	}
	ns, err := strconv.ParseInt(nanoseconds, 10, 64)
	if err != nil || len(nanoseconds) != 9 {
		return fmt.Errorf("the time: %w", err)
	}
	m := broker.Message{Topic: fields[2], Payload: []byte(fields[4])}
	for property := range strings.FieldsSeq(fields[3]) {
		name, value, _ := strings.Cut(property, ":")
		m.Properties = append(m.Properties, [2]string{name, value})
	}
	at := time.Unix(s, ns)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.arrivedAt(at, m)
	c.answeredAt(at, broker.Taken, m)
	return nil
}

// write writes a file of a test and returns its path.
func write(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
