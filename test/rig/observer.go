package rig

import (
	"encoding/hex"
	"errors"
	"net"
	"strings"
	"testing"
)

// Observer is a mosquitto_sub with a certificate of its own: it sees what the
// cloud gives to others, and knows nothing of our code.
type Observer struct{ *Process }

// Message is what an observer got.
type Message struct {
	Topic   string
	Payload []byte
}

// Mosquitto are the arguments that connect a mosquitto client, with a
// certificate of its own.
func (s *Sim) Mosquitto(t testing.TB, clientID string) []string {
	t.Helper()
	c := s.CA.Issue(t, clientID)
	s.Register(c)
	host, port, err := net.SplitHostPort(s.MQTT)
	if err != nil {
		t.Fatal(err)
	}
	return []string{"-h", host, "-p", port, "--cafile", s.ServerCA, "--cert", c.Cert, "--key", c.Key, "-i", clientID, "-q", "1"}
}

// Observe starts an observer and returns when its subscriptions stand.
func (s *Sim) Observe(t testing.TB, topics ...string) *Observer {
	t.Helper()
	args := append(s.Mosquitto(t, "observer"), "-d", "-F", "message %t %x")
	for _, topic := range topics {
		args = append(args, "-t", topic)
	}
	// mosquitto_sub writes into a pipe when its buffer is full; stdbuf makes it
	// write each line.
	o := &Observer{StartProcess(t, nil, "stdbuf", append([]string{"-oL", "mosquitto_sub"}, args...)...)}
	Eventually(t, startLimit, func() error {
		if !strings.Contains(o.Stdout.String(), "Subscribed (mid:") {
			return errors.New("mosquitto_sub is not subscribed")
		}
		return nil
	})
	return o
}

// Messages are those that came so far whose topic begins with prefix.
func (o *Observer) Messages(prefix string) []Message {
	o.t.Helper()
	var all []Message
	for _, line := range o.Stdout.Lines() {
		fields := strings.Split(line, " ")
		if len(fields) != 3 || fields[0] != "message" || !strings.HasPrefix(fields[1], prefix) {
			continue
		}
		payload, err := hex.DecodeString(fields[2])
		if err != nil {
			o.t.Fatalf("what mosquitto_sub printed: %v in %q", err, line)
		}
		all = append(all, Message{fields[1], payload})
	}
	return all
}

// Publish publishes one message with mosquitto_pub and a certificate of its
// own.
func (s *Sim) Publish(t testing.TB, clientID, topic, message string) {
	t.Helper()
	MustRun(t, "mosquitto_pub", append(s.Mosquitto(t, clientID), "-t", topic, "-m", message)...)
}
