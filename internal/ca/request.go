package ca

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"

	"github.com/jitr-agent/jitr-agent/internal/certs"
)

// ParseRequest reads the PKCS#10 certificate request (PEM) in data and checks
// its signature, which proves that whoever made it holds the private key. It
// refuses broken hashes and keys that AWS IoT does not take.
func ParseRequest(data []byte) (*x509.CertificateRequest, error) {
	var other string // what the file holds instead
	for {
		var block *pem.Block
		block, data = pem.Decode(data)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST" {
			other = block.Type
			continue
		}
		csr, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("the certificate request in it is damaged: %w; make it again with 'jitr-agent csr'", err)
		}
		return csr, checkRequest(csr)
	}
	if other != "" {
		return nil, fmt.Errorf("%w but a %s; give the file that 'jitr-agent csr' or 'openssl req -new' wrote", ErrNoRequest, other)
	}
	return nil, fmt.Errorf("%w; give the file that 'jitr-agent csr' or 'openssl req -new' wrote", ErrNoRequest)
}

func checkRequest(csr *x509.CertificateRequest) error {
	if err := certs.CheckKey(csr.PublicKey); err != nil {
		return fmt.Errorf("%w; make a new key and request with 'jitr-agent csr'", err)
	}
	switch csr.SignatureAlgorithm {
	case x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
		x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
		x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512:
	default:
		return fmt.Errorf("%w (%s); make the request again with 'openssl req -new -sha256' or 'jitr-agent csr'", ErrWeakSignature, csr.SignatureAlgorithm)
	}
	if err := csr.CheckSignature(); err != nil {
		return fmt.Errorf("%w, so nothing proves that its sender holds the private key; the file was changed or mixed up, make it again with 'jitr-agent csr'", ErrBadSignature)
	}
	return nil
}

// subjectOf is the subject that the certificate gets, and the common name in
// it: the request's own, or with its common name replaced by name where name
// is not empty. There must be one common name, and a thing name; other errors
// wrap ErrBadName.
func subjectOf(csr *x509.CertificateRequest, name string) (raw []byte, common string, err error) {
	var rdns pkix.RDNSequence
	if _, err := asn1.Unmarshal(csr.RawSubject, &rdns); err != nil {
		return nil, "", fmt.Errorf("the request's subject is damaged: %w; make it again with 'jitr-agent csr'", err)
	}
	names := commonNames(rdns)
	if name != "" {
		rdns = append(withoutCommonName(rdns), pkix.RelativeDistinguishedNameSET{{Type: oidCommonName, Value: name}})
		names = []string{name}
	}
	switch {
	case len(names) == 0:
		return nil, "", fmt.Errorf("%w: there is none, and it becomes the thing's name in AWS IoT; give one with --name NAME, or make the request with 'openssl req -new -subj /CN=NAME' or 'jitr-agent csr --subject CN=NAME'", ErrBadName)
	case len(names) > 1:
		return nil, "", fmt.Errorf("%w: there are %d of them, %q; say which one counts with --name NAME", ErrBadName, len(names), names)
	case !certs.ValidThingName(names[0]):
		return nil, "", fmt.Errorf("%w: %q, where AWS IoT takes 1 to 128 of a-z A-Z 0-9 : _ -; give another with --name NAME, or make the request with 'openssl req -new -subj /CN=NAME' or 'jitr-agent csr --subject CN=NAME'", ErrBadName, names[0])
	}
	if name == "" {
		return csr.RawSubject, names[0], nil
	}
	raw, err = asn1.Marshal(rdns)
	if err != nil {
		return nil, "", fmt.Errorf("encode the subject: %w", err)
	}
	return raw, name, nil
}

var oidCommonName = asn1.ObjectIdentifier{2, 5, 4, 3}

func commonNames(rdns pkix.RDNSequence) (names []string) {
	for _, rdn := range rdns {
		for _, a := range rdn {
			if s, ok := a.Value.(string); ok && a.Type.Equal(oidCommonName) {
				names = append(names, s)
			}
		}
	}
	return names
}

func withoutCommonName(rdns pkix.RDNSequence) (kept pkix.RDNSequence) {
	for _, rdn := range rdns {
		var set pkix.RelativeDistinguishedNameSET
		for _, a := range rdn {
			if !a.Type.Equal(oidCommonName) {
				set = append(set, a)
			}
		}
		if len(set) > 0 {
			kept = append(kept, set)
		}
	}
	return kept
}
