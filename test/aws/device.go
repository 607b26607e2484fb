package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/ca"
	"github.com/jitr-agent/jitr-agent/internal/certs"
)

// device is a gateway's certificate: its name is client id and thing.
type device struct {
	name  string
	id    string // certificateId
	chain [][]byte
	key   crypto.Signer
}

// backdated is how many days before today the CA begins.
const backdated = 3

// issue makes a device of a CA, with a certificate that was signed so many days
// ago and is good for one.
func issue(ctx context.Context, by *ca.CA, name string, ago int) (*device, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
	if err != nil {
		return nil, err
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, err
	}
	issued, err := by.Sign(ctx, csr, ca.SignOptions{Days: 1, Now: time.Now().AddDate(0, 0, -ago)})
	if err != nil {
		return nil, fmt.Errorf("sign the certificate of %s: %w", name, err)
	}
	d := &device{name: name, id: certs.ID(issued.Chain[0]), key: key}
	for _, c := range issued.Chain {
		d.chain = append(d.chain, c.Raw)
	}
	return d, nil
}
