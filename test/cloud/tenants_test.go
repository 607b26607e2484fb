package cloud

import (
	"strings"
	"testing"

	"github.com/jitr-agent/jitr-agent/test/rig"
)

// TestTenants: two customers, a CA and a topic prefix for each. What a gateway
// may do as itself, its neighbour of the other tenant may not.
func TestTenants(t *testing.T) {
	t.Parallel()
	sim := rig.StartSim(t)
	aws := awsCLI{awsCLIs(t)[0], sim}
	caA, idA := registerCA(t, sim)
	caB, idB := registerCA(t, sim)
	deploy(t, sim, idA, "--tenant", "acme", "--topic-prefix", "acme")
	deploy(t, sim, idB, "--tenant", "globex", "--topic-prefix", "globex")
	a, b := caA.Issue(t, "gw-a"), caB.Issue(t, "gw-b")
	observer := sim.Observe(t, "acme/#", "globex/#", "dt/#", "$aws/things/gw-a/shadow/#")
	getIn(t, sim, "gw-a", a, "acme/dt/gw-a/test")
	getIn(t, sim, "gw-b", b, "globex/dt/gw-b/test")
	for id, policy := range map[string]string{rig.CertificateID(t, a.Cert): "jitr-acme", rig.CertificateID(t, b.Cert): "jitr-globex"} {
		want(t, "its policies", aws.must(t, "iot", "list-attached-policies", "--target", certARN(id), "--query", "policies[].policyName"), policy)
	}
	rig.Eventually(t, soon, func() error { return seen(observer, "acme/dt/gw-a/test", "gw-a") })

	// A client id has one CONNECT a second. A wait for that is no refusal, so
	// it is made again.
	attempt := func(t *testing.T, do func() string) (said string) {
		t.Helper()
		rig.Eventually(t, soon, func() error {
			if said = do(); strings.Contains(said, "quota exceeded") || strings.Contains(said, "Quota exceeded") {
				return errThrottled
			}
			return nil
		})
		return said
	}
	pub := func(clientID string, c rig.Credentials, topic string) func() string {
		return func() string { said, _ := publish(t, sim, clientID, c, topic); return said }
	}
	sub := func(clientID string, c rig.Credentials, filter string) func() string {
		return func() string {
			r := client(t, sim, "mosquitto_sub", clientID, c, "-t", filter, "-d", "-W", "1")
			return r.Stdout + r.Stderr
		}
	}
	const (
		subscribed   = "Subscribed (mid: 1): 1"
		subRefused   = "Subscribed (mid: 1): 135" // 0x87
		acknowledged = "RC:0)"
		pubRefused   = "RC:135)"
		turnedAway   = "Not authorized" // the CONNACK
	)
	for _, tt := range []struct {
		name string
		do   func() string
		want string
	}{
		{"A publishes", pub("gw-a", a, "acme/dt/gw-a/own"), acknowledged},
		{"B publishes as A", pub("gw-b", b, "acme/dt/gw-a/stolen"), pubRefused},
		{"B publishes under A's prefix", pub("gw-b", b, "acme/dt/gw-b/stolen"), pubRefused},
		{"B publishes A's init", pub("gw-b", b, "acme/init/gw-a"), pubRefused},
		{"B writes A's shadow", pub("gw-b", b, "$aws/things/gw-a/shadow/update"), pubRefused},
		{"A writes its shadow", pub("gw-a", a, "$aws/things/gw-a/shadow/update"), acknowledged},
		{"A subscribes to its shadow", sub("gw-a", a, "$aws/things/gw-a/shadow/update/delta"), subscribed},
		{"B subscribes to A's shadow", sub("gw-b", b, "$aws/things/gw-a/shadow/update/delta"), subRefused},
		{"B subscribes to A's topics", sub("gw-b", b, "acme/#"), subRefused},
		{"B subscribes to everything", sub("gw-b", b, "#"), subRefused},
		{"B connects as A", pub("gw-a", b, "acme/dt/gw-a/stolen"), turnedAway},
	} {
		if said := attempt(t, tt.do); !strings.Contains(said, tt.want) {
			t.Errorf("%s: mosquitto says %q, want %q in it", tt.name, said, tt.want)
		}
	}

	// B's CA signs a certificate with A's name. The function does not give it
	// A's thing, and A goes on.
	forged := caB.Issue(t, "gw-a")
	rig.Eventually(t, soon, func() error {
		publish(t, sim, "gw-a", forged, "acme/dt/gw-a/stolen")
		return status(sim, rig.CertificateID(t, forged.Cert), "INACTIVE")
	})
	want(t, "A's thing", aws.must(t, "iot", "list-thing-principals", "--thing-name", "gw-a", "--query", "principals"), certARN(rig.CertificateID(t, a.Cert)))
	if said := attempt(t, pub("gw-a", a, "acme/dt/gw-a/last")); !strings.Contains(said, acknowledged) {
		t.Errorf("after the forgery A is refused: %s", said)
	}
	rig.Eventually(t, soon, func() error { return seen(observer, "acme/dt/gw-a/last", "gw-a") })
	for _, m := range observer.Messages("") {
		if strings.HasSuffix(m.Topic, "/stolen") || strings.HasPrefix(m.Topic, "acme/") && string(m.Payload) != "gw-a" {
			t.Errorf("the observer saw %s on %s", m.Payload, m.Topic)
		}
	}
}
