package peers

import (
	"strconv"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/swtpmtest"
	"github.com/jitr-agent/jitr-agent/test/rig"
)

// TestMosquitto: the agent straight at a broker whose TLS is OpenSSL's, with
// every kind of key and both versions of TLS. To the agent a broker that takes
// its certificate at once is an activation that was quick.
func TestMosquitto(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, tls, key, algorithm string }{
		{"TLS 1.2, TPM, P-256", "1.2", "tpm", "ecdsa-p256"},
		{"TLS 1.2, TPM, RSA", "1.2", "tpm", "rsa-2048"},
		{"TLS 1.3, TPM, P-256", "1.3", "tpm", "ecdsa-p256"},
		{"TLS 1.3, file, RSA", "1.3", "file", "rsa-2048"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ca := rig.NewCA(t)
			broker := startMosquitto(t, ca.Cert, "tls_version tlsv"+tt.tls)
			observer := broker.observe(t)
			settings := map[string]string{
				"identity.key": strconv.Quote(tt.key), "identity.algorithm": strconv.Quote(tt.algorithm),
				"cloud.tls_max": strconv.Quote(tt.tls), "telemetry.interval": `"1s"`,
			}
			if tt.key == "tpm" {
				settings["identity.tpm_device"] = strconv.Quote(swtpmtest.Start(t).Device)
			}
			agent := rig.NewAgent(t, endpoint(broker.TLS, broker.Server), settings)
			id := agent.Enrol(ca, "gw-1")
			agent.Start()

			init := observer.awaitInit(t, soon, "gw-1")
			if err := contains(init.Payload, id, `"key_provider":"`+tt.key+`"`); err != nil {
				t.Error(err)
			}
			online := agent.Await(soon, "online")
			if got := online.At(t, "cloud.tls_version"); got != tt.tls {
				t.Errorf("the status says TLS %v, want %s", got, tt.tls)
			}
			// What mosquitto says: as whom, by which version of MQTT, with what.
			if err := contains(broker.Stderr.String(), " as gw-1 (p5, c1, k60)"); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRSAInTheTPM: TLS 1.3 has no RSA signatures but PSS, which the TPM's
// signer does not make. With such a key the agent offers TLS 1.2 alone, whatever
// tls_max is; a server that wants more is a matter of TLS, and no activation.
func TestRSAInTheTPM(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		options      []string
		state, cause any
	}{
		"server of both versions": {nil, "online", nil},
		"server of TLS 1.3 alone": {[]string{"tls_version tlsv1.3"}, "connecting", "tls"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca := rig.NewCA(t)
			broker := startMosquitto(t, ca.Cert, tt.options...)
			agent := rig.NewAgent(t, endpoint(broker.TLS, broker.Server), map[string]string{
				"identity.key": `"tpm"`, "identity.algorithm": `"rsa-2048"`, "cloud.tls_max": `"1.3"`,
				"identity.tpm_device": strconv.Quote(swtpmtest.Start(t).Device),
			})
			agent.Enrol(ca, "gw-1")
			agent.Start()
			status := awaitCause(t, agent, tt.state, tt.cause)
			if tt.cause == nil && status.At(t, "cloud.tls_version") != "1.2" {
				t.Errorf("online by TLS %v", status.At(t, "cloud.tls_version"))
			}
		})
	}
}

// TestMosquittoOfAnotherCA is the negative control: the broker trusts another
// CA, so nothing may come, and the agent waits as for an activation.
func TestMosquittoOfAnotherCA(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"1.2", "1.3"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			broker := startMosquitto(t, rig.NewCA(t).Cert, "tls_version tlsv"+version)
			observer := broker.observe(t)
			agent := rig.NewAgent(t, endpoint(broker.TLS, broker.Server), file, map[string]string{"cloud.tls_max": strconv.Quote(version)})
			agent.Enrol(rig.NewCA(t), "gw-1")
			agent.Start()
			awaitCause(t, agent, "pending-activation", "pending")
			observer.silent(t, broker, 3*time.Second)
		})
	}
}

// TestServerOfAnotherCA is the other one: the agent does not trust the broker,
// which would let it in.
func TestServerOfAnotherCA(t *testing.T) {
	t.Parallel()
	ca := rig.NewCA(t)
	broker := startMosquitto(t, ca.Cert)
	observer := broker.observe(t)
	agent := rig.NewAgent(t, endpoint(broker.TLS, serverCert(t)), file)
	agent.Enrol(ca, "gw-1")
	agent.Start()
	awaitCause(t, agent, "connecting", "server-untrusted")
	observer.silent(t, broker, 2*time.Second)
}
