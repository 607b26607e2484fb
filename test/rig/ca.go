package rig

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
)

// CA is an operator's CA, made by jitrctl.
type CA struct {
	Dir  string
	Cert string // path of ca.crt
}

// NewCA makes a CA for the duration of the test.
func NewCA(t testing.TB) *CA {
	t.Helper()
	dir := filepath.Join(TempDir(t), "ca")
	MustRun(t, Bin(t, "jitrctl"), "ca", "init", "--dir", dir, "--cn", "Rig CA")
	return &CA{Dir: dir, Cert: filepath.Join(dir, "ca.crt")}
}

// Sign signs the request in the file csr, and returns the path of the leaf and
// its chain.
func (ca *CA) Sign(t testing.TB, csr string) (cert string) {
	t.Helper()
	return ca.sign(t, csr)
}

// Renew is Sign for a request that was signed before, and gives a new
// certificate.
func (ca *CA) Renew(t testing.TB, csr string) (cert string) {
	t.Helper()
	return ca.sign(t, csr, "--renew")
}

func (ca *CA) sign(t testing.TB, csr string, flags ...string) (cert string) {
	t.Helper()
	cert = csr + ".crt"
	MustRun(t, Bin(t, "jitrctl"), append([]string{"ca", "sign", "--dir", ca.Dir, csr, "--out", cert}, flags...)...)
	return cert
}

// Credentials are a client certificate with its chain, and its key: PEM files
// as every MQTT client takes them.
type Credentials struct{ Cert, Key string }

// Issue makes a key in a file and a certificate for it.
func (ca *CA) Issue(t testing.TB, name string) Credentials {
	t.Helper()
	dir := TempDir(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	keyFile := filepath.Join(dir, "client.key")
	writePEM(t, keyFile, "PRIVATE KEY", der)
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr := filepath.Join(dir, "client.csr")
	writePEM(t, csr, "CERTIFICATE REQUEST", request)
	return Credentials{Cert: ca.Sign(t, csr), Key: keyFile}
}

func writePEM(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// CertificateID is the AWS certificateId of the first certificate in a file,
// worked out here and not by the code under test.
func CertificateID(t testing.TB, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		t.Fatalf("%s holds no PEM block", file)
	}
	sum := sha256.Sum256(block.Bytes)
	return hex.EncodeToString(sum[:])
}
