package rules

import (
	"cmp"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/iotcore/awsapi"
)

// Operations are those of topic rules, by method and path.
func (e *Engine) Operations() map[string]awsapi.Operation {
	byName := func(r *awsapi.Request) []string { return []string{e.ARN(r.PathValue("name"))} }
	return map[string]awsapi.Operation{
		"POST /rules/{name}":         {Action: "iot:CreateTopicRule", Resources: byName, Handle: e.create},
		"PATCH /rules/{name}":        {Action: "iot:ReplaceTopicRule", Resources: byName, Handle: e.replace},
		"GET /rules/{name}":          {Action: "iot:GetTopicRule", Resources: byName, Handle: e.get},
		"DELETE /rules/{name}":       {Action: "iot:DeleteTopicRule", Resources: byName, Handle: e.delete},
		"POST /rules/{name}/enable":  {Action: "iot:EnableTopicRule", Resources: byName, Handle: e.enable},
		"POST /rules/{name}/disable": {Action: "iot:DisableTopicRule", Resources: byName, Handle: e.disable},
		"GET /rules":                 {Action: "iot:ListTopicRules", Handle: e.list},
	}
}

var ruleName = regexp.MustCompile(`^[a-zA-Z0-9_]{1,128}$`)

// maxActions of a rule (AWS IoT Core quotas).
const maxActions = 10

func invalid(format string, args ...any) error {
	return awsapi.Refuse(http.StatusBadRequest, "InvalidRequestException", format, args...)
}

// read makes a rule of a TopicRulePayload.
func (e *Engine) read(r *awsapi.Request) (*rule, error) {
	var in struct {
		SQL          string
		Version      string `json:"awsIotSqlVersion"`
		Description  string
		RuleDisabled bool
		Actions      []action
		ErrorAction  *action
	}
	name := r.PathValue("name")
	if !ruleName.MatchString(name) {
		return nil, invalid("ruleName %q is not valid; it is [a-zA-Z0-9_]{1,128}", name)
	}
	if err := r.JSON(&in); err != nil {
		return nil, invalid("%v", err)
	}
	if version := cmp.Or(in.Version, "2015-10-08"); version != "2016-03-23" {
		return nil, invalid("The emulator knows awsIotSqlVersion 2016-03-23, not %s; 2015-10-08 is what a rule without a version has", version)
	}
	statement, err := parse(in.SQL)
	if err != nil {
		return nil, awsapi.Refuse(http.StatusBadRequest, "SqlParseException", "%v", err)
	}
	if len(in.Actions) > maxActions {
		return nil, invalid("A rule has at most %d actions", maxActions)
	}
	all := slices.Clone(in.Actions)
	if in.ErrorAction != nil {
		all = append(all, *in.ErrorAction)
	}
	for _, a := range all {
		if err := a.check(); err != nil {
			return nil, invalid("%v", err)
		}
		if role := a.role(); role != "" {
			if err := e.IAM.May(r.Credential.AccessKey, "iam:PassRole", role); err != nil {
				return nil, err
			}
		}
	}
	if in.Actions == nil {
		in.Actions = []action{}
	}
	return &rule{
		Name: name, SQL: in.SQL, Version: in.Version, Description: in.Description, Disabled: in.RuleDisabled,
		Actions: in.Actions, ErrorAction: in.ErrorAction, CreatedAt: time.Now(), statement: statement,
	}, nil
}

func (e *Engine) create(r *awsapi.Request) (any, error) {
	made, err := e.read(r)
	if err != nil {
		return nil, err
	}
	tags, err := url.ParseQuery(r.Header.Get("X-Amz-Tagging"))
	if err != nil {
		return nil, invalid("the tags %q are not valid", r.Header.Get("X-Amz-Tagging"))
	}
	made.Tags = map[string]string{}
	for key := range tags {
		made.Tags[key] = tags.Get(key)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ok := e.rules[made.Name]; ok {
		return nil, &awsapi.Error{
			Status: http.StatusConflict, Code: "ResourceAlreadyExistsException", Message: "Rule " + made.Name + " already exists",
			Fields: map[string]string{"resourceId": made.Name, "resourceArn": e.ARN(made.Name)},
		}
	}
	e.rules[made.Name] = made
	e.Changed()
	return nil, nil
}

// denied is how AWS answers for a rule that does not exist.
func denied(name string) error {
	return awsapi.Refuse(http.StatusUnauthorized, "UnauthorizedException", "Access to topic rule '%s' was denied", name)
}

func (e *Engine) replace(r *awsapi.Request) (any, error) {
	made, err := e.read(r)
	if err != nil {
		return nil, err
	}
	return nil, e.swap(made.Name, func(old rule) rule {
		made.CreatedAt, made.Tags = old.CreatedAt, old.Tags
		return *made
	})
}

// swap puts another rule in the place of one.
func (e *Engine) swap(name string, f func(rule) rule) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	old, ok := e.rules[name]
	if !ok {
		return denied(name)
	}
	made := f(*old)
	e.rules[name] = &made
	e.Changed()
	return nil
}

func (e *Engine) enable(r *awsapi.Request) (any, error)  { return e.disabled(r, false) }
func (e *Engine) disable(r *awsapi.Request) (any, error) { return e.disabled(r, true) }

func (e *Engine) disabled(r *awsapi.Request, to bool) (any, error) {
	return nil, e.swap(r.PathValue("name"), func(old rule) rule {
		old.Disabled = to
		return old
	})
}

func (e *Engine) get(r *awsapi.Request) (any, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	known, ok := e.rules[r.PathValue("name")]
	if !ok {
		return nil, denied(r.PathValue("name"))
	}
	described := map[string]any{
		"ruleName": known.Name, "sql": known.SQL, "awsIotSqlVersion": known.Version, "description": known.Description,
		"ruleDisabled": known.Disabled, "actions": known.Actions, "createdAt": awsapi.Epoch(known.CreatedAt),
	}
	if known.ErrorAction != nil {
		described["errorAction"] = known.ErrorAction
	}
	return map[string]any{"ruleArn": e.ARN(known.Name), "rule": described}, nil
}

// delete is idempotent, as DeleteTopicRule is.
func (e *Engine) delete(r *awsapi.Request) (any, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ok := e.rules[r.PathValue("name")]; ok {
		delete(e.rules, r.PathValue("name"))
		e.Changed()
	}
	return nil, nil
}

func (e *Engine) list(r *awsapi.Request) (any, error) {
	q := r.URL.Query()
	size, err := awsapi.PageSize(q.Get("maxResults"), 1000, 10000)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	names := slices.Sorted(maps.Keys(e.rules))
	names = slices.DeleteFunc(names, func(n string) bool {
		known := e.rules[n]
		topic, disabled := q.Get("topic"), q.Get("ruleDisabled")
		return topic != "" && !e.Matches(known.statement.filter, topic) ||
			disabled != "" && (disabled == "true") != known.Disabled
	})
	names, next := awsapi.Page(names, q.Get("nextToken"), size, func(n string) string { return n })
	list := []map[string]any{}
	for _, name := range names {
		known := e.rules[name]
		list = append(list, map[string]any{
			"ruleName": name, "ruleArn": e.ARN(name), "topicPattern": known.statement.filter,
			"ruleDisabled": known.Disabled, "createdAt": awsapi.Epoch(known.CreatedAt),
		})
	}
	out := map[string]any{"rules": list}
	if next != "" {
		out["nextToken"] = next
	}
	return out, nil
}

// Tags are those of a rule; ok is false where there
// is no such rule.
func (e *Engine) Tags(name string) (tags map[string]string, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	known, ok := e.rules[name]
	if !ok {
		return nil, false
	}
	return maps.Clone(known.Tags), true
}

// SetTags replaces the tags of a rule; false: there is no such rule.
func (e *Engine) SetTags(name string, tags map[string]string) bool {
	return e.swap(name, func(old rule) rule {
		old.Tags = tags
		return old
	}) == nil
}
