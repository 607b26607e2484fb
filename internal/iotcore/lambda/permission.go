package lambda

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/jitr-agent/jitr-agent/internal/iotcore/awsapi"
	"github.com/jitr-agent/jitr-agent/internal/policy"
)

// permission is one statement of a function's resource policy.
type permission struct {
	ID        string          `json:"id"`
	Statement json.RawMessage `json:"statement"`
}

// Allows says whether the policy of a function lets a service invoke it on
// behalf of source, an ARN.
func (s *Service) Allows(functionARN, service, source string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.byName(functionARN)
	if err != nil || s.ARN(f.Name) != strings.TrimSuffix(functionARN, ":$LATEST") || len(f.Permissions) == 0 {
		return false
	}
	p, err := policy.ParseResource(document(f))
	if err != nil {
		return false
	}
	return policy.Evaluate([]*policy.Policy{p}, policy.Request{
		Principal: "Service:" + service, Action: "lambda:InvokeFunction", Resource: s.ARN(f.Name),
		Variables: policy.Variables{"aws:sourcearn": source, "aws:sourceaccount": s.Place.Account},
	}) == policy.Allow
}

// document is a function's resource policy.
func document(f *function) []byte {
	statements := make([]json.RawMessage, 0, len(f.Permissions))
	for _, p := range f.Permissions {
		statements = append(statements, p.Statement)
	}
	return mustEncode(map[string]any{"Version": "2012-10-17", "Id": "default", "Statement": statements})
}

// mustEncode marshals what is made of plain fields, so it cannot fail.
func mustEncode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}

func (s *Service) addPermission(r *awsapi.Request) (any, error) {
	var in struct{ StatementId, Action, Principal, SourceArn, SourceAccount string }
	if err := r.JSON(&in); err != nil {
		return nil, err
	}
	if in.StatementId == "" || in.Action == "" || in.Principal == "" {
		return nil, invalid("StatementId, Action and Principal must be given")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.byName(r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(f.Permissions, func(p permission) bool { return p.ID == in.StatementId }) {
		return nil, awsapi.Refuse(http.StatusConflict, "ResourceConflictException",
			"The statement id (%s) provided already exists. Please provide a new statement id, or remove the existing statement.", in.StatementId)
	}
	statement := map[string]any{"Sid": in.StatementId, "Effect": "Allow", "Action": in.Action, "Resource": s.ARN(f.Name)}
	switch {
	case in.Principal == "*":
		statement["Principal"] = "*"
	case strings.Contains(in.Principal, ".amazonaws.com"):
		statement["Principal"] = map[string]string{"Service": in.Principal}
	case len(in.Principal) == 12:
		statement["Principal"] = map[string]string{"AWS": "arn:aws:iam::" + in.Principal + ":root"}
	case strings.HasPrefix(in.Principal, "arn:"):
		statement["Principal"] = map[string]string{"AWS": in.Principal}
	default:
		return nil, invalid("The provided principal was invalid. Please check the principal and try again.")
	}
	conditions := map[string]any{}
	if in.SourceAccount != "" {
		conditions["StringEquals"] = map[string]string{"AWS:SourceAccount": in.SourceAccount}
	}
	if in.SourceArn != "" {
		conditions["ArnLike"] = map[string]string{"AWS:SourceArn": in.SourceArn}
	}
	if len(conditions) > 0 {
		statement["Condition"] = conditions
	}
	encoded := mustEncode(statement)
	if _, err := policy.ParseResource(mustEncode(map[string]any{"Statement": json.RawMessage(encoded)})); err != nil {
		return nil, invalid("%v", err)
	}
	f.Permissions = append(slices.Clone(f.Permissions), permission{in.StatementId, encoded})
	s.Changed()
	return map[string]string{"Statement": string(encoded)}, nil
}

func (s *Service) removePermission(r *awsapi.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.byName(r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	id := r.PathValue("id")
	i := slices.IndexFunc(f.Permissions, func(p permission) bool { return p.ID == id })
	if i < 0 {
		return nil, awsapi.Refuse(http.StatusNotFound, "ResourceNotFoundException", "Statement %s is not found in resource policy.", id)
	}
	f.Permissions = slices.Delete(slices.Clone(f.Permissions), i, i+1)
	s.Changed()
	return nil, nil
}

func (s *Service) getPolicy(r *awsapi.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.byName(r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	if len(f.Permissions) == 0 {
		return nil, awsapi.Refuse(http.StatusNotFound, "ResourceNotFoundException", "The resource you requested does not exist.")
	}
	return map[string]string{"Policy": string(document(f)), "RevisionId": f.Revision}, nil
}
