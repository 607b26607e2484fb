package report

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/jitr-agent/jitr-agent/internal/clock"
	"github.com/jitr-agent/jitr-agent/pkg/identity"
	"github.com/jitr-agent/jitr-agent/pkg/jitr"
)

// newReport makes one that writes into a directory of the test and whose lines
// can be read.
func newReport(t *testing.T, fill func(*Status)) (*Report, *observer.ObservedLogs) {
	t.Helper()
	core, lines := observer.New(zap.InfoLevel)
	return New(Config{
		Dir: t.TempDir(), ConfigFile: "/etc/jitr-agent/agent.toml", StateDir: "/var/lib/jitr-agent", Version: "1.2.3",
		Log: zap.New(core), TPMDevice: "/dev/tpmrm0", Proxy: "http://gw@proxy:3128", Fill: fill,
	}), lines
}

// said are the new lines, as "level message".
func said(lines *observer.ObservedLogs) []string {
	all := []string{}
	for _, e := range lines.TakeAll() {
		all = append(all, e.Level.String()+" "+e.Message)
	}
	return all
}

// who is an identity with a CA behind it.
func who(t *testing.T) *identity.Identity {
	t.Helper()
	var chain []*x509.Certificate
	for _, name := range []string{"gw-1", "CA"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, c)
	}
	return &identity.Identity{ThingName: "gw-1", Provider: "tpm", Algorithm: "ecdsa-p256", Chain: chain}
}

// script plays a connection loop for a report.
type script struct {
	*Report
	snap jitr.Snapshot
}

func newScript(t *testing.T, r *Report) *script {
	t.Helper()
	return &script{Report: r, snap: jitr.Snapshot{
		State: jitr.Starting, Since: clock.Boot(), SinceAt: time.Now(),
		Endpoint: jitr.Endpoint{Host: "endpoint", Port: 8883}, Identity: who(t),
		ClockOK: true, Floor: time.Now().Add(-time.Hour),
	}}
}

// begin is the start of an attempt.
func (s *script) begin() {
	s.snap.Attempts.Count++
	s.snap.Attempts.LastAt = time.Now()
	if s.snap.Attempts.Count == 1 {
		s.snap.Attempts.FirstAt = time.Now()
	}
	s.snap.Next, s.snap.Step, s.snap.Recovered = 0, 0, nil
	s.Observe(s.snap)
}

// fail is its end, after lasted since the first one, on a schedule whose step
// is step.
func (s *script) fail(state jitr.State, cause jitr.Cause, phase jitr.Phase, err error, lasted, step time.Duration) {
	s.snap.State, s.snap.Cause, s.snap.Err, s.snap.Link = state, cause, err, nil
	s.snap.Attempts.LastPhase, s.snap.Attempts.For = phase, lasted
	s.snap.Next, s.snap.Step = clock.Boot()+step, step
	s.Observe(s.snap)
}

// enter is a state with a connection.
func (s *script) enter(state jitr.State) {
	if s.snap.Link == nil {
		s.snap.Link = &jitr.Link{Port: 8883, TLSVersion: "1.2", ConnectedAt: time.Now(), Connected: clock.Boot(), ReceiveMaximum: 100}
	}
	s.snap.State, s.snap.Cause, s.snap.Err, s.snap.Next, s.snap.Step = state, "", nil, 0, 0
	s.Observe(s.snap)
	s.snap.Recovered = nil
}

// succeed is what success does to the counts.
func (s *script) succeed(lasted time.Duration) {
	done := s.snap.Attempts
	done.For = lasted
	s.snap.Recovered, s.snap.Attempts = &done, jitr.Attempts{}
}

// onDisk is status.json as it stands.
func onDisk(t *testing.T, r *Report) map[string]any {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(r.cfg.Dir, StatusFile))
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	return got
}
