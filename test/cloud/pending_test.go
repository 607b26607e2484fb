package cloud

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/test/rig"
)

// TestNotActivated: the function lets in the gateways of the CAs that it was
// deployed for, while their rule is on, and nobody else.
func TestNotActivated(t *testing.T) {
	t.Parallel()
	sim := rig.StartSim(t)
	aws := awsCLI{awsCLIs(t)[0], sim}
	ours, oursID := registerCA(t, sim)
	other, _ := registerCA(t, sim) // registered, and not deployed
	deploy(t, sim, oursID)
	first, second, foreign := ours.Issue(t, "gw-1"), ours.Issue(t, "gw-2"), other.Issue(t, "gw-3")

	getIn(t, sim, "gw-1", first, "dt/gw-1/test")
	aws.must(t, "iot", "disable-topic-rule", "--rule-name", "jitr_"+short(oursID))
	stay := func(name string, c rig.Credentials) {
		t.Helper()
		rig.Throughout(t, 3*time.Second, func() error {
			said, ok := publish(t, sim, name, c, "dt/"+name+"/test")
			if got := sim.CertificateStatus(rig.CertificateID(t, c.Cert)); ok || got != "PENDING_ACTIVATION" {
				return fmt.Errorf("%s got in: its certificate is %s, and mosquitto_pub said %s", name, got, said)
			}
			return nil
		})
	}
	stay("gw-2", second)
	stay("gw-3", foreign)

	// The status tells it, and deploy mends it.
	if out := sim.Cloud(t, "status"); !strings.Contains(out, "it is disabled") {
		t.Errorf("the status does not speak of the rule:\n%s", out)
	}
	deploy(t, sim, oursID)
	getIn(t, sim, "gw-2", second, "dt/gw-2/test")
	want(t, "a certificate of a CA without a rule", aws.status(t, rig.CertificateID(t, foreign.Cert)), "PENDING_ACTIVATION")
}
