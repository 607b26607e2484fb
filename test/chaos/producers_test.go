package chaos

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/jitr-agent/jitr-agent/test/rig"
)

// need fails a test whose peer is not installed.
func need(t *testing.T, program, debian string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Fatalf("%v; install it with: tools/need %s", err, debian)
	}
}

// needProducers makes sure that the producers' programs are there, and returns
// a directory with the producers and an installed MQTT.js.
func needProducers(t *testing.T) (dir string) {
	t.Helper()
	need(t, "mosquitto_pub", "mosquitto-clients")
	need(t, "mosquitto", "mosquitto")
	need(t, "node", "nodejs npm")
	need(t, "npm", "nodejs npm")
	if r := rig.Run(t, python, "-c", "import paho.mqtt.client"); r.Code != 0 {
		t.Fatalf("there is no paho for python: %v; install it with: tools/need python3-paho-mqtt", r)
	}
	dir = rig.TempDir(t)
	// The version that test/peers judges with.
	for _, from := range []string{filepath.Join("..", "peers", "mqttjs"), "producers"} {
		if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
	}
	if r := rig.Run(t, "npm", "ci", "--prefix", dir, "--ignore-scripts", "--no-audit", "--no-fund"); r.Code != 0 {
		t.Fatalf("install mqtt.js: %v", r)
	}
	return dir
}

// python is Debian's own, because that is the one with Debian's paho.
const python = "/usr/bin/python3"

// producers are three programs that hand their messages to a gateway and log
// each acknowledgement. They are never killed.
type producers struct {
	running []*rig.Process
	logs    []string
}

// startProducers starts those of a scene in their directory; the logs are
// written to logDir.
func startProducers(t *testing.T, dir string, s scene, g gateway, logDir string) *producers {
	t.Helper()
	p := &producers{}
	for name, command := range map[string][]string{
		"mosquitto": {python, filepath.Join(dir, "mosquitto_pub.py"), g.Socket()},
		"paho":      {python, filepath.Join(dir, "paho_client.py"), g.Address()},
		"mqttjs":    {"node", filepath.Join(dir, "mqttjs.js"), g.Address()},
	} {
		log := filepath.Join(logDir, name+".log")
		p.logs = append(p.logs, log)
		p.running = append(p.running, rig.StartProcess(t, nil, command[0],
			append(command[1:], name, strconv.Itoa(s.messages/3), strconv.Itoa(s.rate), strconv.Itoa(s.padding), log)...))
	}
	return p
}

// Done is closed when all of them have ended.
func (p *producers) Done() <-chan struct{} {
	done := make(chan struct{})
	go func() { // ends with the processes, which end with the test
		defer close(done)
		for _, process := range p.running {
			<-process.Exited()
		}
	}()
	return done
}
