package iotcore

import (
	"crypto/x509"
	"slices"
	"strconv"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/certs"
)

type certificateRecord struct {
	ID         string    `json:"id"`
	CAID       string    `json:"caId,omitempty"`
	PEM        string    `json:"pem"`
	CommonName string    `json:"commonName,omitempty"`
	Status     status    `json:"status"`
	Mode       string    `json:"mode"`
	CreatedAt  time.Time `json:"createdAt"`
	ModifiedAt time.Time `json:"modifiedAt"`
	Version    int       `json:"version"`
	NotBefore  time.Time `json:"notBefore"`
	NotAfter   time.Time `json:"notAfter"`
	Policies   []string  `json:"policies,omitempty"`

	// ExclusiveThing is the thing that it is attached to as EXCLUSIVE_THING.
	ExclusiveThing string `json:"exclusiveThing,omitempty"`

	// The story of its just-in-time registration; see Story.
	JITR         bool      `json:"jitr,omitempty"` // registered by a connection
	LastClientID string    `json:"lastClientId,omitempty"`
	ActivatedAt  time.Time `json:"activatedAt,omitzero"`
	AcceptedAt   time.Time `json:"acceptedAt,omitzero"`
	Refused      int       `json:"refusedWhilePending,omitempty"`
}

// Outcome is how a connection attempt ended.
type Outcome string

// The outcomes of an Attempt.
const (
	OutcomeAccepted      Outcome = "accepted"       // CONNACK 0
	OutcomeRegistered    Outcome = "registered"     // unknown until now; PENDING_ACTIVATION from now on
	OutcomePending       Outcome = "pending"        // still PENDING_ACTIVATION
	OutcomeNotRegistered Outcome = "not-registered" // no registered CA signed it, or that CA does not register
	OutcomeNotActive     Outcome = "not-active"     // INACTIVE or REVOKED
	OutcomeExpired       Outcome = "expired"        // outside its validity
	OutcomeNotAuthorized Outcome = "not-authorized" // no policy allows iot:Connect
	OutcomeThrottled     Outcome = "throttled"      // a second CONNECT within a second
	OutcomeInvalid       Outcome = "invalid"        // a client id that AWS does not take
	OutcomeTLSFailed     Outcome = "tls-failed"     // no handshake
	OutcomeNoConnect     Outcome = "no-connect"     // a handshake, but no CONNECT
)

// registeredEvent is the payload of the event that AWS publishes for each
// CONNECT of a pending certificate. The field order is that of AWS.
type registeredEvent struct {
	CertificateID                    string  `json:"certificateId"`
	CACertificateID                  string  `json:"caCertificateId"`
	Timestamp                        int64   `json:"timestamp"` // ms
	CertificateStatus                status  `json:"certificateStatus"`
	AWSAccountID                     string  `json:"awsAccountId"`
	CertificateRegistrationTimestamp *string `json:"certificateRegistrationTimestamp"` // null first, then ms as a string
}

// verdict is what the registry says of a presented certificate.
type verdict struct {
	outcome       Outcome // OutcomeAccepted: ACTIVE; policies come later
	why           string
	certificateID string
	event         *registeredEvent // of a pending one
}

// present is the decision of just-in-time registration: it is made for the
// certificate chain that a client has proved to hold the key of, when its
// CONNECT has been read. clientID is empty where there was none yet.
func (r *registry) present(chain []*x509.Certificate, sni, clientID string) verdict {
	leaf := chain[0]
	v := verdict{certificateID: certs.ID(leaf)}
	now := r.now()

	r.mu.Lock()
	defer r.mu.Unlock()
	rec, known := r.records.Certificates[v.certificateID]
	if err := certs.CheckValidity(leaf, now); err != nil {
		v.outcome, v.why = OutcomeExpired, err.Error()
		return v
	}
	if !known {
		ca, why := r.registers(leaf, chain, sni, now)
		if ca == nil {
			v.outcome, v.why = OutcomeNotRegistered, why
			return v
		}
		rec = newCertificateRecord(leaf, now)
		rec.CAID, rec.Mode, rec.Status, rec.JITR = ca.ID, ca.Mode, statusPending, true
		r.records.Certificates[rec.ID] = rec
	}
	switch {
	case rec.Mode == modeSNIOnly && sni == "":
		v.outcome, v.why = OutcomeNotRegistered, "its CA is registered in mode SNI_ONLY, and the client sent no SNI"
	case rec.Status == statusActive:
		v.outcome = OutcomeAccepted
	case rec.Status == statusPending:
		v.outcome = OutcomePending
		v.event = &registeredEvent{
			CertificateID: rec.ID, CACertificateID: rec.CAID, Timestamp: now.UnixMilli(),
			CertificateStatus: statusPending, AWSAccountID: r.account,
		}
		if known {
			at := strconv.FormatInt(rec.CreatedAt.UnixMilli(), 10)
			v.event.CertificateRegistrationTimestamp = &at
		} else {
			v.outcome = OutcomeRegistered
		}
		rec.Refused++
		if clientID != "" {
			rec.LastClientID = clientID
		}
		r.changed()
	default:
		v.outcome, v.why = OutcomeNotActive, "the certificate is "+string(rec.Status)
	}
	return v
}

// registers says which CA lets an unknown leaf in, or why none does. The
// caller holds r.mu.
func (r *registry) registers(leaf *x509.Certificate, chain []*x509.Certificate, sni string, now time.Time) (*caRecord, string) {
	ca, ok := r.issuer(leaf, chain[1:], sni != "")
	switch {
	case !ok && len(chain) == 1 && sni == "":
		return nil, "it came without its CA certificate and without SNI"
	case !ok:
		return nil, "no registered CA signed it"
	case ca.Status != statusActive:
		return nil, "its CA is INACTIVE"
	case !ca.AutoReg:
		return nil, "auto-registration of its CA is DISABLE"
	case now.After(ca.NotAfter):
		return nil, "its CA has expired"
	case ca.Mode == modeSNIOnly && sni == "":
		return nil, "its CA is registered in mode SNI_ONLY, and the client sent no SNI"
	}
	if err := certs.CheckKey(leaf.PublicKey); err != nil {
		return nil, err.Error()
	}
	return ca, ""
}

func newCertificateRecord(leaf *x509.Certificate, now time.Time) *certificateRecord {
	return &certificateRecord{
		ID: certs.ID(leaf), PEM: string(certs.EncodeChain([]*x509.Certificate{leaf})),
		CommonName: leaf.Subject.CommonName, Mode: modeDefault,
		CreatedAt: now, ModifiedAt: now, Version: 1, NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
	}
}

// accepted notes the first CONNACK 0.
func (r *registry) accepted(id string) {
	r.mu.Lock()
	rec, ok := r.records.Certificates[id]
	first := ok && rec.AcceptedAt.IsZero()
	if first {
		rec.AcceptedAt = r.now()
	}
	r.mu.Unlock()
	if first {
		r.changed()
	}
}

// registerCertificate is RegisterCertificate, and with withoutCA
// RegisterCertificateWithoutCA. It publishes no event.
func (r *registry) registerCertificate(pem, caPEM string, st status, withoutCA bool) (certificateRecord, error) {
	leaf, err := oneCertificate("certificatePem", pem)
	if err != nil {
		return certificateRecord{}, err
	}
	switch st {
	case "":
		st = statusInactive
	case statusActive, statusInactive, statusRevoked:
	case statusPending:
		return certificateRecord{}, certificateState("Not allowed to register certificate with PENDING_ACTIVATION status")
	default:
		return certificateRecord{}, invalidRequest("status %q is not known", st)
	}
	if err := certs.CheckKey(leaf.PublicKey); err != nil {
		return certificateRecord{}, certificateValidation("The certificate cannot be used: %v", err)
	}
	var presented []*x509.Certificate
	if caPEM != "" {
		ca, err := oneCertificate("caCertificatePem", caPEM)
		if err != nil {
			return certificateRecord{}, err
		}
		presented = append(presented, ca)
	}
	rec := newCertificateRecord(leaf, r.now())
	rec.Status = st
	if st == statusActive {
		rec.ActivatedAt = rec.CreatedAt
	}
	err = r.change(func() error {
		if _, ok := r.records.Certificates[rec.ID]; ok {
			return alreadyExists("The certificate is already provisioned or registered", rec.ID, r.arn("cert", rec.ID))
		}
		if withoutCA {
			rec.Mode = modeSNIOnly
		} else {
			ca, ok := r.issuer(leaf, presented, true)
			if !ok {
				return certificateValidation("No registered CA certificate signed this certificate")
			}
			rec.CAID, rec.Mode = ca.ID, ca.Mode
		}
		stored := *rec
		r.records.Certificates[rec.ID] = &stored
		return nil
	})
	return *rec, err
}

func (r *registry) certificate(id string) (certificateRecord, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	rec, ok := r.records.Certificates[id]
	if !ok {
		return certificateRecord{}, notFound("Certificate %s does not exist", id)
	}
	return *rec, nil
}

// certificates lists those that keep selects.
func (r *registry) certificates(keep func(*certificateRecord) bool) []certificateRecord {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var out []certificateRecord
	for _, rec := range r.records.Certificates {
		if keep(rec) {
			out = append(out, *rec)
		}
	}
	return out
}

// updateCertificate sets the status. ACTIVE is idempotent, and its time is
// that of the first.
func (r *registry) updateCertificate(id string, st status) error {
	switch st {
	case statusActive, statusInactive, statusRevoked:
	case statusPending, "PENDING_TRANSFER", "REGISTER_INACTIVE":
		return certificateState("A certificate cannot be set to %s", st)
	default:
		return invalidRequest("newStatus %q is not known", st)
	}
	return r.change(func() error {
		rec, ok := r.records.Certificates[id]
		if !ok {
			return notFound("Certificate %s does not exist", id)
		}
		r.setStatus(rec, st)
		return nil
	})
}

// setStatus changes a record. The caller holds r.mu.
func (r *registry) setStatus(rec *certificateRecord, st status) {
	if rec.Status == st {
		return
	}
	rec.Status, rec.ModifiedAt = st, r.now()
	rec.Version++
	if st == statusActive && rec.ActivatedAt.IsZero() {
		rec.ActivatedAt = rec.ModifiedAt
	}
}

func (r *registry) deleteCertificate(id string) error {
	return r.change(func() error {
		rec, ok := r.records.Certificates[id]
		if !ok {
			return notFound("Certificate %s does not exist", id)
		}
		if rec.Status == statusActive {
			return certificateState("Certificate %s is ACTIVE; deactivate it before you delete it", id)
		}
		attached := len(rec.Policies) > 0
		for _, t := range r.records.Things {
			attached = attached || slices.Contains(t.Principals, id)
		}
		if attached {
			return deleteConflict("Things or policies must be detached before the certificate is deleted")
		}
		delete(r.records.Certificates, id)
		return nil
	})
}
