package inventory

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/certs"
)

// State is where a certificate is in its life, as the CA knows it. AWS IoT has
// a status of its own.
type State string

// The states, as lists show them.
const (
	Valid   State = "valid"
	Expired State = "expired"
	Revoked State = "revoked"
)

// States are all states.
func States() []State { return []State{Valid, Expired, Revoked} }

// Origin is how a certificate came into the inventory.
type Origin string

// The origins, as lists show them.
const (
	Signed   Origin = "signed"   // by jitrctl
	Imported Origin = "imported" // made by openssl, or by a jitrctl without inventory
)

// Entry is one certificate that the CA has made.
type Entry struct {
	Serial        Serial     `json:"-"`
	Name          string     `json:"name"`           // common name; "" where there is none
	CertificateID string     `json:"certificate_id"` // as AWS IoT has it; "" where the certificate itself is not known
	Subject       string     `json:"subject"`        // as openssl's index.txt has it: /O=Acme/CN=gw-1
	NotBefore     time.Time  `json:"not_before_at"`  // zero where the certificate itself is not known
	NotAfter      time.Time  `json:"not_after_at"`
	AddedAt       time.Time  `json:"added_at"`
	Origin        Origin     `json:"origin"`
	RevokedAt     *time.Time `json:"revoked_at,omitempty"`
	Reason        Reason     `json:"reason,omitempty"`
}

// State is the entry's state at now. A revoked certificate stays revoked when
// it expires.
func (e *Entry) State(now time.Time) State {
	switch {
	case e.RevokedAt != nil:
		return Revoked
	case now.After(e.NotAfter):
		return Expired
	}
	return Valid
}

// Serial is a serial number in upper-case hexadecimal digits, always in
// pairs: as openssl prints it and calls its files.
type Serial string

// SerialOf writes n, which must not be negative.
func SerialOf(n *big.Int) Serial {
	b := n.Bytes()
	if len(b) == 0 {
		b = []byte{0}
	}
	return Serial(strings.ToUpper(hex.EncodeToString(b)))
}

// maxSerial is the longest serial number in octets (RFC 5280 §4.1.2.2).
const maxSerial = 20

// ParseSerial reads a serial number as people copy it: in upper or lower case,
// with or without colons and 0x. Errors wrap ErrBadSerial.
func ParseSerial(s string) (Serial, error) {
	digits := strings.TrimPrefix(strings.ReplaceAll(s, ":", ""), "0x")
	if len(digits)%2 == 1 {
		digits = "0" + digits
	}
	b, err := hex.DecodeString(digits)
	if err != nil || len(b) == 0 {
		return "", fmt.Errorf("%w: %q", ErrBadSerial, s)
	}
	n := new(big.Int).SetBytes(b)
	if len(n.Bytes()) > maxSerial {
		return "", fmt.Errorf("%w: %q has more than %d octets", ErrBadSerial, s, maxSerial)
	}
	return SerialOf(n), nil
}

// Int is the number itself.
func (s Serial) Int() *big.Int { return new(big.Int).SetBytes(s.bytes()) }

func (s Serial) bytes() []byte {
	b, err := hex.DecodeString(string(s))
	if err != nil {
		return nil // a Serial comes from SerialOf or ParseSerial
	}
	return b
}

// Key identifies a public key: the SHA-256 of its DER encoding.
type Key [sha256.Size]byte

// KeyOf makes it of a SubjectPublicKeyInfo.
func KeyOf(spki []byte) Key { return sha256.Sum256(spki) }

// Request identifies what was asked for: a key under a subject. It is not a
// hash of the whole request: a gateway that is asked twice makes two requests
// that differ in their signature only.
type Request [sha256.Size]byte

// RequestOf makes it of a SubjectPublicKeyInfo and a subject, both in DER.
func RequestOf(spki, subject []byte) Request {
	h := sha256.New()
	h.Write(spki) // DER says its own length, so no two pairs run together alike
	h.Write(subject)
	return Request(h.Sum(nil))
}

func entryOf(c *x509.Certificate, origin Origin, now time.Time) *Entry {
	return &Entry{
		Serial:        SerialOf(c.SerialNumber),
		Name:          c.Subject.CommonName,
		CertificateID: certs.ID(c),
		Subject:       oneline(c.Subject),
		NotBefore:     c.NotBefore.UTC(),
		NotAfter:      c.NotAfter.UTC(),
		AddedAt:       now.UTC().Truncate(time.Second),
		Origin:        origin,
	}
}
