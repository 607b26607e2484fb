package cloud

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/test/rig"
)

// howto are the files that the how-to's openssl lines make, for gw-1.
type howto struct {
	dir         string
	caCert, key string // of the CA
	caID, id    string
}

func makeHowto(t *testing.T) howto {
	t.Helper()
	dir := rig.TempDir(t)
	rig.MustRun(t, "bash", "../peers/testdata/howto.sh", dir, "/CN=gw-1")
	h := howto{dir: dir, caCert: filepath.Join(dir, "CA", "CAroot.pem"), key: filepath.Join(dir, "CA", "CAroot.key")}
	h.caID, h.id = rig.CertificateID(t, h.caCert), rig.CertificateID(t, h.device("deviceCert.crt"))
	return h
}

func (h howto) device(name string) string { return filepath.Join(h.dir, "device", name) }

// sign is the how-to's line for a device's certificate, and its cat behind it.
func (h howto) sign(t *testing.T, csr string) (bundle string) {
	t.Helper()
	rig.MustRun(t, "openssl", "x509", "-req", "-in", csr, "-CA", h.caCert, "-CAkey", h.key, "-CAcreateserial", "-out", csr+".crt", "-days", "365", "-sha256")
	write(t, csr+".bundle", rig.MustRun(t, "cat", csr+".crt", h.caCert))
	return csr + ".bundle"
}

// registerByHand is §1 of the how-to, command by command.
func (h howto) registerByHand(t *testing.T, aws awsCLI) {
	t.Helper()
	in := func(name string) string { return filepath.Join(h.dir, "CA", name) }
	code := aws.must(t, "iot", "get-registration-code", "--query", "registrationCode")
	rig.MustRun(t, "openssl", "genrsa", "-out", in("Verify.key"), "2048")
	rig.MustRun(t, "openssl", "req", "-new", "-key", in("Verify.key"), "-subj", "/CN="+code, "-out", in("Verify.csr"))
	rig.MustRun(t, "openssl", "x509", "-req", "-in", in("Verify.csr"), "-CA", h.caCert, "-CAkey", h.key, "-CAcreateserial", "-out", in("Verify.crt"), "-days", "365", "-sha256")
	register := []string{
		"iot", "register-ca-certificate", "--ca-certificate", "file://" + h.caCert,
		"--verification-certificate", "file://" + in("Verify.crt"), "--query", "certificateId",
	}
	want(t, "the CA's certificateId", aws.must(t, register...), h.caID)
	if again := aws.run(t, register...); again.Code == 0 || !strings.Contains(again.Stderr, "ResourceAlreadyExistsException") {
		t.Errorf("registered twice: %s", again)
	}
	state := func() string {
		return aws.must(t, "iot", "describe-ca-certificate", "--certificate-id", h.caID, "--query", "certificateDescription.[status,autoRegistrationStatus]")
	}
	want(t, "the CA, registered", state(), "INACTIVE\tDISABLE")
	aws.must(t, "iot", "update-ca-certificate", "--certificate-id", h.caID, "--new-status", "ACTIVE")
	aws.must(t, "iot", "update-ca-certificate", "--certificate-id", h.caID, "--new-auto-registration-status", "ENABLE")
	want(t, "the CA, updated", state(), "ACTIVE\tENABLE")
}

// howtoPolicy is §3 of the how-to.
const howtoPolicy = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iot:Connect","iot:Publish","iot:UpdateThingShadow"],"Resource":["arn:aws:iot:us-east-1:123456789012:*"]}]}`

// TestHowTo goes the whole path, each way that there is to register the CA:
// by the aws CLI, and by jitrctl. The gateway is switched on before anything is
// deployed, and stays pending: that it then gets in is the function's doing.
func TestHowTo(t *testing.T) {
	t.Parallel()
	clis := awsCLIs(t)
	last := clis[len(clis)-1]
	type way struct {
		name, aws string
		byHand    bool
		flags     []string
	}
	ways := []way{{"jitrctl, direct", last, false, nil}, {"jitrctl, queue", clis[0], false, []string{"--queue"}}}
	for _, cli := range clis {
		ways = append(ways, way{"aws CLI " + cli, cli, true, nil})
	}
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			files := makeHowto(t)
			sim := rig.StartSim(t)
			aws := awsCLI{w.aws, sim}
			observer := sim.Observe(t, "init/#")
			if w.byHand {
				files.registerByHand(t, aws)
				aws.must(t, "iot", "create-policy", "--policy-name", "JustInTime", "--policy-document", howtoPolicy)
			} else {
				sim.Cloud(t, "register-ca", "--ca", files.caCert, "--key", files.key)
			}

			agent := rig.NewAgent(t, sim.Settings(), file)
			agent.MustRun("import", "--cert", files.device("deviceCertAndCA.crt"), "--key", files.device("deviceCert.key"))
			agent.Start()
			agent.Await(soon, "pending-activation")
			rig.Throughout(t, 2*time.Second, func() error {
				if got := sim.CertificateStatus(files.id); got != "PENDING_ACTIVATION" || len(observer.Messages("")) > 0 {
					return fmt.Errorf("nothing is deployed, and the certificate is %s; init messages: %d", got, len(observer.Messages("")))
				}
				return nil
			})

			deploy(t, sim, files.caID, w.flags...)
			agent.Signal(syscall.SIGUSR1) // try now
			agent.Await(soon, "online")
			awaitInit(t, observer, files.id, "")
			want(t, "the certificate", aws.status(t, files.id), "ACTIVE")
			want(t, "its policies", aws.must(t, "iot", "list-attached-policies", "--target", certARN(files.id), "--query", "policies[].policyName"), "jitr-"+short(files.caID))
			want(t, "its things", aws.must(t, "iot", "list-principal-things", "--principal", certARN(files.id), "--query", "things"), "gw-1")
			lines := aws.must(t, "logs", "filter-log-events", "--log-group-name", "/aws/lambda/jitr-activator", "--query", "events[].message")
			if !strings.Contains(lines, files.id) {
				t.Errorf("the function's log does not speak of the certificate:\n%s", lines)
			}
			renew(t, sim, aws, agent, observer, files)
		})
	}
}

// renew gives the agent a second certificate. The rule on the init topic takes
// the first one out of service.
func renew(t *testing.T, sim *rig.Sim, aws awsCLI, agent *rig.Agent, observer *rig.Observer, files howto) {
	t.Helper()
	csr := filepath.Join(rig.TempDir(t), "next.csr")
	agent.MustRun("csr", "--renew", "--out", csr)
	bundle := files.sign(t, csr)
	next := rig.CertificateID(t, bundle)
	agent.MustRun("import", "--cert", bundle)
	agent.Signal(syscall.SIGUSR1)
	awaitInit(t, observer, next, files.id)
	rig.Eventually(t, soon, func() error {
		if got := sim.CertificateStatus(files.id); got != "INACTIVE" {
			return fmt.Errorf("the replaced certificate is %s, want INACTIVE", got)
		}
		return nil
	})
	agent.Await(soon, "online")
	want(t, "the certificate in use", fmt.Sprint(agent.Status().At(t, "identity.certificate_id")), next)
	want(t, "the second certificate", aws.status(t, next), "ACTIVE")
	want(t, "its policies", aws.must(t, "iot", "list-attached-policies", "--target", certARN(next), "--query", "policies[].policyName"), "jitr-"+short(files.caID))
}

// awaitInit waits for the init of a certificate, and sees what it replaces.
func awaitInit(t *testing.T, observer *rig.Observer, id, replaces string) {
	t.Helper()
	rig.Eventually(t, soon, func() error {
		for _, m := range observer.Messages("init/gw-1") {
			var init struct {
				CertificateID string `json:"certificate_id"`
				Replaces      string `json:"replaces"`
			}
			if err := json.Unmarshal(m.Payload, &init); err != nil {
				return err
			}
			if init.CertificateID != id {
				continue
			}
			if init.Replaces != replaces {
				return fmt.Errorf("the init says that it replaces %q, want %q", init.Replaces, replaces)
			}
			return nil
		}
		return errors.New("mosquitto_sub saw no init of " + id)
	})
}
