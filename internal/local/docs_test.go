package local

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	e2e "github.com/jitr-agent/jitr-agent/test/rig"
)

// TestDocs runs the sh blocks of docs/local-mqtt.md, each by itself, with the
// test's socket and port for those of a gateway.
func TestDocs(t *testing.T) {
	program(t, "mosquitto_pub")
	page, err := os.ReadFile("../../docs/local-mqtt.md")
	if err != nil {
		t.Fatal(err)
	}
	port := e2e.FreePort(t)
	r := start(t, func(c *Config) { c.Listen = "127.0.0.1:" + port })
	t.Chdir(t.TempDir())
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllSubmatch(page, -1)
	published := 0
	for i, block := range blocks {
		script := strings.NewReplacer("/run/jitr-agent/mqtt.sock", r.cfg.Socket, "1883", port).Replace(string(block[1]))
		if strings.Contains(script, "paho") && !hasPaho(t) {
			continue
		}
		out := e2e.MustRun(t, "timeout", "60", "bash", "-euo", "pipefail", "-c", script)
		if strings.Contains(script, "paho") && out != "safe\n" {
			t.Errorf("block %d says %q", i, out)
		}
		published++
		if strings.HasPrefix(script, "seq 1 100") {
			published += 99
		}
	}
	messages, _ := r.take()
	if len(messages) != published || published < 102 {
		t.Errorf("%d messages came of %d", len(messages), published)
	}
	for _, m := range messages {
		if !strings.HasPrefix(m.Topic, "dt/gw-1/") {
			t.Errorf("topic %s", m.Topic)
		}
	}
	// The numbers that the page names.
	for _, number := range []string{
		fmt.Sprint(maxClients, " clients"), fmt.Sprint(receiveMaximum, " messages without PUBACK"), fmt.Sprint(maxSubscriptions, " subscriptions"),
		fmt.Sprint(maxClientID, " bytes"), fmt.Sprint(MaxPayload>>10, " KiB"), fmt.Sprint("within ", connectTimeout.Seconds(), " s"),
		fmt.Sprint(maxQueueBytes>>10, " KiB or ", maxQueue, " messages"), fmt.Sprint("every ", lastRetry.Seconds(), " s"),
	} {
		if !strings.Contains(strings.ReplaceAll(string(page), "\n", " "), number) {
			t.Errorf("the page does not say %q", number)
		}
	}
}

func hasPaho(t *testing.T) bool {
	return e2e.Run(t, "sh", "-c", "/usr/bin/python3 -c 'import paho.mqtt.client'").Code == 0
}
