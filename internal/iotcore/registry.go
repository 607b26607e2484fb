package iotcore

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/certs"
	"github.com/jitr-agent/jitr-agent/internal/policy"
)

// registry is what the control plane knows: CAs, certificates, policies and
// things. It is safe for concurrent use.
type registry struct {
	region, account string
	now             func() time.Time
	changed         func() // told of every change; must not block nor call back

	// generation counts the changes that can alter a decision about a
	// connection, so that connections may remember their policies.
	generation atomic.Uint64

	mu       sync.RWMutex
	records  records
	caCerts  map[string]*x509.Certificate
	policies map[string]*policy.Policy
}

// records is the part of the registry that survives a restart.
type records struct {
	RegistrationCode string                        `json:"registrationCode"`
	CAs              map[string]*caRecord          `json:"cas"`
	Certificates     map[string]*certificateRecord `json:"certificates"`
	Policies         map[string]*policyRecord      `json:"policies"`
	Things           map[string]*thingRecord       `json:"things"`
}

// A status is spelled as in the AWS API.
type status string

const (
	statusActive   status = "ACTIVE"
	statusInactive status = "INACTIVE"
	statusRevoked  status = "REVOKED"
	statusPending  status = "PENDING_ACTIVATION"
)

type thingRecord struct {
	Name       string            `json:"name"`
	ID         string            `json:"id"`
	TypeName   string            `json:"typeName,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
	Principals []string          `json:"principals,omitempty"` // certificate ids
	Version    int64             `json:"version"`
}

func newRegistry(region, account string, now func() time.Time) (*registry, error) {
	r := &registry{region: region, account: account, now: now, changed: func() {}}
	r.records.RegistrationCode = newRegistrationCode()
	return r, r.index()
}

// newRegistrationCode is 64 hexadecimal digits. crypto/rand never fails on
// Linux.
func newRegistrationCode() string {
	code := make([]byte, registrationCodeHx/2)
	rand.Read(code)
	return hex.EncodeToString(code)
}

// index makes the maps that records does not have, and parses what it holds.
func (r *registry) index() error {
	if r.records.CAs == nil {
		r.records.CAs = map[string]*caRecord{}
	}
	if r.records.Certificates == nil {
		r.records.Certificates = map[string]*certificateRecord{}
	}
	if r.records.Policies == nil {
		r.records.Policies = map[string]*policyRecord{}
	}
	if r.records.Things == nil {
		r.records.Things = map[string]*thingRecord{}
	}
	r.caCerts = map[string]*x509.Certificate{}
	for id, ca := range r.records.CAs {
		chain, err := certs.ParseChain([]byte(ca.PEM))
		if err != nil {
			return fmt.Errorf("CA %s: %w", id, err)
		}
		r.caCerts[id] = chain[0]
	}
	r.policies = map[string]*policy.Policy{}
	for name, p := range r.records.Policies {
		if len(p.Versions) == 0 {
			*p = *newPolicyRecord(name, p.Document, nil, p.CreatedAt)
		}
		v, _ := p.version(p.Default)
		parsed, err := policy.Parse([]byte(v.Document))
		if err != nil {
			return fmt.Errorf("policy %s: %w", name, err)
		}
		r.policies[name] = parsed
	}
	return nil
}

// MarshalJSON is the registry's records, for the store.
func (r *registry) MarshalJSON() ([]byte, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return json.Marshal(r.records)
}

// UnmarshalJSON replaces the records by stored ones.
func (r *registry) UnmarshalJSON(data []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var stored records
	if err := json.Unmarshal(data, &stored); err != nil {
		return err
	}
	if stored.RegistrationCode == "" {
		stored.RegistrationCode = r.records.RegistrationCode
	}
	r.records = stored
	return r.index()
}

// change runs f under the lock. Where f succeeds, connections look their
// policies up anew and the store is told.
func (r *registry) change(f func() error) error {
	r.mu.Lock()
	err := f()
	r.mu.Unlock()
	if err != nil {
		return err
	}
	r.generation.Add(1)
	r.changed()
	return nil
}

// arn names a resource: kind is "cert", "cacert", "policy", "thing",
// "client", "topic" or "topicfilter".
func (r *registry) arn(kind, name string) string {
	return "arn:aws:iot:" + r.region + ":" + r.account + ":" + kind + "/" + name
}
