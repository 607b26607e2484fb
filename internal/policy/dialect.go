package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// MaxRoleSize is the greatest total length of a role's inline policies in
// characters, white space not counted (IAM quotas).
const MaxRoleSize = 10240

// dialect is what differs between the policies of AWS.
type dialect int

const (
	iotDevice   dialect = iota // of a certificate; actions of AWS IoT only
	iamIdentity                // of a role: who it is about is not said
	iamResource                // of a function or a queue: it names principals
	iamTrust                   // of a role: who may assume it; it names principals and no resource
)

// ParseIdentity reads an IAM policy of a role. Its condition keys have to be
// in lower case in Request.Variables, as "aws:sourcearn": IAM does not look at
// case.
func ParseIdentity(document []byte) (*Policy, error) { return parse(document, iamIdentity) }

// ParseResource reads the policy of a resource, such as a Lambda function. A
// principal is compared as KIND:NAME: "Service:iot.amazonaws.com",
// "AWS:arn:aws:iam::123456789012:root".
func ParseResource(document []byte) (*Policy, error) { return parse(document, iamResource) }

// ParseTrust reads the trust policy of a role, with principals as in
// ParseResource.
func ParseTrust(document []byte) (*Policy, error) { return parse(document, iamTrust) }

func (d dialect) checkAction(action string) error {
	if action == "*" {
		return nil
	}
	service, _, ok := strings.Cut(action, ":")
	switch {
	case d == iotDevice && (!ok || !strings.EqualFold(service, "iot")):
		return fmt.Errorf("the Action %q is not one of AWS IoT, which begin with 'iot:'", action)
	case !ok || service == "":
		return fmt.Errorf("the Action %q names no service; it must be as 'iot:UpdateCertificate'", action)
	}
	return nil
}

// principals reads {"Service": "iot.amazonaws.com"}, {"AWS": [...]} or "*".
func (d dialect) principals(raw json.RawMessage) ([]pattern, error) {
	named := d == iamResource || d == iamTrust
	switch {
	case !named && raw != nil:
		return nil, errors.New("unknown field \"Principal\"")
	case !named:
		return nil, nil
	case raw == nil:
		return nil, errors.New("the Principal is missing")
	}
	var all string
	if json.Unmarshal(raw, &all) == nil {
		if all != "*" {
			return nil, fmt.Errorf("the Principal is %q; it must be * or as {\"Service\": \"iot.amazonaws.com\"}", all)
		}
		return []pattern{{{kind: anyMany}}}, nil
	}
	var kinds map[string]json.RawMessage
	if err := json.Unmarshal(raw, &kinds); err != nil || len(kinds) == 0 {
		return nil, errors.New("the Principal must be * or as {\"Service\": \"iot.amazonaws.com\"}")
	}
	var out []pattern
	for kind, raw := range kinds {
		if !slices.Contains([]string{"AWS", "Service", "Federated"}, kind) {
			return nil, fmt.Errorf("the Principal %q is not known; use Service or AWS", kind)
		}
		names, err := texts("Principal "+kind, raw)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			p := pattern{{literal, kind + ":" + name}}
			if name == "*" {
				p = pattern{{literal, kind + ":"}, {kind: anyMany}}
			}
			out = append(out, p)
		}
	}
	return out, nil
}

// conditionKey is the form of IAM's; IoT's own have fewer prefixes.
var conditionKey = regexp.MustCompile(`^[A-Za-z0-9-]+:.`)

func (d dialect) condition(name, key string, values []string) (condition, error) {
	if d != iotDevice {
		if !conditionKey.MatchString(key) {
			return condition{}, fmt.Errorf("condition key %q is not known; it must be as aws:SourceArn", key)
		}
		return newCondition(name, strings.ToLower(key), values)
	}
	key = strings.TrimSuffix(strings.TrimPrefix(key, "${"), "}") // AWS takes both spellings
	if !strings.HasPrefix(key, "iot:") && !strings.HasPrefix(key, "aws:") {
		return condition{}, fmt.Errorf("condition key %q is not known; it must begin with 'iot:' or 'aws:'", key)
	}
	return newCondition(name, key, values)
}
