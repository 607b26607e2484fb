package local

import (
	"errors"
	"fmt"
	"os/exec"
	"reflect"
	"strings"
	"testing"

	"github.com/jitr-agent/jitr-agent/pkg/buffer"
	e2e "github.com/jitr-agent/jitr-agent/test/rig"
)

// program finds one of mosquitto's. The project's own test run installs them.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v; install it with: tools/need mosquitto-clients", err)
	}
	return path
}

// TestMosquittoPub: the real program, in each version, at each QoS, one message
// or many lines.
func TestMosquittoPub(t *testing.T) {
	pub := program(t, "mosquitto_pub")
	for _, version := range []string{"mqttv311", "mqttv5"} {
		for _, test := range []struct {
			name string
			args []string
			kept []string // payloads; none: it is refused
		}{
			{"QoS 1", []string{"-q", "1", "-t", "telemetry/a/b", "-m", "hello"}, []string{"hello"}},
			{"QoS 0", []string{"-q", "0", "-t", "telemetry/a/b", "-m", "hello"}, []string{"hello"}},
			{"retained", []string{"-q", "1", "-r", "-t", "telemetry/a/b", "-m", "hello"}, []string{"hello"}},
			{"with a will", []string{"-q", "1", "-t", "telemetry/a/b", "-m", "hello", "--will-topic", "telemetry/w", "--will-payload", "x"}, []string{"hello"}},
			{"with a password", []string{"-u", "user", "-P", "secret", "-q", "1", "-t", "telemetry/a/b", "-m", "hello"}, []string{"hello"}},
			{"250 lines", []string{"-q", "1", "-t", "telemetry/a/b", "-l"}, lines(250)},
			{"a wrong topic", []string{"-q", "1", "-t", "sensors/a", "-m", "hello"}, nil},
		} {
			t.Run(version+"/"+test.name, func(t *testing.T) {
				r := start(t)
				args := append([]string{"-c", `"$@" <<<"$LINES_"`, "sh", "timeout", "20", pub, "--unix", r.cfg.Socket, "-V", version}, test.args...)
				got := e2e.RunEnv(t, []string{"LINES_=" + strings.Join(test.kept, "\n")}, "bash", args...)
				switch {
				case test.kept != nil && got.Code != 0:
					t.Errorf("it failed: %v", got)
				case test.kept == nil && !strings.Contains(got.Stderr+got.Stdout, map[string]string{
					"mqttv311": "The connection was lost", "mqttv5": "Topic Name invalid"}[version]):
					t.Errorf("it was not told: %v", got)
				}
				var kept []string
				r.await(t, len(test.kept))
				messages, _ := r.take()
				for _, m := range messages {
					kept = append(kept, string(m.Payload))
					if m.Topic != "dt/gw-1/a/b" {
						t.Errorf("topic %s", m.Topic)
					}
				}
				if !reflect.DeepEqual(kept, test.kept) {
					t.Errorf("kept %q, want %q", kept, test.kept)
				}
			})
		}
	}
}

func lines(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprint("line ", i))
	}
	return all
}

// TestMosquittoProperties: what it sets is handed on.
func TestMosquittoProperties(t *testing.T) {
	pub := program(t, "mosquitto_pub")
	r := start(t)
	e2e.MustRun(t, pub, "--unix", r.cfg.Socket, "-V", "5", "-q", "1", "-t", "telemetry/x", "-m", "1",
		"-D", "publish", "content-type", "text/plain", "-D", "publish", "payload-format-indicator", "1",
		"-D", "publish", "response-topic", "reply", "-D", "publish", "correlation-data", "abc",
		"-D", "publish", "message-expiry-interval", "60", "-D", "publish", "user-property", "a", "b")
	got, _ := r.take()
	want := []buffer.Message{{
		Topic: "dt/gw-1/x", Payload: []byte("1"), ContentType: "text/plain", ResponseTopic: "reply",
		CorrelationData: []byte("abc"), UserProperties: [][2]string{{"a", "b"}}, Text: true, Expiry: 60,
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

// TestMosquittoWaits: its exit is the proof that a message is safe. While the
// buffer keeps silent, it stays.
func TestMosquittoWaits(t *testing.T) {
	pub := program(t, "mosquitto_pub")
	for _, version := range []string{"mqttv311", "mqttv5"} {
		t.Run(version, func(t *testing.T) {
			r := start(t)
			r.setHold()
			p := e2e.StartProcess(t, nil, pub, "--unix", r.cfg.Socket, "-V", version, "-q", "1", "-t", "telemetry/x", "-m", "1")
			r.await(t, 1)
			r.client(v5, "other").expectAlive()
			if !p.Running() {
				t.Fatalf("it ended before its message was safe: %s", p.Stderr)
			}
			_, done := r.take()
			done[0](nil)
			if code := p.Wait(patience); code != 0 {
				t.Errorf("exit code %d: %s", code, p.Stderr)
			}
		})
	}
}

// TestMosquittoSub: it gets what the agent and the other programs publish.
func TestMosquittoSub(t *testing.T) {
	sub := program(t, "mosquitto_sub")
	for _, version := range []string{"mqttv311", "mqttv5"} {
		t.Run(version, func(t *testing.T) {
			r := start(t)
			r.Publish("agent/status", []byte(`{"state":"online"}`), true)
			p := e2e.StartProcess(t, nil, sub, "--unix", r.cfg.Socket, "-V", version, "-q", "1", "-F", "%t %r %p", "-C", "2", "-t", "agent/status", "-t", "telemetry/#")
			eventually(t, func() error {
				if r.feed.subscribers.Load() == 0 {
					return errors.New("it has not subscribed")
				}
				return nil
			})
			pub := r.client(v5, "pub")
			eventually(t, func() error { // until its second subscription stands
				pub.send(publish(v5, "telemetry/a", 1, "1"))
				pub.expect("4002 0001")
				if p.Running() {
					return errors.New("it waits")
				}
				return nil
			})
			if got := p.Stdout.String(); got != "agent/status 1 {\"state\":\"online\"}\ntelemetry/a 0 1\n" {
				t.Errorf("it got %q", got)
			}
			refused := e2e.Run(t, sub, "--unix", r.cfg.Socket, "-V", version, "-W", "5", "-t", "secret/#")
			if !strings.Contains(refused.Stderr, "All subscription requests were denied") {
				t.Errorf("%v", refused)
			}
		})
	}
}

// TestPaho: paho-python over TCP, in both versions: it publishes with a window
// and gets each PUBACK, then its own messages back.
func TestPaho(t *testing.T) {
	if !hasPaho(t) {
		t.Skip("python3-paho-mqtt is not installed")
	}
	port := e2e.FreePort(t)
	r := start(t, func(c *Config) { c.Listen = "127.0.0.1:" + port })
	for _, version := range []string{"4", "5"} {
		out := e2e.MustRun(t, "timeout", "60", "/usr/bin/python3", "testdata/paho_client.py", port, version, "1000")
		if out != "acknowledged 1000, received 1000 in order\n" {
			t.Errorf("MQTT %s: %s", version, out)
		}
	}
	messages, _ := r.take()
	if len(messages) != 2000 {
		t.Errorf("the buffer has %d messages, want 2000", len(messages))
	}
}
