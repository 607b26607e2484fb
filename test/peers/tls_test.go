package peers

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jitr-agent/jitr-agent/test/rig"
)

// openssl is an openssl s_server or s_client, with a keyboard: at the end of
// its input it would hang up.
type openssl struct {
	*rig.Process
	t    *testing.T
	keys string // the named pipe that is its input
}

func (o *openssl) run(args ...string) {
	o.t.Helper()
	need(o.t, "openssl", "openssl")
	o.keys = filepath.Join(rig.TempDir(o.t), "keys")
	if err := syscall.Mkfifo(o.keys, 0o600); err != nil {
		o.t.Fatal(err)
	}
	o.Process = rig.StartProcess(o.t, nil, "sh", append([]string{
		"-c", `keys=$1; shift; exec stdbuf -oL openssl "$@" 0<>"$keys"`, "sh", o.keys,
	}, args...)...)
}

// press is a key and Enter: q hangs up, what is no command goes to the peer.
func (o *openssl) press(keys string) {
	o.t.Helper()
	write(o.t, o.keys, keys+"\n")
}

func (o *openssl) output() string { return o.Stdout.String() + o.Stderr.String() }

// await waits until it has printed all of these.
func (o *openssl) await(want ...string) {
	o.t.Helper()
	rig.Eventually(o.t, soon, func() error { return contains(o.output(), want...) })
}

// sClient starts an s_client at a port.
func sClient(t *testing.T, port string, options ...string) *openssl {
	t.Helper()
	c := &openssl{t: t}
	c.run(append([]string{"s_client", "-connect", net.JoinHostPort("127.0.0.1", port)}, options...)...)
	return c
}

// sServer is an openssl s_server: TLS that is not Go's, and no MQTT behind it.
// What it prints is the judge.
type sServer struct {
	*openssl
	Port   string
	Server rig.Credentials
}

// startSServer starts one that asks for a client certificate and goes on
// whatever it thinks of it. The options are more of its own.
func startSServer(t *testing.T, server rig.Credentials, options ...string) *sServer {
	t.Helper()
	s := &sServer{openssl: &openssl{t: t}, Port: rig.FreePort(t), Server: server}
	s.run(append([]string{
		"s_server", "-accept", "127.0.0.1:" + s.Port, "-cert", server.Cert, "-key", server.Key, "-verify", "5", "-tlsextdebug",
	}, options...)...)
	rig.Eventually(t, soon, func() error { return contains(s.Stdout.String(), "ACCEPT\n") })
	return s
}

// The subjects of both certificates: depth 1 is known to a server of another
// CA only when the client sends it.
var sawTheChain = []string{"depth=1 CN = Rig CA", "subject=CN = gw-1"}

// TestClientCAListNamesOthers: a server that asks for a certificate of another
// CA gets ours all the same. Go's default is to send none then.
func TestClientCAListNamesOthers(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"1.2", "1.3"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			other := filepath.Join(rig.TempDir(t), "other.crt")
			rig.MustRun(t, "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "/dev/null", "-out", other, "-subj", "/CN=Another CA")
			s := startSServer(t, serverCert(t), "-CAfile", other, "-tls"+strings.ReplaceAll(version, ".", "_"))

			// The negative control: it does name the other CA, and it tells a
			// client without a certificate from one that has one.
			client := sClient(t, s.Port)
			client.await("Acceptable client certificate CA names\nCN = Another CA\n")
			client.press("Q")
			s.await("DONE")
			if contains(s.output(), "depth=") == nil {
				t.Errorf("it saw a certificate of a client that has none:\n%s", s.output())
			}

			agent := rig.NewAgent(t, endpoint(s.Port, s.Server), file, map[string]string{"cloud.tls_max": `"` + version + `"`})
			agent.Enrol(rig.NewCA(t), "gw-1")
			agent.Start()
			s.await(sawTheChain...)
			s.press("q")
			awaitCause(t, agent, "pending-activation", "pending")
		})
	}
}

// TestTLS13Only: an endpoint with a security policy of TLS 1.3 alone. The
// sentence must lead to the setting, and the setting must help.
func TestTLS13Only(t *testing.T) {
	t.Parallel()
	s := startSServer(t, serverCert(t), "-tls1_3")
	agent := rig.NewAgent(t, endpoint(s.Port, s.Server), file)
	agent.Enrol(rig.NewCA(t), "gw-1")
	agent.Start()
	status := awaitCause(t, agent, "connecting", "tls")
	if err := contains(fmt.Sprint(status["message"], status["remedy"]), "protocol version", "cloud.tls_max"); err != nil {
		t.Error(err)
	}
	s.await("unsupported protocol")
	if contains(s.output(), "depth=") == nil {
		t.Errorf("it saw a certificate:\n%s", s.output())
	}
	agent.Stop()

	agent.Configure(endpoint(s.Port, s.Server), file, map[string]string{"cloud.tls_max": `"1.3"`})
	agent.Start()
	s.await(append(sawTheChain, "CIPHER is TLS_AES")...)
	s.press("q")
	awaitCause(t, agent, "pending-activation", "pending")
}

// TestSmallRecords: a server that cuts its handshake into records of 512
// bytes, with a certificate that needs several of them.
func TestSmallRecords(t *testing.T) {
	t.Parallel()
	for version, full := range map[string]string{"1.2": "16 03 03 02 00", "1.3": "17 03 03 02 11"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s := startSServer(t, serverCert(t, "-newkey", "rsa:4096"), "-tls"+strings.ReplaceAll(version, ".", "_"), "-max_send_frag", "512", "-msg")
			agent := rig.NewAgent(t, endpoint(s.Port, s.Server), file, map[string]string{"cloud.tls_max": `"` + version + `"`})
			agent.Enrol(rig.NewCA(t), "gw-1")
			agent.Start()
			s.await(sawTheChain...)
			s.await(full) // the header of a record of 512 bytes, in TLS 1.3 with 17 of its own
			// What is no MQTT, in as many records as it likes.
			s.press(strings.Repeat("this is no MQTT ", 100))
			awaitCause(t, agent, "connecting", "protocol")
		})
	}
}

// TestNoSessionTicket: a server hands out tickets, as OpenSSL does by default.
// Each reconnect is a full handshake all the same: in a resumed one no
// certificate is shown, and none registered.
func TestNoSessionTicket(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"1.2", "1.3"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			option := "-tls" + strings.ReplaceAll(version, ".", "_")
			s := startSServer(t, serverCert(t), option)
			agent := rig.NewAgent(t, endpoint(s.Port, s.Server), file, map[string]string{"cloud.tls_max": `"` + version + `"`})
			agent.Enrol(rig.NewCA(t), "gw-1")
			agent.Start()
			for n := 1; n <= 3; n++ {
				rig.Eventually(t, soon, func() error {
					if full := strings.Count(s.output(), "subject=CN = gw-1"); full < n {
						return fmt.Errorf("%d full handshakes, want %d", full, n)
					}
					return nil
				})
				s.press("q")
			}
			awaitCause(t, agent, "pending-activation", "pending")
			for _, offer := range []string{"Reused, TLS", "Reused session-id", "\"session ticket\"", "\"psk\""} {
				if contains(s.output(), offer) == nil {
					t.Errorf("the agent offers to resume (%s):\n%s", offer, s.output())
				}
			}
			agent.Stop()

			// The negative control: a client that resumes is seen to do so.
			before := len(s.output())
			session := filepath.Join(rig.TempDir(t), "session")
			for _, way := range []string{"-sess_out", "-sess_in"} {
				client := sClient(t, s.Port, option, way, session)
				client.await("Verify return code: ")
				rig.Eventually(t, soon, func() error {
					info, err := os.Stat(session)
					if err == nil && info.Size() == 0 {
						err = errors.New("no ticket came")
					}
					return err
				})
				client.press("Q")
				client.Wait(soon)
			}
			rig.Eventually(t, soon, func() error { return contains(s.output()[before:], "Reused session-id") })
		})
	}
}
