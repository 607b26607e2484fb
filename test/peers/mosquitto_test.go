package peers

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/test/rig"
)

// mosquitto is a real broker: a plain listener for the observer (and the
// front), and where a CA is given a TLS listener that asks for a certificate of
// it.
type mosquitto struct {
	*rig.Process
	Plain, TLS string // ports
	Server     rig.Credentials
}

// startMosquitto starts a broker. Without a CA there is no TLS listener;
// options are more lines for that listener.
func startMosquitto(t *testing.T, ca string, options ...string) *mosquitto {
	t.Helper()
	need(t, "mosquitto", "mosquitto")
	m := &mosquitto{Plain: rig.FreePort(t)}
	lines := []string{
		"per_listener_settings true",
		// As root it would go over to a user who cannot read the keys.
		"user root",
		"log_type all",
		"listener " + m.Plain + " 127.0.0.1",
		"allow_anonymous true",
	}
	if ca != "" {
		m.TLS, m.Server = rig.FreePort(t), serverCert(t)
		lines = append(lines,
			"listener "+m.TLS+" 127.0.0.1",
			"allow_anonymous true",
			"require_certificate true",
			"cafile "+ca,
			"certfile "+m.Server.Cert,
			"keyfile "+m.Server.Key,
		)
		lines = append(lines, options...)
	}
	conf := write(t, filepath.Join(rig.TempDir(t), "mosquitto.conf"), strings.Join(lines, "\n")+"\n")
	m.Process = rig.StartProcess(t, nil, "mosquitto", "-c", conf)
	rig.AwaitPort(t, m.Process, m.Plain, soon)
	return m
}

// observer is a mosquitto_sub at the plain listener of a broker.
type observer struct{ *rig.Process }

// seen is a message, and when mosquitto_sub got it.
type seen struct {
	At      time.Time
	Topic   string
	Payload string
}

func (m *mosquitto) observe(t *testing.T) *observer {
	t.Helper()
	o := &observer{rig.StartProcess(t, nil, "stdbuf", "-oL", "mosquitto_sub", "-h", "127.0.0.1", "-p", m.Plain,
		"-V", "mqttv5", "-q", "1", "-d", "-F", "message %U %t %x", "-t", "#")}
	rig.Eventually(t, soon, func() error { return contains(o.Stdout.String(), "Subscribed (mid:") })
	return o
}

// publish publishes a message at the plain listener, which shows that the
// observer sees what comes.
func (m *mosquitto) publish(t *testing.T, topic, message string) {
	t.Helper()
	rig.MustRun(t, "mosquitto_pub", "-h", "127.0.0.1", "-p", m.Plain, "-q", "1", "-t", topic, "-m", message)
}

// messages are those so far whose topic begins with prefix.
func (o *observer) messages(t *testing.T, prefix string) []seen {
	t.Helper()
	var all []seen
	for _, line := range o.Stdout.Lines() {
		fields := strings.Fields(line)
		if len(fields) != 4 || fields[0] != "message" || !strings.HasPrefix(fields[2], prefix) {
			continue
		}
		seconds, fraction, _ := strings.Cut(fields[1], ".")
		sec, err := strconv.ParseInt(seconds, 10, 64)
		nsec, err2 := strconv.ParseInt(fraction, 10, 64)
		payload, err3 := hex.DecodeString(fields[3])
		if err := errors.Join(err, err2, err3); err != nil || len(fraction) != 9 {
			t.Fatalf("what mosquitto_sub printed: %v in %q", err, line)
		}
		all = append(all, seen{time.Unix(sec, nsec), fields[2], string(payload)})
	}
	return all
}

// awaitInit waits until the observer has seen the init and telemetry.
func (o *observer) awaitInit(t *testing.T, d time.Duration, thing string) seen {
	t.Helper()
	rig.Eventually(t, d, func() error {
		if len(o.messages(t, "init/"+thing)) == 0 || len(o.messages(t, "dt/"+thing+"/")) == 0 {
			return fmt.Errorf("mosquitto_sub has seen %q", o.messages(t, ""))
		}
		return nil
	})
	return o.messages(t, "init/"+thing)[0]
}

// silent shows that nothing of the agent comes: the observer sees a message of
// ours, and in d no other.
func (o *observer) silent(t *testing.T, m *mosquitto, d time.Duration) {
	t.Helper()
	m.publish(t, "control", "seen")
	rig.Eventually(t, soon, func() error {
		if len(o.messages(t, "control")) == 0 {
			return errors.New("the observer is blind")
		}
		return nil
	})
	rig.Throughout(t, d, func() error {
		if all := o.messages(t, ""); len(all) > 1 {
			return fmt.Errorf("mosquitto_sub has seen %q", all)
		}
		return nil
	})
}

// read is the content of a file.
func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
