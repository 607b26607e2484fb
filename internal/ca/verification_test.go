package ca

import (
	"crypto/x509"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jitr-agent/jitr-agent/internal/certs"
)

func TestVerificationCertificate(t *testing.T) {
	c := newTestCA(t)
	code := strings.Repeat("0123456789abcdef", 4)
	cert, err := c.VerificationCertificate(code, now)
	if err != nil {
		t.Fatal(err)
	}
	if cert.Subject.CommonName != code || cert.IsCA || certs.SameKey(cert.PublicKey, c.Certificate().PublicKey) {
		t.Errorf("CN %q, IsCA %v, or its key is the CA's", cert.Subject.CommonName, cert.IsCA)
	}
	opensslVerify(t, filepath.Join(c.dir, "ca.crt"), []*x509.Certificate{cert})

	for _, bad := range []string{"", "CODE", "12 34", strings.Repeat("a", 65), "{\"registrationCode\": \"ab\"}"} {
		if _, err := c.VerificationCertificate(bad, now); !errors.Is(err, ErrBadCode) {
			t.Errorf("%q: err = %v, want ErrBadCode", bad, err)
		}
	}
}
