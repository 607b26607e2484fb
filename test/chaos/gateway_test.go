package chaos

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/test/rig"
)

// gateway takes messages of local programs and carries them to the cloud.
type gateway interface {
	Start()
	Kill() // kill -9
	// Exited is closed when the process has ended.
	Exited() <-chan struct{}
	// Nudge is called about once a second while the faults last, and after
	// them until Drained.
	Nudge()
	// Drained says what is still to be sent, nil for nothing.
	Drained() error
	// DeadLetters are the keys of those that the gateway keeps.
	DeadLetters() []string
	// Socket and Address are where it takes messages.
	Socket() string
	Address() string
}

// startGateway starts a gateway and returns when its first session stands.
type startGateway func(t *testing.T, ca *rig.CA, c *cloud) gateway

// agent is the product.
type agent struct {
	*rig.Agent
	t       *testing.T
	address string
}

// newAgent makes one with these settings beside its own.
func newAgent(settings map[string]string) startGateway {
	return func(t *testing.T, ca *rig.CA, c *cloud) gateway {
		t.Helper()
		a := &agent{t: t, address: net.JoinHostPort("127.0.0.1", rig.FreePort(t))}
		a.Agent = rig.NewAgent(t, map[string]string{
			"cloud.endpoint":     strconv.Quote(net.JoinHostPort("localhost", c.Port)),
			"cloud.server_ca":    strconv.Quote(c.ServerCA),
			"cloud.port_443":     `"never"`,
			"cloud.publish_rate": "0",
			"identity.key":       `"file"`,
			"shadow.enabled":     "false", // the broker knows no shadows
			"buffer.spill_after": strconv.Quote(spillAfter.String()),
			"local.listen":       strconv.Quote(a.address),
		}, settings)
		a.Enrol(ca, thing)
		a.Start()
		a.Await(soon, "online")
		return a
	}
}

func (a *agent) Socket() string  { return filepath.Join(a.RunDir, "mqtt.sock") }
func (a *agent) Address() string { return a.address }

// Nudge does what a technician does who cannot wait: SIGUSR1, "try now". A
// process that is just starting has no handler for it yet.
func (a *agent) Nudge() {
	switch s := a.Status(); {
	case s.At(a.t, "pid") != float64(a.PID()), s.At(a.t, "running") != true:
	case s.At(a.t, "state") == "offline":
		a.Signal(syscall.SIGUSR1)
	}
}

func (a *agent) Drained() error {
	s := a.Status()
	if s.At(a.t, "pid") != float64(a.PID()) || s.At(a.t, "state") != "online" || s.At(a.t, "buffer.messages") != 0.0 {
		return fmt.Errorf("the agent is %v (%v) with %v messages", s["state"], s["cause"], s.At(a.t, "buffer.messages"))
	}
	return nil
}

func (a *agent) DeadLetters() (keys []string) {
	out := a.MustRun("buffer", "export", "--dead").Stdout
	for line := range strings.Lines(out) {
		var letter struct {
			Topic, Payload string
			ReasonCode     int `json:"reason_code"`
		}
		if err := json.Unmarshal([]byte(line), &letter); err != nil {
			a.t.Fatalf("buffer export --dead: %v in %q", err, line)
		}
		payload, err := base64.StdEncoding.DecodeString(letter.Payload)
		if err != nil {
			a.t.Fatalf("buffer export --dead: %v in %q", err, line)
		}
		key, ok := keyOf(payload)
		if !ok {
			a.t.Errorf("a dead letter of the agent's own: %s", line)
			continue
		}
		if letter.ReasonCode != 0x87 || letter.Topic != prefix+strings.Fields(key)[0] {
			a.t.Errorf("dead letter %s on %s with reason code %#x", key, letter.Topic, letter.ReasonCode)
		}
		keys = append(keys, key)
	}
	return keys
}

// bridge is what gateways use today: mosquitto with a bridge to the cloud. It
// has no place for dead letters.
type bridge struct {
	t               *testing.T
	conf            string
	socket, address string
	seen            *capture
	*rig.Process
}

// newBridge makes one with these lines in its configuration beside those that
// it needs.
func newBridge(options ...string) startGateway {
	return func(t *testing.T, ca *rig.CA, c *cloud) gateway {
		t.Helper()
		dir := rig.TempDir(t)
		credentials, port := ca.Issue(t, thing), rig.FreePort(t)
		b := &bridge{t: t, socket: filepath.Join(dir, "mqtt.sock"), address: net.JoinHostPort("127.0.0.1", port), seen: c.Seen}
		b.conf = write(t, filepath.Join(dir, "bridge.conf"), strings.Join(append([]string{
			"user root",
			"allow_anonymous true",
			"listener " + port + " 127.0.0.1",
			"listener 0 " + b.socket,
			"connection cloud",
			"address 127.0.0.1:" + c.Port,
			"remote_clientid " + thing,
			"bridge_protocol_version mqttv50",
			"bridge_cafile " + c.ServerCA,
			"bridge_certfile " + credentials.Cert,
			"bridge_keyfile " + credentials.Key,
			"connection_messages false",
			"notifications false",
			"try_private false",
			"restart_timeout 1",
			"topic # out 1 telemetry/ " + prefix,
		}, options...), "\n")+"\n")
		b.Start()
		return b
	}
}

func (b *bridge) Start() {
	b.Process = rig.StartProcess(b.t, nil, "mosquitto", "-c", b.conf)
	_, port, _ := net.SplitHostPort(b.address)
	rig.AwaitPort(b.t, b.Process, port, soon)
}

func (b *bridge) Socket() string        { return b.socket }
func (b *bridge) Address() string       { return b.address }
func (b *bridge) Nudge()                {}
func (b *bridge) DeadLetters() []string { return nil }

// Drained goes by what still arrives: a bridge does not tell what it has. One
// that lost its connection comes back within 6 s.
func (b *bridge) Drained() error {
	const enough = 15 * time.Second
	if quiet, n := b.seen.quiet(); quiet < enough {
		return fmt.Errorf("the cloud has %d messages of the bridge, and heard of it %s ago", n, quiet)
	}
	return nil
}
