// Package e2e proves on the real binaries, from outside, what issue and
// contract promise: an MQTT client and an HTTP client that know nothing of our
// code are the judges, never the agent's own log alone.
package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/test/rig"
)

func TestMain(m *testing.M) { rig.Main(m) }

// soon is enough for what needs no waiting in the agent, on a busy machine.
const soon = 15 * time.Second

// file are the settings of a gateway whose key is a file.
var file = map[string]string{"identity.key": `"file"`, "telemetry.interval": `"1s"`}

// count fails the condition unless there are n of something.
func count(what string, n, want int) error {
	if n != want {
		return fmt.Errorf("%d %s, want %d", n, what, want)
	}
	return nil
}

// awaitStatus waits until the registry has the certificate in a state.
func awaitStatus(t *testing.T, sim *rig.Sim, id, want string) {
	t.Helper()
	rig.Eventually(t, soon, func() error {
		if got := sim.CertificateStatus(id); got != want {
			return fmt.Errorf("certificate %s is %q in the registry, want %q", id, got, want)
		}
		return nil
	})
}
