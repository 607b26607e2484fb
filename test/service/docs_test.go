package service

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jitr-agent/jitr-agent/test/rig"
)

// shBlock is a fenced block marked sh.
var shBlock = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// The sh blocks of docs/service.md run as they stand, in one shell's order.
// Only the operator is played here: the endpoint is an emulator, whose root is
// the container's only one, and the certificate comes when there is a request.
func TestDocs_service(t *testing.T) {
	t.Parallel()
	needRoot(t)
	page, err := os.ReadFile("../../docs/service.md")
	if err != nil {
		t.Fatal(err)
	}
	sim := rig.StartSim(t, "--activate-after", "0.1s")
	b := boot(t)
	b.give(deb(t))
	b.sh("mkdir -p /etc/ssl/certs && cp " + b.give(sim.ServerCA) + " /etc/ssl/certs/ca-certificates.crt")

	outputs := map[string]string{}
	for _, block := range shBlock.FindAllStringSubmatch(string(page), -1) {
		script := strings.ReplaceAll(block[1], "xxxx-ats.iot.us-west-2.amazonaws.com", sim.MQTT)
		switch {
		case strings.Contains(script, "jitr-agent import"):
			if err := os.Rename(sim.CA.Sign(t, filepath.Join(b.share, "gateway.csr")), filepath.Join(b.share, "gateway.crt")); err != nil {
				t.Fatal(err)
			}
		case strings.HasPrefix(script, "jitr-agent status"):
			b.await("online")
		}
		outputs[block[1]] = b.sh("cd /share\n" + script)
		if strings.Contains(script, "restart jitr-agent") {
			b.await("online")
			if got := b.sh(`cat /run/credentials/jitr-agent.service/proxy-password`); got != "the password" {
				t.Errorf("the credential is %q after\n%s", got, script)
			}
		}
	}

	// What the page says of them.
	for command, want := range map[string]string{
		"systemctl status":   "No endpoint is configured",
		"jitr-agent status":  "Online at " + sim.MQTT,
		"--catalog":          "░░ What to do: ",
		"JITR_EVENT=online":  `"JITR_THING" : "gw-1"`,
		"--field=JITR_CAUSE": "pending\n",
		"apt-get purge":      "enrol it anew",
		"systemd-analyze":    "Overall exposure level for jitr-agent.service: 1.1 OK",
	} {
		found := ""
		for script, out := range outputs {
			if strings.Contains(script, command) {
				found += out
			}
		}
		if !strings.Contains(found, want) {
			t.Errorf("%s does not show %q:\n%s", command, want, found)
		}
	}
}
