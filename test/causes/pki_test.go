package causes

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/test/rig"
)

// thing is the name of every gateway here: each has an endpoint of its own.
const thing = "gw-1"

// authority is a CA.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	made := issue(t, nil, name, func(c *x509.Certificate) {
		c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign
	})
	return &authority{made.Leaf, made.PrivateKey.(*ecdsa.PrivateKey)}
}

// issue makes a key and a certificate, valid since two days and for two more,
// with its CA's behind it. by is nil for a CA. edit may be nil.
func issue(t testing.TB, by *authority, cn string, edit func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	const days = 48 * time.Hour
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: cn}, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-days), NotAfter: time.Now().Add(days), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if edit != nil {
		edit(template)
	}
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	made := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
	if by != nil {
		made.Certificate = append(made.Certificate, by.cert.Raw)
	}
	return made
}

// endpointCert is what a server presents that is what it says.
func endpointCert(t testing.TB, by *authority, edit func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	return issue(t, by, "endpoint", func(c *x509.Certificate) {
		c.DNSNames = []string{"localhost"}
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		if edit != nil {
			edit(c)
		}
	})
}

func writePEM(t testing.TB, path, kind string, ders ...[]byte) {
	t.Helper()
	var data []byte
	for _, der := range ders {
		data = append(data, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})...)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// enrol puts key and certificate where import does. It checks nothing, so a
// certificate can be one that import refuses.
func enrol(t testing.TB, agent *rig.Agent, device tls.Certificate) {
	t.Helper()
	if err := os.MkdirAll(agent.StateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(device.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, filepath.Join(agent.StateDir, "device.key"), "PRIVATE KEY", key)
	writePEM(t, filepath.Join(agent.StateDir, "device.crt"), "CERTIFICATE", device.Certificate...)
}
