package iotcore

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/atomicfile"
	"github.com/jitr-agent/jitr-agent/internal/certs"
)

// Files of the server's own CA in Config.Dir. Devices trust the first; it has
// nothing to do with the CA that signs devices.
const (
	serverCAFile    = "server-ca.pem"
	serverCAKeyFile = "server-ca.key"
)

// serverCA stands where the Amazon root CAs stand for the real service.
type serverCA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// openServerCA loads the CA from dir, or makes one there. An empty dir is
// memory only.
func openServerCA(dir string, now time.Time) (*serverCA, error) {
	if dir == "" {
		return newServerCA(now)
	}
	certPath, keyPath := filepath.Join(dir, serverCAFile), filepath.Join(dir, serverCAKeyFile)
	certPEM, err1 := os.ReadFile(certPath)
	keyPEM, err2 := os.ReadFile(keyPath)
	if errors.Is(err1, fs.ErrNotExist) && errors.Is(err2, fs.ErrNotExist) {
		ca, err := newServerCA(now)
		if err != nil {
			return nil, err
		}
		return ca, ca.write(certPath, keyPath)
	}
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("read the server CA: %w", err)
	}
	chain, err := certs.ParseChain(certPEM)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", certPath, err)
	}
	signer, err := certs.ParseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", keyPath, err)
	}
	key, ok := signer.(*ecdsa.PrivateKey)
	if !ok || !certs.SameKey(key.Public(), chain[0].PublicKey) {
		return nil, fmt.Errorf("%s is not the key of %s; remove both to make new ones", keyPath, certPath)
	}
	return &serverCA{chain[0], key}, nil
}

func newServerCA(now time.Time) (*serverCA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the server CA's key: %w", err)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "iotcore-sim server CA"},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.AddDate(10, 0, 0),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	ca := &serverCA{key: key}
	ca.cert, err = sign(template, template, &key.PublicKey, key)
	return ca, err
}

func (ca *serverCA) write(certPath, keyPath string) error {
	der, err := x509.MarshalPKCS8PrivateKey(ca.key)
	if err != nil {
		return fmt.Errorf("encode the server CA's key: %w", err)
	}
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := atomicfile.Write(keyPath, keyPEM, 0o600); err != nil {
		return fmt.Errorf("write the server CA's key: %w", err)
	}
	if err := atomicfile.Write(certPath, ca.pem(), 0o644); err != nil {
		return fmt.Errorf("write the server CA: %w", err)
	}
	return nil
}

func (ca *serverCA) pem() []byte { return certs.EncodeChain([]*x509.Certificate{ca.cert}) }

// issue makes the server's certificate for localhost, its addresses and
// names. It is made anew at each start and never stored.
func (ca *serverCA) issue(names []string, now time.Time) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make the server's key: %w", err)
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "localhost"},
		NotBefore:   now.Add(-time.Hour),
		NotAfter:    now.AddDate(1, 0, 0),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range append([]string{"localhost", "127.0.0.1", "::1"}, names...) {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	leaf, err := sign(template, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

func sign(template, parent *x509.Certificate, pub *ecdsa.PublicKey, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	template.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		return nil, fmt.Errorf("sign %q: %w", template.Subject.CommonName, err)
	}
	return x509.ParseCertificate(der)
}

// tlsConfig asks for a client certificate of any issuer, and lets every one
// through: AWS too completes the handshake and decides after CONNECT. Its
// CertificateRequest names no CAs, and there are no session tickets.
func tlsConfig(server tls.Certificate, verify func(tls.ConnectionState) error) *tls.Config {
	c := &tls.Config{
		Certificates:           []tls.Certificate{server},
		ClientAuth:             tls.RequireAnyClientCert,
		MinVersion:             tls.VersionTLS12,
		SessionTicketsDisabled: true,
		VerifyConnection:       verify,
	}
	if verify != nil {
		c.MaxVersion = tls.VersionTLS12 // see CloseAlert
	}
	return c
}

// alertConn turns the alert that crypto/tls sends when VerifyConnection
// refuses, bad_certificate (42), into certificate_unknown (46), which is what
// AWS was reported to send. In TLS 1.2 an alert at this point is not yet
// encrypted.
type alertConn struct{ net.Conn }

func (c alertConn) Write(p []byte) (int, error) {
	if string(p) == "\x15\x03\x03\x00\x02\x02\x2a" {
		p = []byte("\x15\x03\x03\x00\x02\x02\x2e")
	}
	return c.Conn.Write(p)
}
