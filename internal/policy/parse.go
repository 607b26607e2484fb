package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
)

// MaxSize is the greatest length of a policy document in characters, white
// space not counted (AWS IoT Core quotas).
const MaxSize = 2048

// ErrTooLong: the document is longer than MaxSize.
var ErrTooLong = errors.New("the policy document is longer than 2048 characters without white space")

// Parse reads an AWS IoT policy document. Its errors name the statement,
// counted from 1, and what is wrong in it.
func Parse(document []byte) (*Policy, error) {
	if Size(document) > MaxSize {
		return nil, ErrTooLong
	}
	return parse(document, iotDevice)
}

func parse(document []byte, d dialect) (*Policy, error) {
	var doc struct {
		Version   *string
		ID        string `json:"Id"`
		Statement json.RawMessage
	}
	if err := strict(document, &doc); err != nil {
		return nil, fmt.Errorf("the policy document is not valid: %w", err)
	}
	if doc.Version != nil && !slices.Contains([]string{"2012-10-17", "2008-10-17"}, *doc.Version) {
		return nil, fmt.Errorf("policy Version %q is not known; use 2012-10-17", *doc.Version)
	}
	raw, err := oneOrMany[json.RawMessage](doc.Statement, '{')
	if err != nil || len(raw) == 0 {
		return nil, errors.New("the policy document has no Statement")
	}
	p := &Policy{}
	for i, r := range raw {
		s, err := parseStatement(r, d)
		if err != nil {
			return nil, fmt.Errorf("policy statement %d: %w", i+1, err)
		}
		p.statements = append(p.statements, s)
	}
	return p, nil
}

func parseStatement(raw json.RawMessage, d dialect) (statement, error) {
	var in struct {
		Sid       string
		Effect    string
		Principal json.RawMessage
		Action    json.RawMessage
		Resource  json.RawMessage
		Condition map[string]map[string]json.RawMessage
	}
	if err := strict(raw, &in); err != nil {
		return statement{}, err
	}
	s := statement{deny: in.Effect == "Deny"}
	if !s.deny && in.Effect != "Allow" {
		return statement{}, fmt.Errorf("the Effect is %q; it must be Allow or Deny", in.Effect)
	}
	actions, err := texts("Action", in.Action)
	if err != nil {
		return statement{}, err
	}
	for _, a := range actions {
		if err := d.checkAction(a); err != nil {
			return statement{}, err
		}
		p, err := compile(strings.ToLower(a))
		if err != nil {
			return statement{}, fmt.Errorf("the Action %q: %w", a, err)
		}
		s.actions = append(s.actions, p)
	}
	if s.principals, err = d.principals(in.Principal); err != nil {
		return statement{}, err
	}
	resources := []string{"*"} // what a role's trust policy speaks of is the role
	switch {
	case d == iamTrust && in.Resource != nil:
		return statement{}, errors.New("has prohibited field Resource; a trust policy is about its own role")
	case d != iamTrust:
		if resources, err = texts("Resource", in.Resource); err != nil {
			return statement{}, err
		}
	}
	for _, r := range resources {
		if r != "*" && !strings.HasPrefix(r, "arn:") {
			return statement{}, fmt.Errorf("the Resource %q is neither * nor an ARN", r)
		}
		p, err := compile(r)
		if err != nil {
			return statement{}, fmt.Errorf("the Resource %q: %w", r, err)
		}
		s.resources = append(s.resources, p)
	}
	for name, keys := range in.Condition {
		for key, raw := range keys {
			values, err := texts("Condition "+name+" "+key, raw)
			if err != nil {
				return statement{}, err
			}
			c, err := d.condition(name, key, values)
			if err != nil {
				return statement{}, err
			}
			s.conditions = append(s.conditions, c)
		}
	}
	return s, nil
}

// texts reads a string or a list of strings. Booleans stand for their names,
// as in {"Bool": {"iot:Connection.Thing.IsAttached": true}}.
func texts(field string, raw json.RawMessage) ([]string, error) {
	values, err := oneOrMany[any](raw, '"', 't', 'f')
	if err != nil || len(values) == 0 {
		return nil, fmt.Errorf("%s is missing or empty; it must be a string or a list of strings", field)
	}
	var out []string
	for _, v := range values {
		switch v := v.(type) {
		case string:
			out = append(out, v)
		case bool:
			out = append(out, fmt.Sprint(v))
		default:
			return nil, fmt.Errorf("%s holds %v; it must be a string or a list of strings", field, v)
		}
	}
	return out, nil
}

// oneOrMany reads a list, or the single value that AWS takes in its place:
// one that begins with a byte of single.
func oneOrMany[T any](raw json.RawMessage, single ...byte) ([]T, error) {
	raw = bytes.TrimSpace(raw)
	if len(raw) > 0 && slices.Contains(single, raw[0]) {
		var one T
		err := json.Unmarshal(raw, &one)
		return []T{one}, err
	}
	var many []T
	err := json.Unmarshal(raw, &many)
	return many, err
}

// strict decodes exactly one JSON value and refuses unknown fields.
func strict(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return plain(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something behind the closing brace")
	}
	return nil
}

// plain takes the decoder's own vocabulary out of an error.
func plain(err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("not JSON: it ends too early")
	case errors.As(err, &syntax):
		return fmt.Errorf("not JSON at byte %d: %w", syntax.Offset, err)
	case errors.As(err, &kind):
		return fmt.Errorf("%s cannot be a %s", kind.Field, kind.Value)
	}
	return errors.New(strings.TrimPrefix(err.Error(), "json: "))
}

// Size is the length of a document as AWS counts it: characters, white space
// not counted.
func Size(document []byte) int {
	n := 0
	for _, r := range string(document) {
		if !unicode.IsSpace(r) {
			n++
		}
	}
	return n
}
