package tpm

import (
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// Algorithm is a kind of device key, named as in the configuration.
type Algorithm string

// The kinds of keys that CreateKey makes.
const (
	ECDSAP256 Algorithm = "ecdsa-p256"
	RSA2048   Algorithm = "rsa-2048"
)

// template is the public area of a new device key. NoDA keeps the key out of
// the dictionary-attack protection: it has no password to guess, and without
// noDA each power cut would count as a failed guess until the TPM locks. The
// scheme stays open (TPM_ALG_NULL), so that OpenSSL can use the key as well.
func (a Algorithm) template() (tpm2.TPMTPublic, error) {
	pub := tpm2.TPMTPublic{
		NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM:            true,
			FixedParent:         true,
			SensitiveDataOrigin: true,
			UserWithAuth:        true,
			NoDA:                true,
			SignEncrypt:         true,
		},
	}
	switch a {
	case ECDSAP256:
		pub.Type = tpm2.TPMAlgECC
		pub.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256})
	case RSA2048:
		pub.Type = tpm2.TPMAlgRSA
		pub.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: 2048})
	default:
		return pub, fmt.Errorf("a TPM key cannot be %q; use %s or %s", string(a), ECDSAP256, RSA2048)
	}
	return pub, nil
}
