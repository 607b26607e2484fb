package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/certs"
)

// now is the time at which tests sign: openssl verify looks at the real clock.
var now = time.Now()

// newTestCA makes a CA of ten years in a directory of its own.
func newTestCA(t *testing.T) *CA {
	t.Helper()
	c, err := Init(t.Context(), filepath.Join(t.TempDir(), "CA"), InitOptions{CommonName: "Test CA", Algorithm: "ecdsa-p256", Days: DefaultDays, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newECKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// requestDER is a request for subject by key.
func requestDER(t *testing.T, key crypto.Signer, subject pkix.Name) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func encodeRequest(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

// request is a checked request for CN=name by key.
func request(t *testing.T, key crypto.Signer, name string) *x509.CertificateRequest {
	t.Helper()
	csr, err := ParseRequest(encodeRequest(requestDER(t, key, pkix.Name{CommonName: name})))
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

func sign(t *testing.T, c *CA, csr *x509.CertificateRequest, o SignOptions) *Issued {
	t.Helper()
	if o.Days == 0 {
		o.Days = DefaultDeviceDays
	}
	if o.Now.IsZero() {
		o.Now = now
	}
	issued, err := c.Sign(t.Context(), csr, o)
	if err != nil {
		t.Fatal(err)
	}
	return issued
}

// openssl runs openssl and returns what it prints.
func openssl(t *testing.T, stdin []byte, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "openssl", args...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// opensslVerify has openssl judge the chain by RFC 5280, as a TLS client's
// certificate, with root trusted.
func opensslVerify(t *testing.T, root string, chain []*x509.Certificate) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "chain.pem")
	if err := os.WriteFile(file, certs.EncodeChain(chain), 0o600); err != nil {
		t.Fatal(err)
	}
	openssl(t, nil, "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", root, "-untrusted", file, file)
}

func TestOpen_refuses(t *testing.T) {
	leaf := sign(t, newTestCA(t), request(t, newECKey(t), "gw-1"), SignOptions{}).Chain[:1]
	for name, tt := range map[string]struct {
		data []byte // nil: no file
		want error
	}{
		"an empty directory": {nil, ErrNoCA},
		"no certificate":     {[]byte("hello"), certs.ErrNoCertificate},
		"a leaf":             {certs.EncodeChain(leaf), certs.ErrNotCA},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if tt.data != nil {
				if err := os.WriteFile(filepath.Join(dir, "ca.crt"), tt.data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := Open(dir, nil); !errors.Is(err, tt.want) {
				t.Errorf("err = %v, want %v", err, tt.want)
			}
		})
	}
}

func TestBundle(t *testing.T) {
	c, other := newTestCA(t), newTestCA(t)
	issued := sign(t, c, request(t, newECKey(t), "gw-1"), SignOptions{})
	if err := os.Remove(filepath.Join(c.dir, "ca.key")); err != nil { // it is not needed
		t.Fatal(err)
	}
	for name, leaf := range map[string][]*x509.Certificate{"a leaf": issued.Chain[:1], "a bundle already": issued.Chain} {
		got, err := c.Bundle(leaf)
		if err != nil || !bytes.Equal(certs.EncodeChain(got), certs.EncodeChain(issued.Chain)) {
			t.Errorf("%s: %d certificates, err %v", name, len(got), err)
		}
	}
	if _, err := other.Bundle(issued.Chain); !errors.Is(err, ErrForeign) {
		t.Errorf("another CA of the same name: err = %v, want ErrForeign", err)
	}
	if _, err := c.Bundle(c.chain); !errors.Is(err, certs.ErrNoCertificate) {
		t.Errorf("the CA itself: err = %v, want ErrNoCertificate", err)
	}
}
