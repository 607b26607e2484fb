package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/test/rig"
)

// TestNewCertificateIsProvedThenPromoted: a certificate that is imported while
// another one is in use changes nothing until the cloud lets it in. What is
// pending stays beside the old one, for as long as the operator takes.
func TestNewCertificateIsProvedThenPromoted(t *testing.T) {
	t.Parallel()
	const thing = "gw-replace"
	sim := rig.StartSim(t)
	observer := sim.Observe(t, "init/#")
	agent := rig.NewAgent(t, sim.Settings(), file)
	old := agent.Enrol(sim.CA, thing)
	agent.Start()
	awaitStatus(t, sim, old, "PENDING_ACTIVATION")
	sim.Activate(old, rig.AllowAll)
	agent.Await(soon, "online")

	csr := filepath.Join(rig.TempDir(t), "again.csr")
	agent.MustRun("csr", "--renew", "--out", csr)
	cert := sim.CA.Renew(t, csr)
	id := rig.CertificateID(t, cert)
	before := agent.File("device.crt")
	agent.MustRun("import", "--cert", cert)
	agent.Signal(syscall.SIGUSR1)

	// Control: as long as nobody activates it, the old one stays.
	awaitStatus(t, sim, id, "PENDING_ACTIVATION")
	rig.Throughout(t, 3*time.Second, func() error {
		s := agent.Status()
		if s.At(t, "state") != "online" || s.At(t, "identity.certificate_id") != old || agent.File("device.crt") != before {
			return fmt.Errorf("%v with %v, while the new certificate is pending", s.At(t, "state"), s.At(t, "identity.certificate_id"))
		}
		return nil
	})
	if got := agent.Status().At(t, "identity.next.certificate_id"); got != id {
		t.Errorf("identity.next is %v, want %s", got, id)
	}

	sim.Activate(id, rig.AllowAll)
	rig.Eventually(t, soon, func() error {
		s := agent.Status()
		if s.At(t, "state") != "online" || s.At(t, "identity.certificate_id") != id || s.At(t, "identity.next") != nil {
			return fmt.Errorf("%v with %v, next %v", s.At(t, "state"), s.At(t, "identity.certificate_id"), s.At(t, "identity.next"))
		}
		return nil
	})
	if agent.File("next.crt") != "" || agent.File("device.crt") == before {
		t.Error("the proved certificate is not in the place of the old one")
	}
	rig.Eventually(t, soon, func() error {
		inits := observer.Messages("init/")
		if len(inits) != 2 {
			return fmt.Errorf("%d inits, want one for each certificate", len(inits))
		}
		var last struct {
			CertificateID string `json:"certificate_id"`
			Replaces      string `json:"replaces"`
		}
		if err := json.Unmarshal(inits[1].Payload, &last); err != nil {
			return err
		}
		if last.CertificateID != id || last.Replaces != old {
			return fmt.Errorf("the second init is of %s and replaces %s, want %s and %s", last.CertificateID, last.Replaces, id, old)
		}
		return nil
	})
}
