package ca

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"time"
)

// backdate is how much before its making a certificate begins to be valid.
// The machine that makes it may be minutes ahead of AWS, and a gateway whose
// clock is a little behind shall take its certificate at once.
const backdate = time.Hour

// maxDays keeps validity below a century: beyond it a typing error is likely.
const maxDays = 36500

// endOf is the last second of a certificate that lives days from now. Errors
// wrap ErrBadValidity.
func endOf(now time.Time, days int) (time.Time, error) {
	if days < 1 || days > maxDays {
		return time.Time{}, fmt.Errorf("%w: --days %d; give 1 to %d", ErrBadValidity, days, maxDays)
	}
	return now.AddDate(0, 0, days), nil
}

// leafTemplate is what all certificates under the CA have in common. They
// live within the CA's own validity: a chain is as good as its shorter part.
func (c *CA) leafTemplate(pub crypto.PublicKey, now, end time.Time) (*x509.Certificate, error) {
	ski, err := keyID(pub)
	if err != nil {
		return nil, err
	}
	own := c.Certificate()
	begin := now.Add(-backdate)
	if begin.Before(own.NotBefore) {
		begin = own.NotBefore
	}
	if end.After(own.NotAfter) {
		end = own.NotAfter
	}
	return &x509.Certificate{
		SerialNumber:          serial(),
		NotBefore:             begin,
		NotAfter:              end,
		BasicConstraintsValid: true, // CA:FALSE, in writing
		KeyUsage:              x509.KeyUsageDigitalSignature,
		SubjectKeyId:          ski,
	}, nil
}

// create signs template and reads the result back, so that what is returned
// is what was encoded. The hash is the key's own choice, SHA-256 or better.
func create(template, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

// serial is a positive random number in 128 bits. RFC 5280 §4.1.2.2 allows
// 20 octets and wants it unique within the CA; the CA/Browser Forum asks for
// 64 random bits.
func serial() *big.Int {
	var b [16]byte
	rand.Read(b[:]) // never fails: crypto/rand.Read's promise
	b[0] |= 1       // never zero, and always of full length
	return new(big.Int).SetBytes(b[:])
}

// keyID is the subject key identifier of RFC 7093 §2 method 1: the leftmost
// 160 bits of the SHA-256 of the public key.
func keyID(pub crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("encode the public key: %w", err)
	}
	var spki struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &spki); err != nil {
		return nil, fmt.Errorf("read the public key: %w", err)
	}
	sum := sha256.Sum256(spki.Key.RightAlign())
	return sum[:20], nil
}
