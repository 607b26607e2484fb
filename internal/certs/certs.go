// Package certs reads and judges the certificates and keys that people hand
// to us: PEM as openssl, Windows editors and copy-and-paste leave it, chains
// in the order that TLS wants them, and the identifiers that AWS IoT gives
// them.
package certs

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"
)

// ID is the certificateId that AWS IoT gives a certificate: the SHA-256 of
// its DER encoding in lower-case hex. A CA's id is made likewise.
func ID(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// Errors of ParseChain and CheckChain, for callers that add the object and
// the remedy.
var (
	ErrNoCertificate = errors.New("it holds no PEM certificate")
	ErrDamaged       = errors.New("a PEM block in it is damaged or cut off")
	ErrNoIssuer      = errors.New("the CA certificate that signed the device certificate is missing")
	ErrOrder         = errors.New("the certificates are out of order")
	ErrNotCA         = errors.New("it is not a CA certificate")
	ErrExpired       = errors.New("the certificate has expired")
	ErrNotYetValid   = errors.New("the certificate is not valid yet")
	ErrWeakKey       = errors.New("the key is of a kind that AWS IoT does not take")
)

// ParseChain reads all certificates in data, in their order. It takes CRLF
// line ends, a byte order mark, text between the blocks (openssl x509 -text)
// and a missing last line end, also between two files that were joined. Blocks
// of other types (a key, parameters) are passed over. A block that is damaged
// or cut off is an error: without the leaf the rest would be taken for it.
func ParseChain(data []byte) ([]*x509.Certificate, error) {
	data = normal(data)
	begun := bytes.Count(data, []byte("-----BEGIN "))
	var chain []*x509.Certificate
	for {
		var block *pem.Block
		block, data = pem.Decode(data)
		if block == nil {
			break
		}
		begun--
		der := block.Bytes
		switch block.Type {
		case "CERTIFICATE", "X509 CERTIFICATE":
		case "TRUSTED CERTIFICATE": // openssl x509 -trustout: OpenSSL's own settings follow the certificate
			var own asn1.RawValue
			if _, err := asn1.Unmarshal(der, &own); err == nil {
				der = own.FullBytes
			}
		default:
			continue
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate %d in it is damaged: %w", len(chain)+1, err)
		}
		chain = append(chain, c)
	}
	switch {
	case begun > 0:
		return nil, ErrDamaged
	case len(chain) == 0:
		return nil, ErrNoCertificate
	}
	return chain, nil
}

// normal undoes what editors and cat do to PEM: a byte order mark in front,
// and two files joined where the first one's last line had no end.
func normal(data []byte) []byte {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	return bytes.ReplaceAll(data, []byte("----------BEGIN "), []byte("-----\n-----BEGIN "))
}

// EncodeChain writes the certificates as plain PEM, in their order.
func EncodeChain(chain []*x509.Certificate) []byte {
	var out []byte
	for _, c := range chain {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

// Append adds the certificates of more to chain, without those that are
// there already: people give the CA both in --cert and in --chain.
func Append(chain, more []*x509.Certificate) []*x509.Certificate {
	for _, c := range more {
		if !slices.ContainsFunc(chain, c.Equal) {
			chain = append(chain, c)
		}
	}
	return chain
}

// CheckChain says whether the chain can be presented to AWS IoT as it is:
// leaf first, then the CA that signed it, then that CA's issuer, and so on.
// AWS registers a device certificate just in time only when it sees the
// issuing CA's certificate behind it, so a leaf alone is refused. A root is
// not needed: the registered CA may be an intermediate one.
//
// It does not look at the clock; see CheckValidity.
func CheckChain(chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return ErrNoCertificate
	}
	if len(chain) == 1 {
		if chain[0].IsCA {
			return fmt.Errorf("%w: it holds only the CA certificate %q", ErrNoCertificate, Name(chain[0]))
		}
		return ErrNoIssuer
	}
	if chain[0].IsCA {
		return fmt.Errorf("%w: the first one, %q, is a CA certificate", ErrOrder, Name(chain[0]))
	}
	for i, c := range chain[:len(chain)-1] {
		issuer := chain[i+1]
		if signs(issuer, c) {
			if !issuer.IsCA {
				return fmt.Errorf("certificate %d, %q: %w (basicConstraints CA:TRUE is missing)", i+2, Name(issuer), ErrNotCA)
			}
			continue
		}
		if slices.ContainsFunc(chain, func(other *x509.Certificate) bool { return other != c && signs(other, c) }) {
			return fmt.Errorf("%w: certificate %d, %q, is not signed by certificate %d, %q", ErrOrder, i+1, Name(c), i+2, Name(issuer))
		}
		if bytes.Equal(c.RawIssuer, issuer.RawSubject) {
			return fmt.Errorf("%w: certificate %d, %q, is signed by a CA of the same name as certificate %d, %q, but with another key",
				ErrNoIssuer, i+1, Name(c), i+2, Name(issuer))
		}
		return fmt.Errorf("%w: certificate %d, %q, is signed by %q, and certificate %d is %q",
			ErrNoIssuer, i+1, Name(c), name(c.Issuer, "a CA without a name"), i+2, Name(issuer))
	}
	return nil
}

// signs says whether issuer's key made c's signature. CheckSignatureFrom
// would also want CA:TRUE and a key usage, which have an error of their own.
func signs(issuer, c *x509.Certificate) bool {
	return issuer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

// CheckValidity says whether c is valid at now. The errors wrap ErrExpired or
// ErrNotYetValid and name both times.
func CheckValidity(c *x509.Certificate, now time.Time) error {
	switch {
	case now.After(c.NotAfter):
		return fmt.Errorf("%w: it ended at %s, and this gateway's clock says %s", ErrExpired, stamp(c.NotAfter), stamp(now))
	case now.Before(c.NotBefore):
		return fmt.Errorf("%w: it begins at %s, and this gateway's clock says %s", ErrNotYetValid, stamp(c.NotBefore), stamp(now))
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Name is what to call a certificate in a sentence: its common name, else
// its whole subject, else its serial number.
func Name(c *x509.Certificate) string {
	return name(c.Subject, "serial "+c.SerialNumber.Text(16))
}

func name(n pkix.Name, blank string) string {
	switch {
	case n.CommonName != "":
		return n.CommonName
	case len(n.Names) > 0:
		return n.String()
	default:
		return blank
	}
}

var thingName = regexp.MustCompile(`^[a-zA-Z0-9:_-]{1,128}$`)

// ValidThingName says whether s can name a thing in the AWS IoT registry:
// [a-zA-Z0-9:_-]{1,128} (CreateThing in the AWS IoT API reference).
func ValidThingName(s string) bool { return thingName.MatchString(s) }
