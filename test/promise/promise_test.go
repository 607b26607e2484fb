// Package promise asks from outside whether the agent keeps its promise on
// messages (contract §10) where disk and clock are against it: that a message
// on a good link costs the card nothing, and that a full, a read-only or a
// failing disk, a clock that is wrong and a stop lose nothing that was
// acknowledged.
//
// A mosquitto_pub on the unix socket logs which messages were acknowledged, a
// mosquitto_sub in the cloud what arrived, the kernel what was written. With
// SLOW=1 in the environment the quiet card is watched for ten minutes.
package promise

import (
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/test/rig"
)

func TestMain(m *testing.M) { rig.Main(m) }

// soon is enough for what needs no waiting in the agent, on a busy machine.
const soon = 30 * time.Second

// slowTests is set in the environment for what takes minutes.
const slowTests = "SLOW"

// thing is the name of every gateway here: each has a cloud of its own.
const thing = "gw-1"

// gateway is an agent that was accepted by its cloud, with a gate between them.
type gateway struct {
	*rig.Agent
	t         *testing.T
	sim       *rig.Sim
	gate      *gate
	cloud     *capture
	producers []*producer
	stored    []int // numbers of the messages that store put there
}

// newGateway makes one whose service is online. Its state is in stateDir, or
// where the rig has it. Its own telemetry comes once a day, so that the
// messages are those of the producers.
func newGateway(t *testing.T, stateDir string, settings map[string]string) *gateway {
	t.Helper()
	sim := rig.StartSim(t, "--activate-after", "1s")
	g := &gateway{t: t, sim: sim, gate: newGate(t, sim.MQTT), cloud: observe(t, sim)}
	g.Agent = rig.NewAgent(t, sim.Settings(), map[string]string{
		"cloud.endpoint":     fmt.Sprintf("%q", g.gate.Address),
		"cloud.port_443":     `"never"`,
		"cloud.publish_rate": "2000", // more than AWS takes; the observer must keep up
		"identity.key":       `"file"`,
		"telemetry.interval": `"24h"`,
		"log.format":         `"json"`,
	}, settings)
	if stateDir != "" {
		g.StateDir = filepath.Join(stateDir, "state")
	}
	g.Enrol(sim.CA, thing)
	g.Start()
	g.Await(soon, "online")
	return g
}

// again starts the service, and waits until it takes messages.
func (g *gateway) again() {
	g.t.Helper()
	g.Start()
	rig.Eventually(g.t, soon, func() error {
		conn, err := new(net.Dialer).DialContext(g.t.Context(), "unix", filepath.Join(g.RunDir, "mqtt.sock"))
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// goOffline shuts the gate.
func (g *gateway) goOffline() {
	g.t.Helper()
	g.gate.Shut()
	g.Await(soon, "offline")
}

// goOnline opens it, and makes the agent try at once.
func (g *gateway) goOnline() {
	g.t.Helper()
	g.gate.Open()
	g.Signal(syscall.SIGUSR1)
	g.Await(soon, "online")
}

// buffer waits until the buffer is in a state.
func (g *gateway) buffer(d time.Duration, state string) {
	g.t.Helper()
	rig.Eventually(g.t, d, func() error {
		if s := g.Status(); s.At(g.t, "buffer.state") != state {
			return fmt.Errorf("the buffer is %v with %v messages of %v bytes, %v of them in memory; want %s", s.At(g.t, "buffer.state"),
				s.At(g.t, "buffer.messages"), s.At(g.t, "buffer.bytes"), s.At(g.t, "buffer.memory_messages"), state)
		}
		return nil
	})
}

// said waits until the log has an entry of an event.
func (g *gateway) said(event string) {
	g.t.Helper()
	rig.Eventually(g.t, soon, func() error {
		for _, line := range g.Log() {
			var entry struct{ Event string }
			if json.Unmarshal([]byte(line), &entry) == nil && entry.Event == event {
				return nil
			}
		}
		return fmt.Errorf("the log has no %s, only:\n%s", event, strings.Join(g.Log(), "\n"))
	})
}

// empty waits until nothing is left to send.
func (g *gateway) empty(d time.Duration) {
	g.t.Helper()
	rig.Eventually(g.t, d, func() error {
		if n := g.Status().At(g.t, "buffer.messages"); n != 0.0 {
			return fmt.Errorf("%v messages wait", n)
		}
		return nil
	})
}
