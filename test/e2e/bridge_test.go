package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jitr-agent/jitr-agent/test/rig"
)

// TestMosquittoBridge: a mosquitto that is on the gateway already hands on what
// it gets, as a bridge, to the agent.
func TestMosquittoBridge(t *testing.T) {
	t.Parallel()
	listen, port := rig.FreePort(t), rig.FreePort(t)
	sim := rig.StartSim(t)
	observer := sim.Observe(t, "dt/gw-1/#")
	agent := rig.NewAgent(t, sim.Settings(), file, map[string]string{
		"telemetry.interval": `"1h"`, "local.listen": fmt.Sprintf("%q", "127.0.0.1:"+listen),
	})
	id := agent.Enrol(sim.CA, "gw-1")
	agent.Start()
	awaitStatus(t, sim, id, "PENDING_ACTIVATION")
	sim.Activate(id, rig.AllowAll)
	agent.Await(soon, "online")

	conf := filepath.Join(rig.TempDir(t), "mosquitto.conf")
	page, err := os.ReadFile("../../docs/local-mqtt.md")
	if err != nil {
		t.Fatal(err)
	}
	// The page's own lines, with the test's port for that of a gateway.
	block := regexp.MustCompile("(?s)```\n(connection agent\n.*?)```").FindSubmatch(page)
	if block == nil {
		t.Fatal("the page has no bridge")
	}
	bridge := strings.ReplaceAll(string(block[1]), "1884", listen)
	if err := os.WriteFile(conf, fmt.Appendf(nil, "listener %s 127.0.0.1\nallow_anonymous true\n%s", port, bridge), 0o644); err != nil {
		t.Fatal(err)
	}
	rig.StartProcess(t, nil, "mosquitto", "-c", conf)
	seen := func(payload string) func() error {
		return func() error {
			r := rig.Run(t, "mosquitto_pub", "-h", "127.0.0.1", "-p", port, "-q", "1", "-t", "telemetry/boiler", "-m", payload)
			for _, m := range observer.Messages("dt/gw-1/boiler") {
				if string(m.Payload) == payload {
					return nil
				}
			}
			return fmt.Errorf("the cloud did not see it; %v", r)
		}
	}
	rig.Eventually(t, soon, seen("72 °C"))
	// Other topics stay here: the bridge has only what its line names.
	rig.MustRun(t, "mosquitto_pub", "-h", "127.0.0.1", "-p", port, "-q", "1", "-t", "other/boiler", "-m", "x")
	rig.Eventually(t, soon, seen("73 °C"))
	if n := agent.Status().At(t, "counters.refused_local"); n != 0.0 {
		t.Errorf("the bridge handed in %v messages that the agent does not take", n)
	}
}
