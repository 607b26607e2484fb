// Package iam is the part of AWS IAM and STS that a deployment of ours needs:
// roles with their trust and inline policies, temporary keys for who has
// assumed a role, and the decision whether a caller may do something.
//
// It promises that the role that was deployed is the one that is evaluated: a
// call that is signed with a role's temporary keys is allowed what the role's
// policies allow, and nothing else. Every other access key is an
// administrator, unless Restrict has given it a policy.
package iam

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/iotcore/awsapi"
	"github.com/jitr-agent/jitr-agent/internal/policy"
)

// Service is the roles of one account. It is safe for concurrent use.
type Service struct {
	place   awsapi.Place
	changed func()

	mu         sync.RWMutex
	roles      map[string]*role
	sessions   map[string]session          // by access key id
	restricted map[string][]*policy.Policy // by access key id
}

type role struct {
	Name        string            `json:"name"`
	ID          string            `json:"id"`
	Path        string            `json:"path"`
	Trust       string            `json:"trust"`
	Description string            `json:"description,omitempty"`
	CreatedAt   time.Time         `json:"createdAt"`
	MaxSession  int               `json:"maxSession"` // seconds
	Inline      map[string]string `json:"inline,omitempty"`
	Managed     []string          `json:"managed,omitempty"` // ARNs
	Tags        map[string]string `json:"tags,omitempty"`
}

type session struct{ role, name string }

// New makes an account without roles. changed is told of every change that a
// restart has to remember; it must neither block nor call back.
func New(place awsapi.Place, changed func()) *Service {
	return &Service{
		place: place, changed: changed,
		roles: map[string]*role{}, sessions: map[string]session{}, restricted: map[string][]*policy.Policy{},
	}
}

// Keys are temporary credentials.
type Keys struct{ AccessKey, SecretKey, SessionToken string }

// ownKey begins the temporary keys that we make, so that one of an earlier
// run is told from a stranger's.
const ownKey = "ASIAEMULATOR"

// Assume makes temporary keys of a role. They are valid until Forget. It does
// not look at the trust policy: that is CanAssume's.
func (s *Service) Assume(roleARN, name string) (Keys, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.byARN(roleARN)
	if !ok {
		return Keys{}, fmt.Errorf("assume %s: there is no such role", roleARN)
	}
	k := Keys{AccessKey: ownKey + rand.Text()[:8], SecretKey: rand.Text() + rand.Text(), SessionToken: rand.Text() + rand.Text()}
	s.sessions[k.AccessKey] = session{r.Name, name}
	return k, nil
}

// Forget ends temporary keys.
func (s *Service) Forget(accessKey string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, accessKey)
}

// Restrict lets an access key do only what an IAM policy document allows. nil
// makes it an administrator again.
func (s *Service) Restrict(accessKey string, document []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if document == nil {
		delete(s.restricted, accessKey)
		return nil
	}
	p, err := policy.ParseIdentity(document)
	if err != nil {
		return err
	}
	s.restricted[accessKey] = []*policy.Policy{p}
	return nil
}

// CanAssume says whether the trust policy of a role lets a service assume it,
// as lambda.amazonaws.com, for the sake of the resource source: a rule, a
// function. A role younger than settle is not yet known to the services: on AWS
// that takes some seconds.
func (s *Service) CanAssume(roleARN, service, source string, settle time.Duration) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r, ok := s.byARN(roleARN)
	if !ok || time.Since(r.CreatedAt) < settle {
		return false
	}
	trust, err := policy.ParseTrust([]byte(r.Trust))
	if err != nil {
		return false
	}
	return policy.Evaluate([]*policy.Policy{trust}, policy.Request{
		Principal: "Service:" + service, Action: "sts:AssumeRole", Resource: roleARN,
		Variables: policy.Variables{"aws:sourceaccount": s.place.Account, "aws:sourcearn": source},
	}) == policy.Allow
}

// RoleMay says whether a role may do action to resource. The error is AWS's
// AccessDenied with its sentence.
func (s *Service) RoleMay(roleARN, sessionName, action, resource string) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r, ok := s.byARN(roleARN)
	if !ok {
		return awsapi.Refuse(http.StatusForbidden, "AccessDeniedException", "The role %s does not exist", roleARN)
	}
	return decide(s.sessionARN(r.Name, sessionName), r.policies(), action, resource)
}

// May says whether the holder of an access key may do action to resource. The
// error is AWS's AccessDenied with its sentence.
func (s *Service) May(accessKey, action, resource string) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if held, ok := s.sessions[accessKey]; ok {
		r, ok := s.roles[held.role]
		if !ok {
			return expired()
		}
		return decide(s.sessionARN(held.role, held.name), r.policies(), action, resource)
	}
	if strings.HasPrefix(accessKey, ownKey) {
		return expired()
	}
	if own, ok := s.restricted[accessKey]; ok {
		return decide(s.userARN(accessKey), own, action, resource)
	}
	return nil
}

func expired() error {
	return awsapi.Refuse(http.StatusForbidden, "ExpiredTokenException", "The security token included in the request is expired")
}

// decide words a refusal as AWS does.
func decide(who string, policies []*policy.Policy, action, resource string) error {
	var why string
	switch policy.Evaluate(policies, policy.Request{Action: action, Resource: resource}) {
	case policy.Allow:
		return nil
	case policy.ExplicitDeny:
		why = "with an explicit deny in an identity-based policy"
	case policy.ImplicitDeny:
		why = "because no identity-based policy allows the " + action + " action"
	}
	return awsapi.Refuse(http.StatusForbidden, "AccessDeniedException",
		"User: %s is not authorized to perform: %s on resource: %s %s", who, action, resource, why)
}

// Caller is the ARN of the holder of an access key.
func (s *Service) Caller(accessKey string) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if held, ok := s.sessions[accessKey]; ok {
		return s.sessionARN(held.role, held.name)
	}
	return s.userARN(accessKey)
}

func (s *Service) userARN(accessKey string) string {
	if _, ok := s.restricted[accessKey]; ok {
		return s.place.GlobalARN("iam", "user/"+accessKey)
	}
	return s.place.GlobalARN("iam", "user/administrator")
}

func (s *Service) sessionARN(role, name string) string {
	return s.place.GlobalARN("sts", "assumed-role/"+role+"/"+name)
}

// policies are the role's, parsed. Documents are checked when they come.
func (r *role) policies() []*policy.Policy {
	var out []*policy.Policy
	add := func(document string) {
		if p, err := policy.ParseIdentity([]byte(document)); err == nil {
			out = append(out, p)
		}
	}
	for _, document := range r.Inline {
		add(document)
	}
	for _, arn := range r.Managed {
		add(managed[arn])
	}
	return out
}

// byARN finds a role. The caller holds s.mu.
func (s *Service) byARN(arn string) (*role, bool) {
	rest, ok := strings.CutPrefix(arn, s.place.GlobalARN("iam", "role/"))
	if !ok {
		return nil, false
	}
	r, ok := s.roles[rest[strings.LastIndex(rest, "/")+1:]]
	return r, ok && s.arn(r) == arn
}

func (s *Service) arn(r *role) string { return s.place.GlobalARN("iam", "role"+r.Path+r.Name) }

// MarshalJSON is the roles, for the store. Temporary keys do not last.
func (s *Service) MarshalJSON() ([]byte, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return json.Marshal(s.roles)
}

// UnmarshalJSON replaces the roles by stored ones.
func (s *Service) UnmarshalJSON(data []byte) error {
	roles := map[string]*role{}
	if err := json.Unmarshal(data, &roles); err != nil {
		return err
	}
	s.mu.Lock()
	s.roles = roles
	s.mu.Unlock()
	return nil
}
