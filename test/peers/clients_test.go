package peers

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/test/rig"
)

// pace is more than the second that AWS IoT wants between two CONNECTs of one
// client id.
const pace = 1100 * time.Millisecond

// TestHowToClient is the how-to's check, with its own command: lost
// connections, and after the activation a message.
func TestHowToClient(t *testing.T) {
	t.Parallel()
	need(t, "mosquitto_pub", "mosquitto-clients")
	files := makeHowto(t, "/CN=JustInTime")
	start := func(t *testing.T, activateAfter string) (*rig.Sim, *rig.Observer, func() rig.Result) {
		sim := rig.StartSim(t, "--register-ca", files.CA, "--activate-after", activateAfter)
		observer := sim.Observe(t, "test/topic")
		host, port, err := net.SplitHostPort(sim.MQTT)
		if err != nil {
			t.Fatal(err)
		}
		return sim, observer, func() rig.Result {
			return rig.Run(t, "mosquitto_pub", "--cafile", sim.ServerCA, "--cert", files.Cert, "--key", files.Key,
				"-h", host, "-p", port, "-q", "1", "-t", "test/topic", "-i", "JustInTime", "--tls-version", "tlsv1.2", "-m", "test", "-d")
		}
	}
	wantLost := func(t *testing.T, r rig.Result) {
		t.Helper()
		if err := contains(r.Stdout+r.Stderr, "sending CONNECT", "The connection was lost."); err != nil || r.Code == 0 {
			t.Errorf("while pending: %v: %v", err, r)
		}
	}

	t.Run("activated", func(t *testing.T) {
		t.Parallel()
		sim, observer, publish := start(t, "3s")
		id := rig.CertificateID(t, files.Leaf)
		tick := time.NewTicker(pace)
		defer tick.Stop()
		lost := 0
		for began := time.Now(); ; <-tick.C {
			r := publish()
			if r.Code == 0 {
				if err := contains(r.Stdout, "received CONNACK (0)", "received PUBACK"); err != nil {
					t.Error(err)
				}
				break
			}
			wantLost(t, r)
			if status := sim.CertificateStatus(id); lost == 0 && status != "PENDING_ACTIVATION" {
				t.Errorf("after the first try the registry says %q", status)
			}
			if lost++; time.Since(began) > soon {
				t.Fatalf("it does not get in: %v", r)
			}
		}
		if lost < 2 {
			t.Errorf("%d connections were lost in 3 s of pending", lost)
		}
		if status := sim.CertificateStatus(id); status != "ACTIVE" {
			t.Errorf("the registry says %q, want ACTIVE", status)
		}
		rig.Eventually(t, soon, func() error { return count(len(observer.Messages("test/topic")), 1) })
		if m := observer.Messages("test/topic")[0]; string(m.Payload) != "test" {
			t.Errorf("the observer saw %q", m.Payload)
		}
	})
	t.Run("never activated", func(t *testing.T) { // the negative control
		t.Parallel()
		_, observer, publish := start(t, "never")
		tick := time.NewTicker(pace)
		defer tick.Stop()
		for range 4 {
			wantLost(t, publish())
			<-tick.C
		}
		if err := count(len(observer.Messages("")), 0); err != nil {
			t.Error(err)
		}
	})
}

// client is an MQTT 5 client of somebody else: the command line before HOST
// PORT CAFILE CERT KEY CLIENT_ID.
type client struct {
	name    string
	command func(t *testing.T) []string
	// connack is its line for the CONNACK, and echo that for its own message:
	// payload, content type and user property came back as they were sent.
	connack, echo string
}

var clients = []client{
	{"mosquitto", mosquittoClient, "connack (0)", "message hello text/plain from:mosquitto"},
	{"paho", paho, "connack Success receive maximum 100", "message hello text/plain {'from': 'paho'}"},
	{"mqttjs", mqttJS, "connack 0 receive maximum 100", `message hello text/plain {"from":"mqttjs"}`},
}

func mosquittoClient(t *testing.T) []string {
	t.Helper()
	need(t, "mosquitto_sub", "mosquitto-clients")
	return []string{"bash", "testdata/mosquitto_client.sh"}
}

func paho(t *testing.T) []string {
	t.Helper()
	// Debian's own Python, because that is the one with Debian's paho.
	if r := rig.Run(t, "/usr/bin/python3", "-c", "import paho.mqtt.client"); r.Code != 0 {
		t.Fatalf("there is no paho for python: %v; install it with: tools/need python3-paho-mqtt", r)
	}
	return []string{"/usr/bin/python3", "testdata/paho_client.py"}
}

// mqttJS installs what mqttjs/package-lock.json names into a temporary
// directory.
func mqttJS(t *testing.T) []string {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil && os.Geteuid() != 0 {
		t.Skip("skipped: there is no node, and only root can install it: tools/need nodejs npm")
	}
	need(t, "node", "nodejs npm")
	need(t, "npm", "nodejs npm")
	dir := rig.TempDir(t)
	if err := os.CopyFS(dir, os.DirFS("mqttjs")); err != nil {
		t.Fatal(err)
	}
	if r := rig.Run(t, "npm", "ci", "--prefix", dir, "--ignore-scripts", "--no-audit", "--no-fund"); r.Code != 0 {
		t.Fatalf("install mqtt.js: %v", r)
	}
	return []string{"node", filepath.Join(dir, "client.js")}
}

// TestClients: clients of three makers speak MQTT 5 with the emulator. Each
// sees the CONNACK (with AWS's Receive Maximum, where it tells), gets its own message back with its
// properties, and updates a shadow, which the REST side then has.
func TestClients(t *testing.T) {
	t.Parallel()
	for _, c := range clients {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			command := c.command(t)
			sim := rig.StartSim(t)
			host, port, err := net.SplitHostPort(sim.MQTT)
			if err != nil {
				t.Fatal(err)
			}
			run := func(credentials rig.Credentials) rig.Result {
				return rig.Run(t, command[0], append(command[1:len(command):len(command)],
					host, port, sim.ServerCA, credentials.Cert, credentials.Key, c.name)...)
			}

			tick := time.NewTicker(pace)
			defer tick.Stop()
			// The negative control: the same client, before it is activated.
			credentials := sim.CA.Issue(t, c.name)
			if r := run(credentials); r.Code == 0 || strings.Contains(r.Stdout, "message hello") || sim.Shadow(c.name) != nil {
				t.Errorf("while pending: %v", r)
			}
			sim.Activate(rig.CertificateID(t, credentials.Cert), rig.AllowAll)

			<-tick.C
			r := run(credentials)
			if r.Code != 0 {
				t.Fatal(r)
			}
			if err := contains(r.Stdout, c.connack+"\n", "suback 1 1\n", c.echo+"\n", "shadow version 1\n"); err != nil {
				t.Error(err)
			}
			if got := fmt.Sprint(sim.Shadow(c.name)["reported"]); got != "map[client:"+c.name+"]" {
				t.Errorf("the shadow's reported is %s", got)
			}
		})
	}
}
