package ca

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"math/big"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/ca/inventory"
	"github.com/jitr-agent/jitr-agent/internal/certs"
)

// DefaultCRLDays is how long a CRL is good for: openssl.cnf's
// default_crl_days.
const DefaultCRLDays = 30

// CRL is a signed list of what the CA has revoked.
type CRL struct {
	DER        []byte
	Number     *big.Int
	Entries    int
	NextUpdate time.Time
}

// MakeCRL signs a list of all revoked certificates, also of those that have
// expired since, which is good for days from now. Each one's number is higher
// than that of all before it (RFC 5280 §5.2.3). Errors about days wrap
// ErrBadValidity.
func (c *CA) MakeCRL(ctx context.Context, days int, now time.Time) (*CRL, error) {
	next, err := endOf(now, days)
	if err != nil {
		return nil, err
	}
	own := *c.Certificate()
	switch {
	case own.KeyUsage == 0: // absent: all uses are allowed (RFC 5280 §4.2.1.3), which crypto/x509 does not say
		own.KeyUsage = x509.KeyUsageCRLSign
	case own.KeyUsage&x509.KeyUsageCRLSign == 0:
		return nil, fmt.Errorf("the CA %q: its certificate has a keyUsage without cRLSign, so nobody would believe its CRL", certs.Name(&own))
	}
	if len(own.SubjectKeyId) == 0 { // the CRL names the key in any case
		if own.SubjectKeyId, err = keyID(own.PublicKey); err != nil {
			return nil, err
		}
	}
	key, err := c.signer(now)
	if err != nil {
		return nil, err
	}
	st, err := c.open(ctx, now)
	if err != nil {
		return nil, err
	}
	defer st.Close()

	template := &x509.RevocationList{ThisUpdate: now, NextUpdate: next}
	// The number is used up before the list exists: a number may be missing,
	// and is never there twice.
	err = st.Update(func(tx *inventory.Tx) error {
		if template.RevokedCertificateEntries, err = c.revoked(tx); err != nil {
			return err
		}
		template.Number, err = tx.NextCRLNumber()
		return err
	})
	if err != nil {
		return nil, withRoom(err)
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, &own, key)
	if err != nil {
		return nil, fmt.Errorf("sign the CRL: %w", err)
	}
	return &CRL{DER: der, Number: template.Number, Entries: len(template.RevokedCertificateEntries), NextUpdate: next}, nil
}

func (c *CA) revoked(tx *inventory.Tx) ([]x509.RevocationListEntry, error) {
	var list []x509.RevocationListEntry
	for e, err := range tx.All() {
		if err != nil {
			return nil, err
		}
		if e.RevokedAt == nil {
			continue
		}
		cert, err := tx.Certificate(e.Serial)
		if err != nil {
			return nil, err
		}
		if cert != nil && !c.signed(cert) {
			continue // an earlier CA's in this directory; a CRL speaks for its issuer only
		}
		list = append(list, x509.RevocationListEntry{SerialNumber: e.Serial.Int(), RevocationTime: *e.RevokedAt, ReasonCode: int(e.Reason)})
	}
	return list, nil
}

// signed says whether the CA's key made cert's signature.
func (c *CA) signed(cert *x509.Certificate) bool {
	return c.Certificate().CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) == nil
}
