package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/swtpmtest"
	"github.com/jitr-agent/jitr-agent/test/rig"
)

// TestFirstConnectIsSeenFromOutside is the whole dance: from nothing to
// online, with two commands and the operator's signature.
func TestFirstConnectIsSeenFromOutside(t *testing.T) {
	t.Parallel()
	t.Run("tpm", func(t *testing.T) {
		t.Parallel()
		tpm := swtpmtest.Start(t)
		firstConnect(t, "tpm", map[string]string{
			"identity.key": `"tpm"`, "identity.tpm_device": strconv.Quote(tpm.Device), "telemetry.interval": `"1s"`,
		})
	})
	t.Run("file", func(t *testing.T) {
		t.Parallel()
		firstConnect(t, "file", file)
	})
}

func firstConnect(t *testing.T, provider string, settings map[string]string) {
	const thing = "gw-1"
	sim := rig.StartSim(t)
	observer := sim.Observe(t, "init/#", "dt/#")
	agent := rig.NewAgent(t, sim.Settings(), settings)
	wantExit(t, agent, 3) // it was never started
	id := agent.Enrol(sim.CA, thing)
	started := time.Now()
	agent.Start()

	// The operator does nothing yet.
	pending := agent.Await(soon, "pending-activation")
	awaitStatus(t, sim, id, "PENDING_ACTIVATION")
	wantExit(t, agent, 0)
	rig.Eventually(t, soon, func() error {
		if n := len(sim.Attempts(id)); n < 6 {
			return fmt.Errorf("%d connects while pending, want 6", n)
		}
		return nil
	})
	wantCalm(t, agent, id, time.Since(started))
	wantKeys(t, pending)
	wantValues(t, pending, map[string]any{
		"state": "pending-activation", "cause": "pending", "event": "pending",
		"identity.thing_name": thing, "identity.client_id": thing, "identity.certificate_id": id,
		"identity.ca_certificate_id": rig.CertificateID(t, sim.CA.Cert),
		"identity.provider":          provider, "identity.algorithm": "ecdsa-p256", "identity.accepted": false,
		"identity.accepted_at": nil, "identity.init_at": nil, "cloud.connected_at": nil,
		"attempts.last_phase": "connack",
	})
	for _, a := range sim.Attempts(id) {
		if a.ClientCertificates != 2 || a.ClientID != thing {
			t.Errorf("connect as %q with %d certificates, want the leaf and its CA: %+v", a.ClientID, a.ClientCertificates, a)
		}
	}
	if n := len(observer.Messages("")); n != 0 {
		t.Errorf("the observer saw %d messages of a certificate that is not active", n)
	}

	sim.Activate(id, rig.AllowAll)
	online := agent.Await(soon, "online")
	if status := sim.CertificateStatus(id); status != "ACTIVE" {
		t.Errorf("the registry says %q, want ACTIVE", status)
	}
	wantExit(t, agent, 0)
	wantKeys(t, online)
	wantValues(t, online, map[string]any{
		"state": "online", "cause": nil, "event": "online", "next": nil, "stopped": nil, "remedy": nil,
		"attempts.count": 0.0, "identity.accepted": true, "cloud.tls_version": "1.2", "clock.ok": true,
		"tpm.state": map[string]string{"tpm": "ok", "file": "unused"}[provider], "buffer.state": "ok", "local.state": "ok",
	})

	rig.Eventually(t, soon, func() error {
		if len(observer.Messages("init/")) == 0 || len(observer.Messages("dt/")) < 2 {
			return fmt.Errorf("the observer saw %q", observer.Messages(""))
		}
		return nil
	})
	wantInit(t, observer.Messages("init/")[0], thing, id, rig.CertificateID(t, sim.CA.Cert), provider)
	wantTelemetry(t, observer.Messages("dt/")[0], thing)

	// The shadow, over REST.
	reported := func(interval string) {
		t.Helper()
		rig.Eventually(t, soon, func() error {
			got, err := json.Marshal(sim.Shadow(thing)["reported"])
			if want := `{"telemetry":{"interval":"` + interval + `"}}`; err != nil || string(got) != want {
				return fmt.Errorf("the shadow's reported is %s, want %s", got, want)
			}
			return nil
		})
	}
	reported("1s")
	sim.Desire(thing, map[string]any{"telemetry": map[string]string{"interval": "7s"}})
	reported("7s")
	rig.Eventually(t, soon, func() error {
		s := agent.Status()
		if s.At(t, "shadow.state") != "synced" || fmt.Sprint(s["overrides"]) != "[map[from:shadow key:telemetry.interval value:7s]]" {
			return fmt.Errorf("shadow %v, overrides %v", s["shadow"], s["overrides"])
		}
		return nil
	})
	// It is applied, and not only reported: of the messages of the next three
	// seconds one may have been on its way.
	before := len(observer.Messages("dt/"))
	rig.Throughout(t, 3*time.Second, func() error {
		if n := len(observer.Messages("dt/")); n > before+1 {
			return fmt.Errorf("%d messages within 3 s at an interval of 7 s", n-before)
		}
		return nil
	})

	if code := agent.Stop(); code != 0 {
		t.Errorf("run ended with exit code %d after SIGTERM", code)
	}
	wantExit(t, agent, 3)
	stopped := agent.Status()
	wantKeys(t, stopped)
	wantValues(t, stopped, map[string]any{"running": false, "stopped.reason": "signal", "stopped.exit_code": 0.0})

	// The init is sent once, also when the gateway comes back.
	agent.Start()
	agent.Await(soon, "online")
	agent.Kill()
	wantExit(t, agent, 3)
	wantValues(t, agent.Status(), map[string]any{"running": false, "stopped.reason": "unknown"})
	if n := len(observer.Messages("init/")); n != 1 {
		t.Errorf("%d init messages, want 1", n)
	}
}

// TestNothingGetsPastAPendingCertificate is the negative control: were the
// observer or the registry blind, the first connect would pass there too.
func TestNothingGetsPastAPendingCertificate(t *testing.T) {
	t.Parallel()
	sim := rig.StartSim(t, "--activate-after", "never")
	observer := sim.Observe(t, "init/#", "dt/#")
	sim.Publish(t, "somebody", "dt/somebody/test", "the observer sees what is published")
	rig.Eventually(t, soon, func() error { return count("messages", len(observer.Messages("")), 1) })

	agent := rig.NewAgent(t, sim.Settings(), file)
	id := agent.Enrol(sim.CA, "gw-1")
	agent.Start()
	awaitStatus(t, sim, id, "PENDING_ACTIVATION")
	rig.Throughout(t, 5*time.Second, func() error {
		if state := sim.CertificateStatus(id); state != "PENDING_ACTIVATION" {
			return fmt.Errorf("the registry says %q", state)
		}
		return count("messages", len(observer.Messages("")), 1)
	})
	if n := len(sim.Attempts(id)); n < 4 {
		t.Errorf("the agent tried %d times in 5 s", n)
	}
	agent.Await(soon, "pending-activation")
}

// TestEmulatorActivatesByItself is the way of the demo: nobody calls the API.
func TestEmulatorActivatesByItself(t *testing.T) {
	t.Parallel()
	for _, closing := range []string{"fin", "rst", "alert", "connack-0x87"} {
		t.Run(closing, func(t *testing.T) {
			t.Parallel()
			sim := rig.StartSim(t, "--activate-after", "2s", "--pending-close", closing)
			agent := rig.NewAgent(t, sim.Settings(), file)
			id := agent.Enrol(sim.CA, "gw-1")
			started := time.Now()
			agent.Start()
			agent.Await(soon, "online")
			awaitStatus(t, sim, id, "ACTIVE")
			wantCalm(t, agent, id, time.Since(started))
		})
	}
}

// wantCalm: one line for the start, one for each step of the schedule while
// pending, and each of these tells all that matters. The step is 1 s until 5 s
// have passed, a fifth of the time from there on, and has its line when it has
// grown by half.
func wantCalm(t *testing.T, agent *rig.Agent, id string, lasted time.Duration) {
	t.Helper()
	whole := regexp.MustCompile(`^\d\d:\d\d:\d\d  info   AWS IoT at 127\.0\.0\.1:\d+ does not let certificate ` + id +
		` in yet, it waits for activation \(PENDING_ACTIVATION\): attempt \d+, [0-9.]+ s so far, next try in [0-9.]+ s \(\d\d:\d\d:\d\d\)$`)
	steps := 1
	for step := 1500 * time.Millisecond; 5*step < lasted; step += step / 2 {
		steps++
	}
	lines := agent.LogLines("PENDING_ACTIVATION")
	if len(lines) < 1 || len(lines) > steps {
		t.Errorf("%d lines within %s while pending, want 1 to %d", len(lines), lasted, steps)
	}
	for _, line := range lines {
		if !whole.MatchString(line) {
			t.Errorf("this line is not whole: %s", line)
		}
	}
	others := slices.DeleteFunc(agent.Log(), func(line string) bool {
		return regexp.MustCompile(` info   (jitr-agent \S+ starts$|AWS IoT at |Online at )`).MatchString(line)
	})
	if len(others) > 0 {
		t.Errorf("unexpected lines: %q", others)
	}
}

func wantExit(t *testing.T, agent *rig.Agent, code int) {
	t.Helper()
	if r := agent.Run("status"); r.Code != code || r.Stderr != "" {
		t.Errorf("want exit code %d: %v", code, r)
	}
}

func wantValues(t *testing.T, s rig.Status, want map[string]any) {
	t.Helper()
	for path, value := range want {
		if got := s.At(t, path); got != value {
			t.Errorf("status %s is %v, want %v", path, got, value)
		}
	}
}

func wantInit(t *testing.T, m rig.Message, thing, id, ca, provider string) {
	t.Helper()
	if m.Topic != "init/"+thing {
		t.Errorf("init on %s", m.Topic)
	}
	got := object(t, m)
	wantExactly(t, "init", got, "schema", "thing_name", "certificate_id", "ca_certificate_id", "replaces", "agent_version",
		"key_provider", "hardware", "os", "boot_id", "sent_at")
	for key, want := range map[string]any{
		"schema": 1.0, "thing_name": thing, "certificate_id": id, "ca_certificate_id": ca, "replaces": nil, "key_provider": provider,
	} {
		if got[key] != want {
			t.Errorf("init: %s is %v, want %v", key, got[key], want)
		}
	}
	for name, keys := range map[string][]string{"hardware": {"model", "serial", "arch"}, "os": {"id", "version", "kernel"}} {
		inner, _ := got[name].(map[string]any)
		wantExactly(t, "init "+name, inner, keys...)
	}
	wantNow(t, "init", got["sent_at"])
}

func wantTelemetry(t *testing.T, m rig.Message, thing string) {
	t.Helper()
	if m.Topic != "dt/"+thing+"/system" {
		t.Errorf("telemetry on %s", m.Topic)
	}
	got := object(t, m)
	wantExactly(t, "telemetry", got, "schema", "source", "boot_id", "boot_ms", "measured_at", "clock", "values")
	wantNow(t, "telemetry", got["measured_at"])
	values, _ := got["values"].(map[string]any)
	for _, key := range []string{"uptime_ms", "load_1m", "load_5m", "memory_total_bytes", "memory_available_bytes", "disk_total_bytes", "disk_free_bytes"} {
		if _, ok := values[key].(float64); !ok {
			t.Errorf("telemetry: %s is %v", key, values[key])
		}
	}
}

func object(t *testing.T, m rig.Message) map[string]any {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal(m.Payload, &object); err != nil {
		t.Fatalf("%s: %v in %q", m.Topic, err, m.Payload)
	}
	return object
}

// wantNow: RFC 3339 in UTC with milliseconds, and of this test.
func wantNow(t *testing.T, what string, value any) {
	t.Helper()
	at, err := time.Parse("2006-01-02T15:04:05.000Z", fmt.Sprint(value))
	if ago := time.Since(at); err != nil || ago < 0 || ago > time.Minute {
		t.Errorf("%s: the time is %v", what, errors.Join(err, fmt.Errorf("%v, %s ago", value, ago)))
	}
}

func wantExactly(t *testing.T, what string, object map[string]any, keys ...string) {
	t.Helper()
	got, want := slices.Sorted(maps.Keys(object)), slices.Sorted(slices.Values(keys))
	if !slices.Equal(got, want) {
		t.Errorf("%s has the keys %q, want %q", what, got, want)
	}
}
