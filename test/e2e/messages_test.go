package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jitr-agent/jitr-agent/test/rig"
)

// deny is a policy under which everything but one topic works.
const deny = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"},
	{"Effect":"Deny","Action":"iot:Publish","Resource":"arn:aws:iot:*:*:topic/dt/gw-1/denied"}]}`

// TestMessages: what a program hands in reaches the cloud, is safe while there
// is none, survives a kill, and is counted or kept where the server says no.
func TestMessages(t *testing.T) {
	t.Parallel()
	sim := rig.StartSim(t)
	observer := sim.Observe(t, "dt/gw-1/pump/#")
	agent := rig.NewAgent(t, sim.Settings(), file, map[string]string{"telemetry.interval": `"1h"`})

	r := agent.Run("publish", "telemetry/pump/1", "nobody listens")
	if r.Code != 1 || !strings.Contains(r.Stderr, "systemctl start jitr-agent") {
		t.Errorf("without a service: %v", r)
	}

	id := agent.Enrol(sim.CA, "gw-1")
	agent.Start()
	awaitStatus(t, sim, id, "PENDING_ACTIVATION")
	sim.Activate(id, deny)
	agent.Await(soon, "online")
	status := rig.MustRun(t, "mosquitto_sub", "--unix", filepath.Join(agent.RunDir, "mqtt.sock"), "-t", "agent/status", "-C", "1")
	var known struct {
		State string `json:"state"`
	}
	if err := json.Unmarshal([]byte(status), &known); err != nil || known.State != "online" {
		t.Errorf("agent/status says %s", status)
	}
	agent.MustRun("publish", "telemetry/pump/1", "online")
	got := func(observer *rig.Observer, want ...string) {
		t.Helper()
		rig.Eventually(t, soon, func() error {
			var payloads []string
			for _, m := range observer.Messages("dt/gw-1/pump/1") {
				payloads = append(payloads, string(m.Payload))
			}
			if !slices.Equal(slices.Compact(payloads), want) {
				return fmt.Errorf("the cloud has %q; want %q", payloads, want)
			}
			return nil
		})
	}
	got(observer, "online")

	// The server says no: the program hears it, and the message is kept.
	r = agent.Run("publish", "telemetry/denied", "secret")
	if r.Code != 1 || !strings.Contains(r.Stderr, "not authorized") {
		t.Errorf("a topic that the policy denies: %v", r)
	}
	// The agent says no.
	for topic, why := range map[string]string{"pump/1": "telemetry/", "telemetry/a/b/c/d/e/f/g/h": "8 segments", "telemetry/#": "+ and #"} {
		if r := agent.Run("publish", topic, "x"); r.Code != 1 || !strings.Contains(r.Stderr, why) {
			t.Errorf("topic %s: %v", topic, r)
		}
	}

	sim.Kill()
	agent.Await(soon, "offline")
	agent.MustRun("publish", "telemetry/pump/1", "offline 1")
	agent.MustRun("publish", "telemetry/pump/1", "offline 2")
	agent.Kill()
	if out := agent.MustRun("buffer", "status").Stdout; !strings.Contains(out, "messages  ") {
		t.Errorf("buffer status without a service: %s", out)
	}
	exported := func(args ...string) (payloads []string) {
		t.Helper()
		for line := range strings.Lines(agent.MustRun(append([]string{"buffer", "export"}, args...)...).Stdout) {
			var e struct {
				Topic, Stream, Payload string
				Seq                    int
				ReasonCode             int `json:"reason_code"`
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatal(err)
			}
			payload, err := base64.StdEncoding.DecodeString(e.Payload)
			if err != nil || e.Stream == "" || e.Seq == 0 {
				t.Errorf("%+v, %v", e, err)
			}
			if slices.Contains(args, "--dead") && (e.ReasonCode != 0x87 || e.Topic != "dt/gw-1/denied") {
				t.Errorf("dead letter %+v", e)
			}
			payloads = append(payloads, string(payload))
		}
		return payloads
	}
	if got := exported(); !slices.Equal(got, []string{"offline 1", "offline 2"}) {
		t.Errorf("exported %q", got)
	}
	if got := exported("--dead"); !slices.Equal(got, []string{"secret"}) {
		t.Errorf("exported dead letters %q", got)
	}

	sim.Start()
	observer = sim.Observe(t, "dt/gw-1/pump/#")
	agent.Start()
	agent.Await(2*soon, "online") // after the pause that the schedule asks for
	agent.MustRun("publish", "telemetry/pump/1", "online again")
	got(observer, "offline 1", "offline 2", "online again")
	rig.Eventually(t, soon, func() error {
		if n := agent.Status().At(t, "buffer.messages"); n != 0.0 {
			return fmt.Errorf("%v messages wait", n)
		}
		return nil
	})
	if n := agent.Status().At(t, "counters.dead_letters"); n != 1.0 {
		t.Errorf("%v dead letters were counted; want 1", n)
	}

	if r := agent.Run("buffer", "purge", "--yes"); r.Code != 1 || !strings.Contains(r.Stderr, "systemctl stop jitr-agent") {
		t.Errorf("purge beside the service: %v", r)
	}
	agent.Stop()
	if r := agent.Run("buffer", "purge"); r.Code != 64 {
		t.Errorf("purge without --yes: %v", r)
	}
	agent.MustRun("buffer", "purge", "--yes", "--dead")
	if got := exported("--dead"); len(got) != 0 {
		t.Errorf("after the purge: %q", got)
	}
}

// TestMessages_noName: while the gateway has no certificate, its programs reach
// the agent and hear that; who waits has its message sent as soon as there is
// one.
func TestMessages_noName(t *testing.T) {
	t.Parallel()
	sim := rig.StartSim(t, "--activate-after", "0s")
	observer := sim.Observe(t, "dt/gw-1/pump/#")
	agent := rig.NewAgent(t, sim.Settings(), file, map[string]string{"telemetry.interval": `"1h"`})
	agent.Start()
	agent.Await(soon, "waiting-for-identity")
	rig.Eventually(t, soon, func() error {
		if s := agent.Status(); s.At(t, "local.state") != "ok" {
			return fmt.Errorf("local: %v", s["local"])
		}
		return nil
	})
	if r := agent.Run("publish", "telemetry/pump/1", "too early"); r.Code != 1 || !strings.Contains(r.Stderr, "jitr-agent import --cert") {
		t.Errorf("without a certificate: %v", r)
	}
	waits := rig.StartProcess(t, nil, "mosquitto_pub", "--unix", filepath.Join(agent.RunDir, "mqtt.sock"),
		"-V", "mqttv311", "-i", "pump", "-q", "1", "-t", "telemetry/pump/1", "-m", "early")
	rig.Eventually(t, soon, func() error {
		if agent.LogLines("client id pump was refused") == nil {
			return fmt.Errorf("the journal does not name the program that waits: %q", agent.Log())
		}
		return nil
	})
	if !waits.Running() {
		t.Errorf("it did not wait: %s", waits.Stderr)
	}
	agent.Enrol(sim.CA, "gw-1")
	agent.Await(soon, "online")
	if code := waits.Wait(soon); code != 0 {
		t.Errorf("exit code %d: %s", code, waits.Stderr)
	}
	rig.Eventually(t, soon, func() error {
		if got := observer.Messages("dt/gw-1/pump/1"); len(got) != 1 || string(got[0].Payload) != "early" {
			return fmt.Errorf("the cloud has %v", got)
		}
		return nil
	})
	if n := len(agent.LogLines("client id pump was refused")); n != 1 {
		t.Errorf("it was said %d times", n)
	}
}
