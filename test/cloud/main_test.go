package cloud

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/test/rig"
	"github.com/jitr-agent/jitr-agent/test/rig/lambda"
)

func TestMain(m *testing.M) { rig.Main(m) }

// soon is the patience for what takes a second or two on a machine with
// nothing else to do.
const soon = 45 * time.Second

// file makes the agent's key a file; the TPM has tests of its own.
var file = map[string]string{"identity.key": `"file"`, "telemetry.interval": `"1s"`}

// awsCLI is an aws CLI at work with an emulator.
type awsCLI struct {
	program string
	sim     *rig.Sim
}

// awsCLIs are those that this machine has: of Debian, and the first in PATH.
// They are often of two generations.
func awsCLIs(t *testing.T) []string {
	t.Helper()
	var found []string
	for _, name := range []string{"/usr/bin/aws", "aws"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		if real, err := filepath.EvalSymlinks(path); err == nil {
			path = real
		}
		if !slices.Contains(found, path) {
			found = append(found, path)
		}
	}
	if len(found) == 0 {
		t.Fatal("there is no aws CLI; on Debian: apt-get install awscli")
	}
	return found
}

func (a awsCLI) run(t *testing.T, args ...string) rig.Result {
	t.Helper()
	return rig.RunEnv(t, a.sim.AWS(), a.program, append(args, "--endpoint-url", a.sim.URL(), "--output", "text")...)
}

// must is run for a command that must succeed; it gives its stdout.
func (a awsCLI) must(t *testing.T, args ...string) string {
	t.Helper()
	r := a.run(t, args...)
	if r.Code != 0 {
		t.Fatal(r)
	}
	return strings.TrimSpace(r.Stdout)
}

// status is the status of a device certificate.
func (a awsCLI) status(t *testing.T, id string) string {
	t.Helper()
	return a.must(t, "iot", "describe-certificate", "--certificate-id", id, "--query", "certificateDescription.status")
}

func certARN(id string) string { return "arn:aws:iot:us-east-1:123456789012:cert/" + id }

func want(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// deploy sets up what activates a CA's gateways.
func deploy(t *testing.T, sim *rig.Sim, caID string, flags ...string) {
	t.Helper()
	sim.Cloud(t, append([]string{"deploy", "--ca-id", caID, "--zip", lambda.Zip(t)}, flags...)...)
}

// short is how jitrctl names what it makes for a CA.
func short(caID string) string { return caID[:12] }

// client is a mosquitto_pub or mosquitto_sub that connects as a gateway with
// a certificate: args are its own.
func client(t *testing.T, sim *rig.Sim, program, clientID string, c rig.Credentials, args ...string) rig.Result {
	t.Helper()
	host, port, _ := strings.Cut(sim.MQTT, ":")
	return rig.Run(t, "timeout", append([]string{
		"10", program, "-h", host, "-p", port, "--cafile", sim.ServerCA, "--cert", c.Cert, "--key", c.Key,
		"-V", "mqttv5", "-i", clientID, "-q", "1",
	}, args...)...)
}

// publish is one message; said is what mosquitto_pub prints.
func publish(t *testing.T, sim *rig.Sim, clientID string, c rig.Credentials, topic string) (said string, ok bool) {
	t.Helper()
	r := client(t, sim, "mosquitto_pub", clientID, c, "-t", topic, "-m", clientID, "-d")
	said = r.Stdout + r.Stderr
	return said, r.Code == 0 && puback.MatchString(said)
}

// puback is how mosquitto_pub -d prints a PUBACK that is no refusal.
var puback = regexp.MustCompile(`received PUBACK \(Mid: \d+, RC:0\)`)

// getIn publishes until it succeeds, as a new gateway does.
func getIn(t *testing.T, sim *rig.Sim, name string, c rig.Credentials, topic string) {
	t.Helper()
	rig.Eventually(t, soon, func() error {
		if said, ok := publish(t, sim, name, c, topic); !ok {
			return fmt.Errorf("%s does not get in: %s", name, said)
		}
		return nil
	})
}

// registerCA makes a CA and registers it, and gives its certificateId.
func registerCA(t *testing.T, sim *rig.Sim) (*rig.CA, string) {
	t.Helper()
	ca := rig.NewCA(t)
	sim.Cloud(t, "register-ca", "--dir", ca.Dir)
	return ca, rig.CertificateID(t, ca.Cert)
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

var errThrottled = errors.New("the CONNECTs of that client id come too quickly")

// status says whether the registry has a certificate with that status.
func status(sim *rig.Sim, id, want string) error {
	if got := sim.CertificateStatus(id); got != want {
		return fmt.Errorf("the certificate %s is %q, want %s", id, got, want)
	}
	return nil
}

// seen says whether an observer got a message.
func seen(o *rig.Observer, topic, payload string) error {
	for _, m := range o.Messages(topic) {
		if string(m.Payload) == payload {
			return nil
		}
	}
	return fmt.Errorf("the observer saw no %s on %s", payload, topic)
}
