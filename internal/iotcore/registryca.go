package iotcore

import (
	"crypto/subtle"
	"crypto/x509"
	"net/http"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/certs"
	"github.com/jitr-agent/jitr-agent/internal/iotcore/awsapi"
)

// certificateMode of a CA and of the certificates that it signed.
const (
	modeDefault = "DEFAULT"
	modeSNIOnly = "SNI_ONLY"
)

type caRecord struct {
	ID         string    `json:"id"`
	PEM        string    `json:"pem"`
	Status     status    `json:"status"` // ACTIVE or INACTIVE
	AutoReg    bool      `json:"autoRegistration"`
	Mode       string    `json:"mode"`
	CreatedAt  time.Time `json:"createdAt"`
	ModifiedAt time.Time `json:"modifiedAt"`
	Version    int       `json:"version"`
	NotBefore  time.Time `json:"notBefore"`
	NotAfter   time.Time `json:"notAfter"`

	Tags map[string]string `json:"tags,omitempty"`
}

// caRegistration is the input of registerCA.
type caRegistration struct {
	caPEM, verificationPEM string
	mode                   string
	active, autoReg        bool
	tags                   map[string]string
	trusted                bool // --register-ca: no proof of possession
}

// registerCA checks the CA as RegisterCACertificate does.
func (r *registry) registerCA(in caRegistration) (caRecord, error) {
	if in.mode == "" {
		in.mode = modeDefault
	}
	if in.mode != modeDefault && in.mode != modeSNIOnly {
		return caRecord{}, invalidRequest("certificateMode %q is neither DEFAULT nor SNI_ONLY", in.mode)
	}
	ca, err := oneCertificate("caCertificate", in.caPEM)
	if err != nil {
		return caRecord{}, err
	}
	now := r.now()
	if err := checkCA(ca, now); err != nil {
		return caRecord{}, err
	}
	if !in.trusted {
		if err := r.checkVerification(in, ca, now); err != nil {
			return caRecord{}, err
		}
	}
	id := certs.ID(ca)
	rec := caRecord{
		ID: id, PEM: string(certs.EncodeChain([]*x509.Certificate{ca})),
		Status: statusInactive, AutoReg: in.autoReg, Mode: in.mode,
		CreatedAt: now, ModifiedAt: now, Version: 1, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		Tags: in.tags,
	}
	if in.active {
		rec.Status = statusActive
	}
	err = r.change(func() error {
		if _, ok := r.records.CAs[id]; ok {
			return alreadyExists("The CA certificate is already registered", id, r.arn("cacert", id))
		}
		stored := rec
		r.records.CAs[id] = &stored
		r.caCerts[id] = ca
		return nil
	})
	return rec, err
}

func checkCA(ca *x509.Certificate, now time.Time) error {
	if !ca.BasicConstraintsValid || !ca.IsCA {
		return certificateValidation("The CA certificate has no basicConstraints CA:TRUE")
	}
	if err := certs.CheckValidity(ca, now); err != nil {
		return certificateValidation("The CA certificate cannot be used: %v", err)
	}
	if err := certs.CheckKey(ca.PublicKey); err != nil {
		return certificateValidation("The CA certificate cannot be used: %v", err)
	}
	return nil
}

// checkVerification is the proof that the caller holds the CA's key.
func (r *registry) checkVerification(in caRegistration, ca *x509.Certificate, now time.Time) error {
	if in.mode == modeSNIOnly {
		if in.verificationPEM != "" {
			return invalidRequest("verificationCertificate must be empty when certificateMode is SNI_ONLY")
		}
		return nil
	}
	if in.verificationPEM == "" {
		return invalidRequest("verificationCertificate is missing; certificateMode DEFAULT needs it")
	}
	proof, err := oneCertificate("verificationCertificate", in.verificationPEM)
	if err != nil {
		return err
	}
	if err := proof.CheckSignatureFrom(ca); err != nil {
		return certificateValidation("The verification certificate is not signed by the CA certificate: %v", err)
	}
	if err := certs.CheckValidity(proof, now); err != nil {
		return certificateValidation("The verification certificate cannot be used: %v", err)
	}
	if subtle.ConstantTimeCompare([]byte(proof.Subject.CommonName), []byte(r.registrationCode())) != 1 {
		return awsapi.Refuse(http.StatusBadRequest, "RegistrationCodeValidationException",
			"The common name of the verification certificate is not the registration code")
	}
	return nil
}

// deleteRegistrationCode makes verification certificates with the code so far
// worthless. The next one is made at once.
func (r *registry) deleteRegistrationCode() error {
	return r.change(func() error {
		r.records.RegistrationCode = newRegistrationCode()
		return nil
	})
}

func (r *registry) registrationCode() string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.records.RegistrationCode
}

func (r *registry) ca(id string) (caRecord, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	rec, ok := r.records.CAs[id]
	if !ok {
		return caRecord{}, notFound("CA certificate %s does not exist", id)
	}
	return *rec, nil
}

func (r *registry) cas() []caRecord {
	r.mu.RLock()
	defer r.mu.RUnlock()
	out := make([]caRecord, 0, len(r.records.CAs))
	for _, rec := range r.records.CAs {
		out = append(out, *rec)
	}
	return out
}

// updateCA sets what is not nil.
func (r *registry) updateCA(id string, newStatus *status, autoReg *bool) error {
	return r.change(func() error {
		rec, ok := r.records.CAs[id]
		if !ok {
			return notFound("CA certificate %s does not exist", id)
		}
		if newStatus != nil {
			rec.Status = *newStatus
		}
		if autoReg != nil {
			rec.AutoReg = *autoReg
		}
		rec.ModifiedAt = r.now()
		rec.Version++
		return nil
	})
}

func (r *registry) deleteCA(id string) error {
	return r.change(func() error {
		rec, ok := r.records.CAs[id]
		switch {
		case !ok:
			return notFound("CA certificate %s does not exist", id)
		case rec.Status == statusActive:
			return certificateState("CA certificate %s is ACTIVE; deactivate it before you delete it", id)
		}
		delete(r.records.CAs, id)
		delete(r.caCerts, id)
		return nil
	})
}

// issuer finds the registered CA that signed leaf directly: among the
// presented chain, or by the signature alone. AWS does the latter only for
// connections with SNI. The caller holds r.mu.
func (r *registry) issuer(leaf *x509.Certificate, chain []*x509.Certificate, bySignature bool) (*caRecord, bool) {
	for _, c := range chain {
		if rec, ok := r.records.CAs[certs.ID(c)]; ok && leaf.CheckSignatureFrom(c) == nil {
			return rec, true
		}
	}
	if !bySignature {
		return nil, false
	}
	for id, c := range r.caCerts {
		if string(c.RawSubject) == string(leaf.RawIssuer) && leaf.CheckSignatureFrom(c) == nil {
			return r.records.CAs[id], true
		}
	}
	return nil, false
}

func oneCertificate(field, pem string) (*x509.Certificate, error) {
	if pem == "" {
		return nil, invalidRequest("%s is missing", field)
	}
	chain, err := certs.ParseChain([]byte(pem))
	if err != nil {
		return nil, certificateValidation("%s: %v", field, err)
	}
	return chain[0], nil
}
