package main

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/ca"
	"github.com/jitr-agent/jitr-agent/test/rig"
	"github.com/jitr-agent/jitr-agent/test/rig/lambda"
)

// asProgram in the environment makes the test binary the program.
const asProgram = "JITR_TEST_AWS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	rig.Main(m)
}

// limit is for a run, on a busy machine.
const limit = 3 * time.Minute

// bench is the program's surroundings: an emulator, and a page to write.
type bench struct {
	sim       *rig.Sim
	dir, docs string
	zip       string
	before    map[string]int // what count saw of the new emulator
}

const page = "before\n" + tableBegin +
	"| situation | client | emulator | AWS |\n|---|---|---|---|\n| pending | MQTT 5, TLS 1.2 | old | measured there |\n" +
	tableEnd + "behind\n"

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{sim: rig.StartSim(t), dir: rig.TempDir(t), docs: rig.TempDir(t), zip: lambda.Zip(t)}
	if err := os.WriteFile(filepath.Join(b.docs, "compatibility.md"), []byte(page), 0o600); err != nil {
		t.Fatal(err)
	}
	b.before = b.count(t)
	return b
}

func (b *bench) page(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(b.docs, "compatibility.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// start starts the program; more is for its environment.
func (b *bench) start(t *testing.T, more ...string) *rig.Process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	env := append(b.sim.AWS(), asProgram+"=1", "AWS_TEST=yes", "AWS_TEST_SERVER_CA="+b.sim.ServerCA)
	return rig.StartProcess(t, append(env, more...), self, "-dir", b.dir, "-docs", b.docs, "-zip", b.zip, "-settle", "1s", "-cut", "2s")
}

// await waits until the program has printed a text.
func await(t *testing.T, p *rig.Process, text string) {
	t.Helper()
	rig.Eventually(t, limit, func() error {
		ended := !p.Running()
		if strings.Contains(p.Stdout.String(), text) {
			return nil
		}
		if ended {
			t.Fatalf("it has ended and not said %q", text)
		}
		return fmt.Errorf("it has not said %q", text)
	})
}

// lists are the kinds of things that it makes: where the emulator lists them,
// and what stands in the answer for each.
func lists() map[string]string {
	return map[string]string{
		"/cacertificates": `"certificateId"`, "/certificates": `"certificateId"`, "/policies": `"policyName"`, "/things": `"thingName"`,
		"/rules": `"ruleName"`, "/2015-03-31/functions": `"FunctionName"`,
	}
}

func (b *bench) count(t *testing.T) map[string]int {
	t.Helper()
	n := map[string]int{}
	for path, mark := range lists() {
		status, answer := b.sim.Call("GET", path, nil)
		if status != 200 {
			t.Fatalf("GET %s: %d %s", path, status, answer)
		}
		n[path] = strings.Count(string(answer), mark)
	}
	return n
}

func (b *bench) mustBeEmpty(t *testing.T) {
	t.Helper()
	for path, n := range b.count(t) {
		if n != b.before[path] {
			t.Errorf("of %s there were %d, and are %d", path, b.before[path], n)
		}
	}
}

func TestMeasures(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.start(t)
	await(t, p, "first CONNECT, function warm")
	for path, n := range b.count(t) {
		if n <= b.before[path] {
			t.Errorf("in the middle of it there is nothing new of %s: then that nothing is left shows nothing", path)
		}
	}
	if code := p.Wait(limit); code != 0 {
		t.Fatalf("exit code %d: %s", code, p.Stderr)
	}
	b.mustBeEmpty(t)

	text := b.page(t)
	cells := parse(text)
	for _, want := range []struct{ situation, client, has string }{
		{"a TLS handshake and no CONNECT", "–, TLS 1.2", "not registered"},
		{"unknown certificate, first CONNECT", "MQTT 5, TLS 1.2", "close_notify, after "},
		{"pending", "MQTT 5, TLS 1.2", "close_notify, after "},
		{"pending", "MQTT 3.1.1, TLS 1.2", "close_notify, after "},
		{"first CONNECT without the CA behind the certificate", "MQTT 5, TLS 1.2", "registered, PENDING_ACTIVATION"},
		{"first CONNECT without the CA, without SNI", "MQTT 5, TLS 1.2", "not registered"},
		{"ACTIVE without a policy", "MQTT 5, TLS 1.2", "CONNACK 0x87, close_notify, after "},
		{"ACTIVE without a policy", "MQTT 3.1.1, TLS 1.2", "close_notify, after "},
		{"the session whose client id that was", "MQTT 5, TLS 1.2", "goes on; PUBACK 0x00"},
		{"first CONNECT, function warm", "MQTT 5, TLS 1.2", "the init's PUBACK 0x00"},
		{"INACTIVE", "MQTT 5, TLS 1.3", "close_notify, after "},
		{"REVOKED", "MQTT 3.1.1, TLS 1.2", "close_notify, after "},
	} {
		if got := cells[[3]string{want.situation, want.client, "emulator"}]; !strings.HasPrefix(got, want.has) && !strings.HasSuffix(got, want.has) {
			t.Errorf("%s, %s: %q, want %q", want.situation, want.client, got, want.has)
		}
	}
	// The other column is somebody else's.
	if got := cells[[3]string{"pending", "MQTT 5, TLS 1.2", "AWS"}]; got != "measured there" {
		t.Errorf("the AWS column now says %q", got)
	}
	if got := cells[[3]string{"REVOKED", "MQTT 3.1.1, TLS 1.2", "AWS"}]; got != notRun {
		t.Errorf("the AWS column says %q of what nobody measured", got)
	}
	if !strings.HasPrefix(text, "before\n") || !strings.HasSuffix(text, "behind\n") || strings.Contains(text, "| old |") {
		t.Errorf("the page is now\n%s", text)
	}

	// The page in docs/ speaks of what is measured.
	ours, err := os.ReadFile("../../docs/compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := parse(string(ours))
	for key := range cells {
		if documented[key] == "" {
			t.Errorf("docs/compatibility.md has no row for %s, %s; make test-aws writes it", key[0], key[1])
		}
	}
}

// Interrupted and killed, it leaves nothing behind: the one at once, the other
// at the next run.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	p := b.start(t)
	await(t, p, "+ rule jitr_init") // deploy's last step
	p.Signal(syscall.SIGINT)
	if code := p.Wait(limit); code != 1 || !strings.Contains(p.Stderr.String(), "it was interrupted") {
		t.Errorf("exit code %d: %s", code, p.Stderr)
	}
	b.mustBeEmpty(t)
	if b.page(t) != page {
		t.Error("it wrote the table")
	}

	p = b.start(t)
	await(t, p, "ACTIVE without a policy")
	p.Kill()
	if n := b.count(t); n["/certificates"] == 0 || n["/cacertificates"] == b.before["/cacertificates"] {
		t.Errorf("killed, it left %v: then there is nothing to clear", n)
	}
	p = b.start(t)
	await(t, p, "everything that was made is deleted")
	if !strings.Contains(p.Stdout.String(), "an earlier run was killed") {
		t.Errorf("it does not say what it clears: %s", p.Stdout)
	}
	p.Signal(syscall.SIGTERM)
	p.Wait(limit)
	b.mustBeEmpty(t)
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	calls := func() string { _, answer := b.sim.Call("GET", "/sim/calls", nil); return string(answer) }
	before := calls()
	p := b.start(t, "AWS_TEST=y")
	if code := p.Wait(limit); code != 1 || !strings.Contains(p.Stderr.String(), "AWS_TEST=yes make test-aws") || calls() != before {
		t.Errorf("nobody has said yes: exit code %d, %s", code, p.Stderr)
	}

	// A Region in which gateways work.
	ca := rig.NewCA(t)
	b.sim.Cloud(t, "register-ca", "--dir", ca.Dir)
	b.sim.Cloud(t, "deploy", "--ca-id", rig.CertificateID(t, ca.Cert), "--zip", b.zip)
	want := b.count(t)
	p = b.start(t)
	if code := p.Wait(limit); code != 1 || !strings.Contains(p.Stderr.String(), "take another Region with AWS_REGION") {
		t.Errorf("exit code %d: %s", code, p.Stderr)
	}
	if got := b.count(t); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("a deployment that is not ours: %v before, %v now", want, got)
	}
}

// The ways to end a connection are told apart.
func TestEndings(t *testing.T) {
	t.Parallel()
	for style, want := range map[string]string{
		"fin": "close_notify", "rst": "RST", "connack-0x87": "CONNACK 0x87, close_notify",
		"alert": "TLS alert: unknown certificate in the handshake",
	} {
		t.Run(style, func(t *testing.T) {
			t.Parallel()
			sim := rig.StartSim(t, "--pending-close", style)
			by, err := ca.Open(sim.CA.Dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			d, err := issue(t.Context(), by, "gw-1", 0)
			if err != nil {
				t.Fatal(err)
			}
			root, err := os.ReadFile(sim.ServerCA)
			if err != nil {
				t.Fatal(err)
			}
			a := &account{endpoint: dialable(sim.MQTT), roots: x509.NewCertPool()}
			a.roots.AppendCertsFromPEM(root)
			o, err := a.try(t.Context(), probe{device: d})
			if err != nil || o.how != want {
				t.Errorf("%q (%v), want %q", o.how, err, want)
			}
		})
	}
}
