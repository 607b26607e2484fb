package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/test/rig"
)

// howtoPolicy is the one of the how-to: it has neither iot:Subscribe nor
// iot:Receive.
const howtoPolicy = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow",
	"Action":["iot:Connect","iot:Publish","iot:UpdateThingShadow"],"Resource":"*"}]}`

// TestPolicyDeniesSubscribe: the agent says so once, and goes on.
func TestPolicyDeniesSubscribe(t *testing.T) {
	t.Parallel()
	policy := filepath.Join(rig.TempDir(t), "policy.json")
	if err := os.WriteFile(policy, []byte(howtoPolicy), 0o600); err != nil {
		t.Fatal(err)
	}
	sim := rig.StartSim(t, "--activate-after", "1s", "--policy", policy)
	observer := sim.Observe(t, "dt/#")
	agent := rig.NewAgent(t, sim.Settings(), file)
	agent.Enrol(sim.CA, "gw-1")
	agent.Start()
	agent.Await(soon, "online")
	rig.Eventually(t, soon, func() error {
		s := agent.Status()
		if s.At(t, "shadow.state") != "report-only" {
			return fmt.Errorf("shadow.state is %v", s.At(t, "shadow.state"))
		}
		return nil
	})
	// What it desires does not reach it; what it reports reaches the cloud.
	sim.Desire("gw-1", map[string]any{"telemetry": map[string]string{"interval": "7s"}})
	seen := len(observer.Messages("dt/"))
	rig.Eventually(t, soon, func() error {
		if n := len(observer.Messages("dt/")) - seen; n < 4 {
			return fmt.Errorf("%d more telemetry messages", n)
		}
		return nil
	})
	state, err := json.Marshal(sim.Shadow("gw-1")["reported"])
	if err != nil || string(state) != `{"telemetry":{"interval":"1s"}}` {
		t.Errorf("the shadow's reported is %s", state)
	}
	if lines := agent.LogLines("does not allow subscribing"); len(lines) != 1 {
		t.Errorf("it said %d times that it may not subscribe: %q", len(lines), lines)
	}
	wantValues(t, agent.Status(), map[string]any{"state": "online", "shadow.state": "report-only"})
}

// TestCutAfterConnack: AWS accepts and cuts where a policy denies what comes
// next. The backoff must not start anew with each CONNACK.
func TestCutAfterConnack(t *testing.T) {
	t.Parallel()
	sim := rig.StartSim(t, "--activate-after", "0s")
	sim.SetFault("cutAfterConnack", true)
	agent := rig.NewAgent(t, sim.Settings(), file)
	id := agent.Enrol(sim.CA, "gw-1")
	accepted := func() (accepted []rig.Attempt) {
		for _, a := range sim.Attempts(id) {
			if a.Outcome == "accepted" {
				accepted = append(accepted, a)
			}
		}
		return accepted
	}
	agent.Start()
	rig.Eventually(t, soon, func() error {
		if len(accepted()) == 0 {
			return fmt.Errorf("no connect was accepted: %+v", sim.Attempts(id))
		}
		return nil
	})
	// The waits are drawn from 0 to 5, 10, 20, 40, 80, 160 and 320 s. Seven of
	// them within 20 s have a probability of one to a million.
	rig.Throughout(t, 20*time.Second, func() error {
		if n := len(accepted()); n > 7 {
			return fmt.Errorf("%d connects within 20 s", n)
		}
		return nil
	})
	all := accepted()
	if len(all) < 2 {
		t.Errorf("%d connects within 20 s, and the first wait is at most 5 s", len(all))
	}
	for i := 1; i < len(all); i++ {
		if gap := all[i].At.Sub(all[i-1].At); gap < 900*time.Millisecond { // the record is of the outcome, not of the CONNECT
			t.Errorf("two connects within %s", gap)
		}
	}
	s := agent.Status()
	if s.At(t, "cause") != "server-closed" && s.At(t, "state") != "initializing" {
		t.Errorf("state %v, cause %v", s["state"], s["cause"])
	}
}
