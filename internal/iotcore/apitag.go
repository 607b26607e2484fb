package iotcore

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/jitr-agent/jitr-agent/internal/iotcore/awsapi"
)

// resourceARN is the resource whose tags a request is about.
func resourceARN(r *awsapi.Request) string {
	if r.Method == http.MethodGet {
		return r.URL.Query().Get("resourceArn")
	}
	return r.Field("resourceArn")
}

// tags of a CA certificate, policy or topic rule. Certificates and things
// cannot have any, as at AWS.
func (a *api) tags(arn string) (map[string]string, error) {
	if name, ok := strings.CutPrefix(arn, a.registry.arn("rule", "")); ok {
		if tags, ok := a.rules.Tags(name); ok {
			return tags, nil
		}
		return nil, notFound("Resource %s does not exist", arn)
	}
	return a.registry.tags(arn)
}

func (a *api) setTags(arn string, tags map[string]string) error {
	if name, ok := strings.CutPrefix(arn, a.registry.arn("rule", "")); ok {
		if !a.rules.SetTags(name, tags) {
			return notFound("Resource %s does not exist", arn)
		}
		return nil
	}
	return a.registry.setTags(arn, tags)
}

// retag changes the tags of the resource that a request names.
func (a *api) retag(r *awsapi.Request, add map[string]string, remove ...string) (any, error) {
	arn := resourceARN(r)
	old, err := a.tags(arn)
	if err != nil {
		return nil, err
	}
	return nil, a.setTags(arn, awsapi.Retag(old, add, remove...))
}

func (a *api) tagResource(r *awsapi.Request) (any, error) {
	var in struct{ Tags []tag }
	if err := r.JSON(&in); err != nil {
		return nil, err
	}
	return a.retag(r, tagMap(in.Tags))
}

func (a *api) untagResource(r *awsapi.Request) (any, error) {
	var in struct{ TagKeys []string }
	if err := r.JSON(&in); err != nil {
		return nil, err
	}
	return a.retag(r, nil, in.TagKeys...)
}

func (a *api) listTagsForResource(r *awsapi.Request) (any, error) {
	tags, err := a.tags(resourceARN(r))
	if err != nil {
		return nil, err
	}
	list := []tag{}
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		list = append(list, tag{key, tags[key]})
	}
	return map[string]any{"tags": list}, nil
}

// tagsOf finds where the tags of a resource are kept. The caller holds r.mu.
func (r *registry) tagsOf(arn string) (*map[string]string, error) {
	if id, ok := strings.CutPrefix(arn, r.arn("cacert", "")); ok {
		if rec, ok := r.records.CAs[id]; ok {
			return &rec.Tags, nil
		}
		return nil, notFound("Resource %s does not exist", arn)
	}
	if name, ok := strings.CutPrefix(arn, r.arn("policy", "")); ok {
		if rec, ok := r.records.Policies[name]; ok {
			return &rec.Tags, nil
		}
		return nil, notFound("Resource %s does not exist", arn)
	}
	return nil, invalidRequest("resourceArn %q cannot have tags", arn)
}

func (r *registry) tags(arn string) (map[string]string, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	tags, err := r.tagsOf(arn)
	if err != nil {
		return nil, err
	}
	return maps.Clone(*tags), nil
}

func (r *registry) setTags(arn string, to map[string]string) error {
	return r.change(func() error {
		tags, err := r.tagsOf(arn)
		if err != nil {
			return err
		}
		*tags = to
		return nil
	})
}
