package iotcore

import (
	"crypto/x509"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jitr-agent/jitr-agent/internal/certs"
	"github.com/jitr-agent/jitr-agent/internal/policy"
)

const maxPoliciesPerPrincipal = 10 // AWS IoT Core quotas

func validPolicyName(name string) bool {
	ok, err := regexp.MatchString(`^[\w+=,.@-]{1,128}$`, name)
	return ok && err == nil
}

func (r *registry) createPolicy(name, document string) (policyRecord, error) {
	if !validPolicyName(name) {
		return policyRecord{}, invalidRequest("policyName %q is not valid", name)
	}
	parsed, err := policy.Parse([]byte(document))
	switch {
	case errors.Is(err, policy.ErrTooLong):
		return policyRecord{}, limitExceeded("%v", err)
	case err != nil:
		return policyRecord{}, &apiError{status: http.StatusBadRequest, name: "MalformedPolicyException", message: err.Error()}
	}
	rec := policyRecord{Name: name, Document: document, CreatedAt: r.now()}
	err = r.change(func() error {
		if _, ok := r.records.Policies[name]; ok {
			return alreadyExists("Policy cannot be created - name already exists (name="+name+")", name, r.arn("policy", name))
		}
		r.records.Policies[name], r.policies[name] = &rec, parsed
		return nil
	})
	return rec, err
}

// putPolicy creates or replaces a policy of the emulator's own.
func (r *registry) putPolicy(name string, document []byte) error {
	parsed, err := policy.Parse(document)
	if err != nil {
		return err
	}
	return r.change(func() error {
		r.records.Policies[name] = &policyRecord{Name: name, Document: string(document), CreatedAt: r.now()}
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
	generation uint64
	policies   []*policy.Policy
	variables  policy.Variables
}

func (p *principal) allows(action, arn string) bool {
	return policy.Evaluate(p.policies, policy.Request{Action: action, Resource: arn, Variables: p.variables}) == policy.Allow
}

// principal looks up the policies and variables of a connection. The thing
// variables have values only where the certificate is attached to a thing
// whose name is the client id (AWS IoT developer guide, thing policy
// variables).
func (r *registry) principal(leaf *x509.Certificate, clientID, sni string) *principal {
	id := certs.ID(leaf)
	p := &principal{
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
	if thing, ok := r.records.Things[clientID]; ok && slices.Contains(thing.Principals, id) {
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
