package cloud

import (
	"encoding/json"
	"net/url"
	"reflect"
)

// document is a policy of IAM or of AWS IoT.
type document struct {
	Version   string
	Statement []statement
}

type statement struct {
	Sid       string            `json:",omitempty"`
	Effect    string            `json:",omitempty"`
	Principal map[string]string `json:",omitempty"`
	Action    []string
	Resource  []string                     `json:",omitempty"`
	Condition map[string]map[string]string `json:",omitempty"`
}

// policyVersion is the version of the policy language (IAM user guide).
const policyVersion = "2012-10-17"

func allow(s ...statement) document {
	for i := range s {
		s[i].Effect = "Allow"
	}
	return document{Version: policyVersion, Statement: s}
}

// trust lets a service take a role on.
func trust(service string, condition map[string]map[string]string) document {
	return allow(statement{Principal: map[string]string{"Service": service}, Action: []string{"sts:AssumeRole"}, Condition: condition})
}

// String is the document without white space.
func (d document) String() string {
	data, err := json.Marshal(d)
	if err != nil {
		panic(err) // strings in maps and lists can be marshalled
	}
	return string(data)
}

// sameAs says whether stored is the document d. IAM gives documents
// back URL-encoded (IAM API reference), and services reformat them.
func (d document) sameAs(stored string) bool {
	return sameJSON(d.String(), stored) || sameJSON(d.String(), unescape(stored))
}

func unescape(s string) string {
	plain, err := url.QueryUnescape(s)
	if err != nil {
		return s
	}
	return plain
}

func sameJSON(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && reflect.DeepEqual(x, y)
}
