// Package policy reads AWS IoT policy documents and decides with them, as the
// policy engine of AWS IoT Core does: everything is denied that no statement
// allows, and an explicit Deny wins over every Allow. IAM's policies, which
// the control plane is judged by, are dialects of the same language.
//
// It is the subset that devices and their operators use: Effect, Action,
// Resource with the wildcards * and ?, policy variables such as
// ${iot:Connection.Thing.ThingName}, and conditions on strings and booleans.
// The parser is strict: what it does not know it refuses by name, so that a
// policy is never weaker or stronger here than its author reads it.
//
// A parsed Policy is immutable and safe for concurrent use.
package policy

import "strings"

// Variables are the values of one connection that a policy can refer to:
// the variable's name without ${}, as "iot:ClientId", and its value. A
// variable that is not in the map has no value, and then a resource that
// names it matches nothing: that is how a policy with
// ${iot:Connection.Thing.ThingName} refuses a client whose certificate is
// attached to no thing.
type Variables map[string]string

// Request is one question: may this connection do Action to Resource?
type Request struct {
	Principal string // of policies that name some, as "Service:iot.amazonaws.com"
	Action    string // as "iot:Publish"; compared without regard to case, as IAM does
	Resource  string // an ARN, compared exactly
	Variables Variables
}

// Decision is the answer. The zero value denies.
type Decision int

// The three answers of AWS policy evaluation.
const (
	ImplicitDeny Decision = iota // no statement speaks of it
	ExplicitDeny                 // a statement with Effect Deny does
	Allow
)

// String names the decision as AWS documents do.
func (d Decision) String() string {
	switch d {
	case Allow:
		return "ALLOWED"
	case ExplicitDeny:
		return "EXPLICIT_DENY"
	default:
		return "IMPLICIT_DENY"
	}
}

// Policy is a parsed policy document.
type Policy struct {
	statements []statement
}

type statement struct {
	deny       bool
	principals []pattern // nil: of whom is not asked
	actions    []pattern // lower case
	resources  []pattern
	conditions []condition
}

// Evaluate answers r with all the policies of a principal.
func Evaluate(policies []*Policy, r Request) Decision {
	action := strings.ToLower(r.Action)
	decision := ImplicitDeny
	for _, p := range policies {
		for _, s := range p.statements {
			if !s.applies(action, r) {
				continue
			}
			if s.deny {
				return ExplicitDeny
			}
			decision = Allow
		}
	}
	return decision
}

func (s statement) applies(action string, r Request) bool {
	if !matchAny(s.actions, action, nil) || !matchAny(s.resources, r.Resource, r.Variables) {
		return false
	}
	if s.principals != nil && !matchAny(s.principals, r.Principal, nil) {
		return false
	}
	for _, c := range s.conditions {
		if !c.holds(r.Variables) {
			return false
		}
	}
	return true
}

func matchAny(patterns []pattern, s string, vars Variables) bool {
	for _, p := range patterns {
		if p.match(s, vars) {
			return true
		}
	}
	return false
}
