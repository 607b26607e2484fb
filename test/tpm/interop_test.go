package tpm

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jitr-agent/jitr-agent/internal/swtpmtest"
	"github.com/jitr-agent/jitr-agent/test/rig"
)

// shBlock is a fenced block marked sh.
var shBlock = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// TestPage runs docs/tpm.md, all its sh blocks in their order, on a software
// TPM. The last of them, mosquitto_pub, then connects to the emulator.
func TestPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/tpm.md")
	if err != nil {
		t.Fatal(err)
	}
	sim := rig.StartSim(t, "--activate-after", "0s")
	tpm := swtpmtest.Start(t)
	agent := rig.NewAgent(t, sim.Settings(), in(tpm, "tpm"))
	host, port, _ := strings.Cut(sim.MQTT, ":")
	if host != "127.0.0.1" {
		t.Fatalf("the emulator is at %s", sim.MQTT)
	}
	here := strings.NewReplacer(
		"/var/lib/jitr-agent", agent.StateDir,
		"jitr-agent csr", rig.Bin(t, "jitr-agent")+" --config "+agent.ConfigFile+" --state-dir "+agent.StateDir+" csr",
		"xxxx-ats.iot.us-west-2.amazonaws.com", "localhost", "-p 8883", "-p "+port,
		"/etc/ssl/certs/ca-certificates.crt", sim.ServerCA,
	)
	var alone, managed strings.Builder
	for _, block := range shBlock.FindAllStringSubmatch(string(page), -1) {
		script := &alone
		if strings.Contains(block[1], "mosquitto_pub") {
			script = &managed
		}
		script.WriteString(here.Replace(block[1]))
	}
	dir := rig.TempDir(t)
	run := func(env string, script string, wrapper ...string) rig.Result {
		t.Helper()
		args := append(wrapper, "timeout", "60", "bash", "-euxo", "pipefail", "-c", "cd "+dir+"\n"+script)
		r := rig.RunEnv(t, []string{"TPM2TOOLS_TCTI=" + env, "TPM2OPENSSL_TCTI=" + env}, args[0], args[1:]...)
		if r.Code != 0 {
			t.Fatalf("%s\n(apt-get install openssl tpm2-openssl tpm2-tools tpm2-abrmd dbus-daemon mosquitto-clients)", r)
		}
		return r
	}
	r := run(tpm.TCTI, alone.String())
	if !strings.Contains(r.Stdout, "Verified OK") || !strings.Contains(r.Stderr, "signed by the key that was there (tpm)") {
		t.Error(r)
	}

	// The key that tpm2-tools made is the agent's.
	cert := sim.CA.Sign(t, filepath.Join(dir, "gateway.csr"))
	agent.MustRun("import", "--cert", cert)
	agent.Start()
	agent.Await(soon, "online")
	agent.Stop()
	id := rig.CertificateID(t, cert)
	before := accepted(sim, id)

	// tpm2-abrmd is to a software TPM what the kernel is to /dev/tpmrm0. It
	// keeps the connection, so nobody else may use this TPM meanwhile. The
	// second is AWS IoT's quota: one CONNECT of a client id a second.
	run("tabrmd:bus_type=session", "tpm2-abrmd --session --allow-root --tcti="+tpm.TCTI+" & manager=$!\n"+
		"trap 'kill $manager; wait $manager || true' EXIT\n"+
		"until tpm2_getcap properties-fixed >/dev/null 2>&1; do kill -0 $manager; done\nsleep 1.1\n"+managed.String(), "dbus-run-session", "--")
	rig.Eventually(t, soon, func() error {
		if n := accepted(sim, id); n != before+1 {
			return fmt.Errorf("%d connections were accepted, %d before mosquitto_pub", n, before)
		}
		return nil
	})
}

// accepted is how many connections with this certificate were let in.
func accepted(sim *rig.Sim, id string) (n int) {
	for _, a := range sim.Attempts(id) {
		if a.Outcome == "accepted" {
			n++
		}
	}
	return n
}
