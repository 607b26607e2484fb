package service

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/swtpmtest"
	"github.com/jitr-agent/jitr-agent/test/rig"
)

// enrol does what the technician does beside the running service, and returns
// the certificateId.
func (b *box) enrol(sim *rig.Sim, thing string) string {
	b.t.Helper()
	b.run("jitr-agent", "csr", "--subject", "CN="+thing, "--out", "/share/gw.csr")
	cert := sim.CA.Sign(b.t, filepath.Join(b.share, "gw.csr"))
	b.run("jitr-agent", "import", "--cert", "/share/"+filepath.Base(cert))
	return rig.CertificateID(b.t, cert)
}

// configureFor points the agent at an emulator.
func (b *box) configureFor(sim *rig.Sim, lines ...string) {
	b.t.Helper()
	b.sh("cp " + b.give(sim.ServerCA) + " /etc/jitr-agent/server-ca.pem")
	b.configure(append([]string{
		fmt.Sprintf("cloud.endpoint = %q", sim.MQTT),
		`cloud.server_ca = "/etc/jitr-agent/server-ca.pem"`,
	}, lines...)...)
}

// From the installation to telemetry, as root beside the running service; then
// what journal, status and signals give.
func TestEnrol(t *testing.T) { //nolint:tparallel // each part goes on where the one before has ended
	t.Parallel()
	needRoot(t)
	sim := rig.StartSim(t, "--activate-after", "1s")
	b := boot(t)
	b.dpkg(deb(t))
	b.configureFor(sim, `identity.key = "file"`)
	b.run("systemctl", "restart", "jitr-agent.service")
	b.await("waiting-for-identity")
	id := b.enrol(sim, "gw-1")
	b.await("online")
	if got := sim.CertificateStatus(id); got != "ACTIVE" {
		t.Errorf("the registry has the certificate as %s", got)
	}
	rig.Eventually(t, soon, func() error {
		if text := b.property("StatusText"); !strings.HasPrefix(text, "Online at "+sim.MQTT) {
			return fmt.Errorf("systemd has the status %q", text)
		}
		return nil
	})
	if got := b.property("NRestarts"); got != "0" {
		t.Errorf("systemd restarted it %s times", got)
	}

	t.Run("journal fields", func(t *testing.T) {
		entries := b.journal()
		for _, want := range []map[string]string{
			{"JITR_EVENT": "starting"},
			{"JITR_EVENT": "waiting-for-configuration", "JITR_STATE": "waiting-for-configuration"},
			{"JITR_EVENT": "no-key", "JITR_STATE": "waiting-for-identity", "JITR_CAUSE": "no-key"},
			{
				"JITR_EVENT": "pending", "JITR_STATE": "pending-activation", "JITR_CAUSE": "pending", "JITR_PHASE": "connack",
				"JITR_ATTEMPT": "1", "JITR_NEXT_RETRY_MS": "", "JITR_CERTIFICATE_ID": id, "JITR_CA_CERTIFICATE_ID": rig.CertificateID(t, sim.CA.Cert),
				"JITR_ENDPOINT": sim.MQTT, "JITR_THING": "gw-1",
			},
			{"JITR_EVENT": "online", "JITR_STATE": "online", "JITR_PREVIOUS_STATE": "initializing", "JITR_THING": "gw-1", "JITR_CERTIFICATE_ID": id},
		} {
			if !found(entries, want) {
				t.Errorf("no entry has %v", want)
			}
		}
		for _, e := range entries {
			priority, _ := e["PRIORITY"].(string)
			if e["_TRANSPORT"] != "journal" || e["_SYSTEMD_UNIT"] != "jitr-agent.service" {
				t.Errorf("not sent by the service in journald's own protocol: %v", e)
			}
			if priority != "7" && (e["MESSAGE_ID"] == nil || e["JITR_EVENT"] == nil) {
				t.Errorf("above debug, and without a row in the table: %v", e)
			}
		}
	})

	t.Run("catalog", func(t *testing.T) {
		out := b.run("journalctl", "-x", "--no-pager", "--identifier=jitr-agent")
		entries := strings.Count(out, " jitr-agent[")
		for _, text := range []string{"\n░░ Subject: ", "\n░░ Documentation: man:jitr-agent(1)", "\n░░ What to do: "} {
			if n := strings.Count(out, text); n != entries || n == 0 {
				t.Errorf("%d entries, %d with %q:\n%s", entries, n, text, out)
			}
		}
		if regexp.MustCompile(`@[A-Z_]+@`).MatchString(out) {
			t.Errorf("a field is not filled in:\n%s", out)
		}
	})

	t.Run("an unprivileged user", func(t *testing.T) {
		if r := b.nobody("jitr-agent", "status"); r.Code != 0 || !strings.HasPrefix(r.Stdout, "Online at ") {
			t.Error(r)
		}
		for _, file := range []string{"/var/lib/jitr-agent/device.key", "/etc/jitr-agent/agent.toml"} {
			if r := b.nobody("cat", file); r.Code == 0 {
				t.Errorf("may read %s", file)
			}
		}
	})

	t.Run("stop", func(t *testing.T) {
		began := time.Now()
		b.run("systemctl", "stop", "jitr-agent.service")
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it stopped after %s; want 5 s at most", took)
		}
		if got := b.property("Result"); got != "success" {
			t.Errorf("its end was %s", got)
		}
		if r := b.nobody("jitr-agent", "status"); r.Code != 3 || !strings.Contains(r.Stdout, "signal terminated") {
			t.Error(r)
		}
		b.run("systemctl", "start", "jitr-agent.service")
		b.await("online")
	})

	t.Run("kill -9", func(t *testing.T) {
		b.run("systemctl", "kill", "--signal=SIGKILL", "jitr-agent.service")
		rig.Eventually(t, soon, func() error { // before systemd starts it again, 10 s later
			r := b.nobody("jitr-agent", "status")
			if r.Code != 3 || !strings.Contains(r.Stdout, "without a word") {
				return fmt.Errorf("status does not tell: %s", r)
			}
			return nil
		})
		b.awaitProperty(2*soon, "NRestarts", "1")
		b.await("online")
	})
}

// found says whether an entry has these fields; "" stands for any value.
func found(entries []map[string]any, want map[string]string) bool {
	for _, e := range entries {
		ok := true
		for name, value := range want {
			got, has := e[name].(string)
			ok = ok && has && (value == "" || got == value)
		}
		if ok {
			return true
		}
	}
	return false
}

// The key is in a TPM that the service reaches as a member of tss. A container
// has no device node, so it is a socket.
func TestEnrol_tpm(t *testing.T) {
	t.Parallel()
	needRoot(t)
	tpm := swtpmtest.Start(t)
	socket := strings.TrimPrefix(tpm.Device, "unix:")
	if err := os.Chmod(filepath.Dir(socket), 0o755); err != nil {
		t.Fatal(err)
	}
	sim := rig.StartSim(t, "--activate-after", "1s")
	b := boot(t, "--bind="+filepath.Dir(socket)+":/srv/tpm")
	inside := "/srv/tpm/" + filepath.Base(socket)
	b.dpkg(deb(t))
	b.configureFor(sim, `identity.key = "tpm"`, fmt.Sprintf("identity.tpm_device = %q", "unix:"+inside))

	b.sh("chown root:root " + inside + " && chmod 0600 " + inside)
	b.run("systemctl", "restart", "jitr-agent.service")
	b.await("waiting-for-identity")
	b.enrol(sim, "gw-tpm")
	rig.Eventually(t, soon, func() error {
		if cause := b.status().At(t, "cause"); cause != "tpm-denied" {
			return fmt.Errorf("with a TPM of root's alone the cause is %v", cause)
		}
		return nil
	})

	b.sh("chgrp tss " + inside + " && chmod 0660 " + inside)
	b.run("systemctl", "kill", "--signal=SIGUSR1", "jitr-agent.service")
	s := b.await("online")
	if got := s.At(t, "identity.provider"); got != "tpm" {
		t.Errorf("the key is in %v", got)
	}
	if key := b.sh("cat /var/lib/jitr-agent/device.key"); !strings.Contains(key, "-----BEGIN TSS2 PRIVATE KEY-----") || strings.Contains(key, "-----BEGIN PRIVATE KEY-----") {
		t.Errorf("device.key is not a key of the TPM alone:\n%s", key)
	}
}
