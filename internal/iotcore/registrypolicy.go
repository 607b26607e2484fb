package iotcore

import (
	"crypto/x509"
	"errors"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/certs"
	"github.com/jitr-agent/jitr-agent/internal/iotcore/awsapi"
	"github.com/jitr-agent/jitr-agent/internal/policy"
)

const maxPoliciesPerPrincipal = 10 // AWS IoT Core quotas

func validPolicyName(name string) bool {
	ok, err := regexp.MatchString(`^[\w+=,.@-]{1,128}$`, name)
	return ok && err == nil
}

// maxPolicyVersions of one policy (AWS IoT Core quotas).
const maxPolicyVersions = 5

type policyRecord struct {
	Name       string            `json:"name"`
	CreatedAt  time.Time         `json:"createdAt"`
	ModifiedAt time.Time         `json:"modifiedAt"`
	Default    int               `json:"default"` // the version that counts
	Last       int               `json:"last"`    // the newest version's number; none is given twice
	Versions   []policyVersion   `json:"versions"`
	Tags       map[string]string `json:"tags,omitempty"`

	Document string `json:"document,omitempty"` // of a store before there were versions
}

type policyVersion struct {
	ID        int       `json:"id"`
	Document  string    `json:"document"`
	CreatedAt time.Time `json:"createdAt"`
}

// version finds a version by its number.
func (p policyRecord) version(id int) (policyVersion, bool) {
	i := slices.IndexFunc(p.Versions, func(v policyVersion) bool { return v.ID == id })
	if i < 0 {
		return policyVersion{}, false
	}
	return p.Versions[i], true
}

func newPolicyRecord(name, document string, tags map[string]string, now time.Time) *policyRecord {
	return &policyRecord{
		Name: name, CreatedAt: now, ModifiedAt: now, Default: 1, Last: 1, Tags: tags,
		Versions: []policyVersion{{1, document, now}},
	}
}

// parsePolicy judges a document that is to be kept.
func parsePolicy(document string) (*policy.Policy, error) {
	parsed, err := policy.Parse([]byte(document))
	switch {
	case errors.Is(err, policy.ErrTooLong):
		return nil, limitExceeded("%v", err)
	case err != nil:
		return nil, awsapi.Refuse(http.StatusBadRequest, "MalformedPolicyException", "%v", err)
	}
	return parsed, nil
}

func (r *registry) createPolicy(name, document string, tags map[string]string) (policyRecord, error) {
	if !validPolicyName(name) {
		return policyRecord{}, invalidRequest("policyName %q is not valid", name)
	}
	parsed, err := parsePolicy(document)
	if err != nil {
		return policyRecord{}, err
	}
	rec := newPolicyRecord(name, document, tags, r.now())
	err = r.change(func() error {
		if _, ok := r.records.Policies[name]; ok {
			return alreadyExists("Policy cannot be created - name already exists (name="+name+")", name, r.arn("policy", name))
		}
		stored := *rec
		r.records.Policies[name], r.policies[name] = &stored, parsed
		return nil
	})
	return *rec, err
}

// putPolicy creates or replaces a policy of the emulator's own.
func (r *registry) putPolicy(name string, document []byte) error {
	parsed, err := policy.Parse(document)
	if err != nil {
		return err
	}
	return r.change(func() error {
		r.records.Policies[name] = newPolicyRecord(name, string(document), nil, r.now())
		r.policies[name] = parsed
		return nil
	})
}

func (r *registry) policy(name string) (policyRecord, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	rec, ok := r.records.Policies[name]
	if !ok {
		return policyRecord{}, notFound("Policy not found: %s", name)
	}
	return *rec, nil
}

func (r *registry) policyNames() []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Sorted(maps.Keys(r.records.Policies))
}

// policyTargets are the ids of the certificates that a policy is attached to,
// sorted.
func (r *registry) policyTargets(name string) ([]string, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if _, ok := r.records.Policies[name]; !ok {
		return nil, notFound("Policy not found: %s", name)
	}
	var ids []string
	for id, rec := range r.records.Certificates {
		if slices.Contains(rec.Policies, name) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// changePolicy carries out f on a policy and reads its default version anew.
func (r *registry) changePolicy(name string, f func(*policyRecord) error) error {
	return r.change(func() error {
		rec, ok := r.records.Policies[name]
		if !ok {
			return notFound("Policy not found: %s", name)
		}
		if err := f(rec); err != nil {
			return err
		}
		rec.ModifiedAt = r.now()
		v, _ := rec.version(rec.Default)
		parsed, err := policy.Parse([]byte(v.Document))
		if err != nil {
			return err // it was judged when it came
		}
		r.policies[name] = parsed
		return nil
	})
}

func (r *registry) createPolicyVersion(name, document string, asDefault bool) (id int, err error) {
	if _, err := parsePolicy(document); err != nil {
		return 0, err
	}
	err = r.changePolicy(name, func(rec *policyRecord) error {
		if len(rec.Versions) >= maxPolicyVersions {
			return versionsLimit(name)
		}
		rec.Last++
		id = rec.Last
		rec.Versions = append(slices.Clone(rec.Versions), policyVersion{id, document, r.now()})
		if asDefault {
			rec.Default = id
		}
		return nil
	})
	return id, err
}

func (r *registry) setDefaultPolicyVersion(name string, id int) error {
	return r.changePolicy(name, func(rec *policyRecord) error {
		if _, ok := rec.version(id); !ok {
			return notFound("Policy version not found: %s version %d", name, id)
		}
		rec.Default = id
		return nil
	})
}

func (r *registry) deletePolicyVersion(name string, id int) error {
	return r.changePolicy(name, func(rec *policyRecord) error {
		if _, ok := rec.version(id); !ok {
			return notFound("Policy version not found: %s version %d", name, id)
		}
		if id == rec.Default {
			return deleteConflict("Cannot delete the default version of policy %s", name)
		}
		rec.Versions = slices.DeleteFunc(slices.Clone(rec.Versions), func(v policyVersion) bool { return v.ID == id })
		return nil
	})
}

// deletePolicy refuses as DeletePolicy does: first detach it, and delete its
// other versions.
func (r *registry) deletePolicy(name string) error {
	return r.change(func() error {
		rec, ok := r.records.Policies[name]
		if !ok {
			return notFound("Policy not found: %s", name)
		}
		for _, c := range r.records.Certificates {
			if slices.Contains(c.Policies, name) {
				return deleteConflict("The policy cannot be deleted as the policy is attached to one or more principals (name=%s)", name)
			}
		}
		if len(rec.Versions) > 1 {
			return deleteConflict("The policy %s has more than one version; delete the others first", name)
		}
		delete(r.records.Policies, name)
		delete(r.policies, name)
		return nil
	})
}

// principalID takes a certificate's ARN apart.
func (r *registry) principalID(arn string) (string, error) {
	id, ok := strings.CutPrefix(arn, r.arn("cert", ""))
	if !ok {
		return "", invalidRequest("target %q is not the ARN of a certificate of this account and Region", arn)
	}
	return id, nil
}

// attachPolicy is idempotent.
func (r *registry) attachPolicy(name, principal string) error {
	id, err := r.principalID(principal)
	if err != nil {
		return err
	}
	return r.change(func() error {
		rec, ok := r.records.Certificates[id]
		if !ok {
			return notFound("Certificate %s does not exist", id)
		}
		if _, ok := r.records.Policies[name]; !ok {
			return notFound("Policy not found: %s", name)
		}
		switch {
		case slices.Contains(rec.Policies, name):
		case len(rec.Policies) >= maxPoliciesPerPrincipal:
			return limitExceeded("A principal can have at most %d policies", maxPoliciesPerPrincipal)
		default:
			rec.Policies = append(slices.Clone(rec.Policies), name)
		}
		return nil
	})
}

func (r *registry) detachPolicy(name, principal string) error {
	id, err := r.principalID(principal)
	if err != nil {
		return err
	}
	return r.change(func() error {
		rec, ok := r.records.Certificates[id]
		if !ok {
			return notFound("Certificate %s does not exist", id)
		}
		rec.Policies = slices.DeleteFunc(slices.Clone(rec.Policies), func(n string) bool { return n == name })
		return nil
	})
}

// principal is what a connection may do, as of one generation of the
// registry. It is immutable.
type principal struct {
	id         string // certificateId
	generation uint64
	policies   []*policy.Policy
	variables  policy.Variables
}

func (p *principal) allows(action, arn string) bool {
	return policy.Evaluate(p.policies, policy.Request{Action: action, Resource: arn, Variables: p.variables}) == policy.Allow
}

// principal looks up the policies and variables of a connection. The thing
// variables have values where the certificate is attached to a thing whose
// name is the client id, or, whatever the client id is, to one exclusively (AWS
// IoT developer guide, thing policy variables, exclusive thing).
func (r *registry) principal(leaf *x509.Certificate, clientID, sni string) *principal {
	id := certs.ID(leaf)
	p := &principal{
		id:         id,
		generation: r.generation.Load(), // before the lock: too old is looked up again, too new never
		variables: policy.Variables{
			"iot:ClientId":                    clientID,
			"iot:CertificateId":               id,
			"iot:Connection.Thing.IsAttached": "false",
		},
	}
	set := func(name, value string) {
		if value != "" {
			p.variables[name] = value
		}
	}
	set("iot:DomainName", sni)
	set("iot:Certificate.Subject.CommonName", leaf.Subject.CommonName)
	set("iot:Certificate.Subject.SerialNumber", leaf.Subject.SerialNumber)
	set("iot:Certificate.Subject.Organization", first(leaf.Subject.Organization))
	set("iot:Certificate.Subject.OrganizationalUnit", first(leaf.Subject.OrganizationalUnit))
	set("iot:Certificate.Subject.Country", first(leaf.Subject.Country))

	r.mu.RLock()
	defer r.mu.RUnlock()
	if rec, ok := r.records.Certificates[id]; ok {
		for _, name := range rec.Policies {
			if parsed, ok := r.policies[name]; ok {
				p.policies = append(p.policies, parsed)
			}
		}
	}
	name := clientID
	if rec, ok := r.records.Certificates[id]; ok && rec.ExclusiveThing != "" {
		name = rec.ExclusiveThing
	}
	if thing, ok := r.records.Things[name]; ok && slices.Contains(thing.Principals, id) {
		p.variables["iot:Connection.Thing.IsAttached"] = strconv.FormatBool(true)
		p.variables["iot:Connection.Thing.ThingName"] = thing.Name
	}
	return p
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}
