// Package peers lets others judge: what the agent, the emulator and jitrctl
// agree on among themselves is held against programs that are not ours. These
// are the how-to's openssl lines, mosquitto and its clients, paho-python,
// mqtt.js, openssl s_server, and the package front, which shares no code with
// us. The tests of ARM run the agent's binaries under qemu-user.
//
// Each scenario has its negative control: the same judge must say no where
// the agent cannot have got in.
package peers

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/test/rig"
)

func TestMain(m *testing.M) { rig.Main(m) }

// soon is enough for what needs no waiting in the agent, on a busy machine.
const soon = 20 * time.Second

// file are the settings of a gateway whose key is a file.
var file = map[string]string{"identity.key": `"file"`, "telemetry.interval": `"1s"`}

// endpoint are the settings that lead to a server of this machine. It is named
// localhost and not 127.0.0.1, because no SNI is sent for an address.
func endpoint(port string, c rig.Credentials) map[string]string {
	return map[string]string{
		"cloud.endpoint":  strconv.Quote(net.JoinHostPort("localhost", port)),
		"cloud.server_ca": strconv.Quote(c.Cert),
	}
}

// need fails a test whose peer is not installed: a peer that is skipped judges
// nothing.
func need(t *testing.T, program, debian string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Fatalf("%v; install it with: tools/need %s", err, debian)
	}
}

// serverCert makes a certificate for localhost, which is its own root, with
// openssl. The options choose the key.
func serverCert(t *testing.T, options ...string) rig.Credentials {
	t.Helper()
	dir := rig.TempDir(t)
	c := rig.Credentials{Cert: filepath.Join(dir, "server.crt"), Key: filepath.Join(dir, "server.key")}
	if options == nil {
		options = []string{"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"}
	}
	rig.MustRun(t, "openssl", append([]string{
		"req", "-x509", "-nodes", "-keyout", c.Key, "-out", c.Cert, "-days", "2",
		"-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
	}, options...)...)
	return c
}

// write writes a file of a test and returns its path.
func write(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// awaitCause waits until the running service is in a state for a reason, which
// is nil where the state has none.
func awaitCause(t *testing.T, agent *rig.Agent, state, cause any) rig.Status {
	t.Helper()
	var s rig.Status
	rig.Eventually(t, soon, func() error {
		s = agent.Status()
		if s.At(t, "state") != state || s.At(t, "cause") != cause {
			return fmt.Errorf("the agent is %v (%v), want %v (%v): %v", s["state"], s["cause"], state, cause, s["message"])
		}
		return nil
	})
	return s
}

// contains is a condition: all of these are in the text.
func contains(text string, want ...string) error {
	for _, w := range want {
		if !strings.Contains(text, w) {
			return fmt.Errorf("there is no %q in:\n%s", w, text)
		}
	}
	return nil
}
