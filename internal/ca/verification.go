package ca

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"regexp"
	"time"
)

// verificationDays is the life of a verification certificate. AWS IoT looks
// at it once, at RegisterCACertificate, which the operator calls next.
const verificationDays = 7

// registrationCode is the pattern of GetRegistrationCode in the AWS IoT API
// reference; 64 is also as long as a common name can be (RFC 5280 A.1).
var registrationCode = regexp.MustCompile(`^(0x)?[a-fA-F0-9]{1,64}$`)

// VerificationCertificate makes the certificate that proves to AWS IoT that
// its sender holds the CA's private key: the registration code as the common
// name, signed by the CA. Its own key is thrown away; AWS asks for none.
func (c *CA) VerificationCertificate(code string, now time.Time) (*x509.Certificate, error) {
	if err := checkCode(code); err != nil {
		return nil, err
	}
	prove, err := c.Prover(now)
	if err != nil {
		return nil, err
	}
	return prove(code)
}

// Prover reads the CA's key, and gives VerificationCertificate for a code that
// is not known yet.
func (c *CA) Prover(now time.Time) (func(code string) (*x509.Certificate, error), error) {
	key, err := c.signer(now)
	if err != nil {
		return nil, err
	}
	return func(code string) (*x509.Certificate, error) {
		if err := checkCode(code); err != nil {
			return nil, err
		}
		throwaway, err := newKey(Algorithms()[0])
		if err != nil {
			return nil, err
		}
		template, err := c.leafTemplate(throwaway.Public(), now, now.AddDate(0, 0, verificationDays))
		if err != nil {
			return nil, err
		}
		template.Subject = pkix.Name{CommonName: code}
		return create(template, c.Certificate(), throwaway.Public(), key)
	}, nil
}

func checkCode(code string) error {
	if registrationCode.MatchString(code) {
		return nil
	}
	return fmt.Errorf("%w: %q, where AWS IoT gives up to 64 hexadecimal digits; ask for it with 'aws iot get-registration-code'", ErrBadCode, code)
}
