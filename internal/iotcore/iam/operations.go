package iam

import (
	"cmp"
	"crypto/rand"
	"maps"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/iotcore/awsapi"
	"github.com/jitr-agent/jitr-agent/internal/policy"
)

// Version and name space of the IAM API in the query protocol.
const (
	Version   = "2010-05-08"
	Namespace = "https://iam.amazonaws.com/doc/2010-05-08/"
)

// Operations are those of IAM.
func (s *Service) Operations() map[string]awsapi.Operation {
	ops := map[string]awsapi.Operation{}
	for name, handle := range map[string]awsapi.Handler{
		"CreateRole": s.createRole, "GetRole": s.getRole, "DeleteRole": s.deleteRole,
		"UpdateAssumeRolePolicy": s.updateAssumeRolePolicy,
		"PutRolePolicy":          s.putRolePolicy, "GetRolePolicy": s.getRolePolicy,
		"DeleteRolePolicy": s.deleteRolePolicy, "ListRolePolicies": s.listRolePolicies,
		"AttachRolePolicy": s.attachRolePolicy, "DetachRolePolicy": s.detachRolePolicy,
		"ListAttachedRolePolicies": s.listAttachedRolePolicies,
		"TagRole":                  s.tagRole, "UntagRole": s.untagRole, "ListRoleTags": s.listRoleTags,
	} {
		ops[name] = awsapi.Operation{Action: "iam:" + name, Resources: s.roleARN, Handle: handle}
	}
	ops["ListRoles"] = awsapi.Operation{Action: "iam:ListRoles", Handle: s.listRoles}
	return ops
}

// roleARN is the role that a request is about.
func (s *Service) roleARN(r *awsapi.Request) []string {
	folder := cmp.Or(r.Form("Path"), "/")
	s.mu.RLock()
	defer s.mu.RUnlock()
	if known, ok := s.roles[r.Form("RoleName")]; ok {
		folder = known.Path
	}
	return []string{s.place.GlobalARN("iam", "role"+folder+r.Form("RoleName"))}
}

type tag struct{ Key, Value string }

// xmlRole is a role in an answer.
type xmlRole struct {
	Path                     string
	RoleName                 string
	RoleId                   string
	Arn                      string
	CreateDate               string
	AssumeRolePolicyDocument string
	Description              string `xml:",omitempty"`
	MaxSessionDuration       int
	Tags                     []tag `xml:"Tags>member,omitempty"`
}

func (s *Service) xml(r *role) xmlRole {
	return xmlRole{
		r.Path, r.Name, r.ID, s.arn(r), r.CreatedAt.UTC().Format(time.RFC3339),
		encoded(r.Trust), r.Description, r.MaxSession, tagList(r.Tags),
	}
}

// encoded is a document as IAM gives it: percent-encoded (RFC 3986).
func encoded(document string) string {
	return strings.ReplaceAll(url.QueryEscape(document), "+", "%20")
}

func tagList(tags map[string]string) []tag {
	var out []tag
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		out = append(out, tag{key, tags[key]})
	}
	return out
}

func formTags(r *awsapi.Request) map[string]string {
	tags := map[string]string{}
	for i := 1; ; i++ {
		key := r.Form("Tags.member." + strconv.Itoa(i) + ".Key")
		if key == "" {
			return tags
		}
		tags[key] = r.Form("Tags.member." + strconv.Itoa(i) + ".Value")
	}
}

func noSuchEntity(format string, args ...any) error {
	return awsapi.Refuse(http.StatusNotFound, "NoSuchEntity", format, args...)
}

func malformed(err error) error {
	return awsapi.Refuse(http.StatusBadRequest, "MalformedPolicyDocument", "%v", err)
}

// change carries out f on the role that the request names.
func (s *Service) change(r *awsapi.Request, f func(*role) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, ok := s.roles[r.Form("RoleName")]
	if !ok {
		return noSuchEntity("The role with name %s cannot be found.", r.Form("RoleName"))
	}
	if err := f(known); err != nil {
		return err
	}
	s.changed()
	return nil
}

// look reads the role that the request names.
func (s *Service) look(r *awsapi.Request, f func(*role) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	known, ok := s.roles[r.Form("RoleName")]
	if !ok {
		return noSuchEntity("The role with name %s cannot be found.", r.Form("RoleName"))
	}
	return f(known)
}

var (
	roleName = regexp.MustCompile(`^[\w+=,.@-]{1,64}$`)
	rolePath = regexp.MustCompile(`^(/|/[!-~]+/)$`)
)

func (s *Service) createRole(r *awsapi.Request) (any, error) {
	name, folder := r.Form("RoleName"), cmp.Or(r.Form("Path"), "/")
	if !roleName.MatchString(name) || !rolePath.MatchString(folder) {
		return nil, awsapi.Refuse(http.StatusBadRequest, "ValidationError", "RoleName %q or Path %q is not valid", name, folder)
	}
	trust := r.Form("AssumeRolePolicyDocument")
	if _, err := policy.ParseTrust([]byte(trust)); err != nil {
		return nil, malformed(err)
	}
	session, err := strconv.Atoi(cmp.Or(r.Form("MaxSessionDuration"), "3600"))
	if err != nil {
		return nil, awsapi.Refuse(http.StatusBadRequest, "ValidationError", "MaxSessionDuration is not a number")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.roles[name]; ok {
		return nil, awsapi.Refuse(http.StatusConflict, "EntityAlreadyExists", "Role with name %s already exists.", name)
	}
	made := &role{
		Name: name, ID: "AROA" + rand.Text()[:17], Path: folder, Trust: trust, Description: r.Form("Description"),
		CreatedAt: time.Now(), MaxSession: session, Inline: map[string]string{}, Tags: formTags(r),
	}
	s.roles[name] = made
	s.changed()
	return struct{ Role xmlRole }{s.xml(made)}, nil
}

func (s *Service) getRole(r *awsapi.Request) (any, error) {
	var out struct{ Role xmlRole }
	err := s.look(r, func(known *role) error {
		out.Role = s.xml(known)
		return nil
	})
	return out, err
}

func (s *Service) listRoles(r *awsapi.Request) (any, error) {
	size, err := awsapi.PageSize(r.Form("MaxItems"), 100, 1000)
	if err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	names, next := awsapi.Page(slices.Sorted(maps.Keys(s.roles)), r.Form("Marker"), size, func(n string) string { return n })
	out := struct {
		Roles       []xmlRole `xml:"Roles>member"`
		IsTruncated bool
		Marker      string `xml:",omitempty"`
	}{IsTruncated: next != "", Marker: next}
	for _, name := range names {
		out.Roles = append(out.Roles, s.xml(s.roles[name]))
	}
	return out, nil
}

func (s *Service) deleteRole(r *awsapi.Request) (any, error) {
	return nil, s.change(r, func(known *role) error {
		if len(known.Inline) > 0 {
			return awsapi.Refuse(http.StatusConflict, "DeleteConflict", "Cannot delete entity, must delete policies first.")
		}
		if len(known.Managed) > 0 {
			return awsapi.Refuse(http.StatusConflict, "DeleteConflict", "Cannot delete entity, must detach all policies first.")
		}
		delete(s.roles, known.Name)
		return nil
	})
}

func (s *Service) updateAssumeRolePolicy(r *awsapi.Request) (any, error) {
	trust := r.Form("PolicyDocument")
	if _, err := policy.ParseTrust([]byte(trust)); err != nil {
		return nil, malformed(err)
	}
	return nil, s.change(r, func(known *role) error {
		known.Trust = trust
		return nil
	})
}

func (s *Service) putRolePolicy(r *awsapi.Request) (any, error) {
	name, document := r.Form("PolicyName"), r.Form("PolicyDocument")
	if _, err := policy.ParseIdentity([]byte(document)); err != nil {
		return nil, malformed(err)
	}
	return nil, s.change(r, func(known *role) error {
		total := policy.Size([]byte(document))
		for other, d := range known.Inline {
			if other != name {
				total += policy.Size([]byte(d))
			}
		}
		if total > policy.MaxRoleSize {
			return awsapi.Refuse(http.StatusConflict, "LimitExceeded", "Maximum policy size of %d bytes exceeded for role %s", policy.MaxRoleSize, known.Name)
		}
		if known.Inline == nil {
			known.Inline = map[string]string{}
		}
		known.Inline[name] = document
		return nil
	})
}

func noPolicy(name string) error {
	return noSuchEntity("The role policy with name %s cannot be found.", name)
}

func (s *Service) getRolePolicy(r *awsapi.Request) (any, error) {
	out := struct{ RoleName, PolicyName, PolicyDocument string }{RoleName: r.Form("RoleName"), PolicyName: r.Form("PolicyName")}
	err := s.look(r, func(known *role) error {
		document, ok := known.Inline[out.PolicyName]
		if !ok {
			return noPolicy(out.PolicyName)
		}
		out.PolicyDocument = encoded(document)
		return nil
	})
	return out, err
}

func (s *Service) deleteRolePolicy(r *awsapi.Request) (any, error) {
	return nil, s.change(r, func(known *role) error {
		if _, ok := known.Inline[r.Form("PolicyName")]; !ok {
			return noPolicy(r.Form("PolicyName"))
		}
		delete(known.Inline, r.Form("PolicyName"))
		return nil
	})
}

func (s *Service) listRolePolicies(r *awsapi.Request) (any, error) {
	var out struct {
		PolicyNames []string `xml:"PolicyNames>member"`
		IsTruncated bool
	}
	err := s.look(r, func(known *role) error {
		out.PolicyNames = slices.Sorted(maps.Keys(known.Inline))
		return nil
	})
	return out, err
}

func (s *Service) attachRolePolicy(r *awsapi.Request) (any, error) {
	arn := r.Form("PolicyArn")
	if _, ok := managed[arn]; !ok {
		return nil, noSuchEntity("Policy %s does not exist or is not attachable.", arn)
	}
	return nil, s.change(r, func(known *role) error {
		if !slices.Contains(known.Managed, arn) {
			known.Managed = append(slices.Clone(known.Managed), arn)
		}
		return nil
	})
}

func (s *Service) detachRolePolicy(r *awsapi.Request) (any, error) {
	arn := r.Form("PolicyArn")
	return nil, s.change(r, func(known *role) error {
		if !slices.Contains(known.Managed, arn) {
			return noSuchEntity("Policy %s was not found.", arn)
		}
		known.Managed = slices.DeleteFunc(slices.Clone(known.Managed), func(a string) bool { return a == arn })
		return nil
	})
}

func (s *Service) listAttachedRolePolicies(r *awsapi.Request) (any, error) {
	type attached struct{ PolicyName, PolicyArn string }
	var out struct {
		AttachedPolicies []attached `xml:"AttachedPolicies>member"`
		IsTruncated      bool
	}
	err := s.look(r, func(known *role) error {
		for _, arn := range known.Managed {
			out.AttachedPolicies = append(out.AttachedPolicies, attached{path.Base(arn), arn})
		}
		return nil
	})
	return out, err
}

func (s *Service) tagRole(r *awsapi.Request) (any, error) {
	return nil, s.change(r, func(known *role) error {
		known.Tags = awsapi.Retag(known.Tags, formTags(r))
		return nil
	})
}

func (s *Service) untagRole(r *awsapi.Request) (any, error) {
	return nil, s.change(r, func(known *role) error {
		var keys []string
		for i := 1; r.Form("TagKeys.member."+strconv.Itoa(i)) != ""; i++ {
			keys = append(keys, r.Form("TagKeys.member."+strconv.Itoa(i)))
		}
		known.Tags = awsapi.Retag(known.Tags, nil, keys...)
		return nil
	})
}

func (s *Service) listRoleTags(r *awsapi.Request) (any, error) {
	var out struct {
		Tags        []tag `xml:"Tags>member"`
		IsTruncated bool
	}
	err := s.look(r, func(known *role) error {
		out.Tags = tagList(known.Tags)
		return nil
	})
	return out, err
}
