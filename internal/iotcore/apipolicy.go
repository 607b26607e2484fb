package iotcore

import (
	"net/http"
	"strconv"

	"github.com/jitr-agent/jitr-agent/internal/iotcore/awsapi"
)

// tag is a tag in the requests of AWS IoT.
type tag struct {
	Key, Value string
}

func tagMap(tags []tag) map[string]string {
	if len(tags) == 0 {
		return nil
	}
	m := map[string]string{}
	for _, t := range tags {
		m[t.Key] = t.Value
	}
	return m
}

func (a *api) createPolicy(r *awsapi.Request) (any, error) {
	var in struct {
		PolicyDocument string
		Tags           []tag
	}
	if err := r.JSON(&in); err != nil {
		return nil, err
	}
	rec, err := a.registry.createPolicy(r.PathValue("name"), in.PolicyDocument, tagMap(in.Tags))
	if err != nil {
		return nil, err
	}
	return map[string]string{
		"policyName": rec.Name, "policyArn": a.registry.arn("policy", rec.Name),
		"policyDocument": in.PolicyDocument, "policyVersionId": "1",
	}, nil
}

func (a *api) getPolicy(r *awsapi.Request) (any, error) {
	rec, err := a.registry.policy(r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	v, _ := rec.version(rec.Default)
	return map[string]any{
		"policyName": rec.Name, "policyArn": a.registry.arn("policy", rec.Name),
		"policyDocument": v.Document, "defaultVersionId": strconv.Itoa(rec.Default), "generationId": strconv.Itoa(rec.Last),
		"creationDate": awsapi.Epoch(rec.CreatedAt), "lastModifiedDate": awsapi.Epoch(rec.ModifiedAt),
	}, nil
}

func (a *api) deletePolicy(r *awsapi.Request) (any, error) {
	return nil, a.registry.deletePolicy(r.PathValue("name"))
}

func (a *api) listPolicies(r *awsapi.Request) (any, error) {
	names, next, err := pageOf(r, a.registry.policyNames(), "pageSize", "marker")
	if err != nil {
		return nil, err
	}
	return a.policyList(names, next), nil
}

// policyList is names of policies in an answer.
func (a *api) policyList(names []string, next string) map[string]any {
	list := []map[string]string{}
	for _, name := range names {
		list = append(list, map[string]string{"policyName": name, "policyArn": a.registry.arn("policy", name)})
	}
	return withNext(map[string]any{"policies": list}, "nextMarker", next)
}

// pageOf cuts a page out of names, which are sorted.
func pageOf(r *awsapi.Request, names []string, size, token string) (page []string, next string, err error) {
	const limit = 250 // AWS API reference, List operations
	q := r.URL.Query()
	n, err := awsapi.PageSize(q.Get(size), 25, limit)
	if err != nil {
		return nil, "", err
	}
	page, next = awsapi.Page(names, q.Get(token), n, func(s string) string { return s })
	return page, next, nil
}

func withNext(out map[string]any, field, next string) map[string]any {
	if next != "" {
		out[field] = next
	}
	return out
}

func (a *api) createPolicyVersion(r *awsapi.Request) (any, error) {
	var in struct{ PolicyDocument string }
	if err := r.JSON(&in); err != nil {
		return nil, err
	}
	asDefault := r.URL.Query().Get("setAsDefault") == "true"
	id, err := a.registry.createPolicyVersion(r.PathValue("name"), in.PolicyDocument, asDefault)
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"policyArn": a.registry.arn("policy", r.PathValue("name")), "policyDocument": in.PolicyDocument,
		"policyVersionId": strconv.Itoa(id), "isDefaultVersion": asDefault,
	}, nil
}

func (a *api) listPolicyVersions(r *awsapi.Request) (any, error) {
	rec, err := a.registry.policy(r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	list := []map[string]any{}
	for _, v := range rec.Versions {
		list = append(list, map[string]any{
			"versionId": strconv.Itoa(v.ID), "isDefaultVersion": v.ID == rec.Default, "createDate": awsapi.Epoch(v.CreatedAt),
		})
	}
	return map[string]any{"policyVersions": list}, nil
}

// versionID is the version that a request names.
func versionID(r *awsapi.Request) (int, error) {
	id, err := strconv.Atoi(r.PathValue("id"))
	if err != nil || id < 1 {
		return 0, invalidRequest("policyVersionId %q is not valid", r.PathValue("id"))
	}
	return id, nil
}

func (a *api) getPolicyVersion(r *awsapi.Request) (any, error) {
	id, err := versionID(r)
	if err != nil {
		return nil, err
	}
	rec, err := a.registry.policy(r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	v, ok := rec.version(id)
	if !ok {
		return nil, notFound("Policy version not found: %s version %d", rec.Name, id)
	}
	return map[string]any{
		"policyArn": a.registry.arn("policy", rec.Name), "policyName": rec.Name, "policyDocument": v.Document,
		"policyVersionId": strconv.Itoa(id), "isDefaultVersion": id == rec.Default, "generationId": strconv.Itoa(id),
		"creationDate": awsapi.Epoch(v.CreatedAt), "lastModifiedDate": awsapi.Epoch(v.CreatedAt),
	}, nil
}

func (a *api) setDefaultPolicyVersion(r *awsapi.Request) (any, error) {
	id, err := versionID(r)
	if err != nil {
		return nil, err
	}
	return nil, a.registry.setDefaultPolicyVersion(r.PathValue("name"), id)
}

func (a *api) deletePolicyVersion(r *awsapi.Request) (any, error) {
	id, err := versionID(r)
	if err != nil {
		return nil, err
	}
	return nil, a.registry.deletePolicyVersion(r.PathValue("name"), id)
}

func (a *api) attachPolicy(r *awsapi.Request) (any, error) {
	return nil, a.registry.attachPolicy(r.PathValue("name"), r.Field("target"))
}

func (a *api) detachPolicy(r *awsapi.Request) (any, error) {
	return nil, a.registry.detachPolicy(r.PathValue("name"), r.Field("target"))
}

const policyPrincipalHeader = "X-Amzn-Iot-Principal"

// attachPrincipalPolicy is deprecated, and what the older how-tos call.
func (a *api) attachPrincipalPolicy(r *awsapi.Request) (any, error) {
	return nil, a.registry.attachPolicy(r.PathValue("name"), r.Header.Get(policyPrincipalHeader))
}

func (a *api) detachPrincipalPolicy(r *awsapi.Request) (any, error) {
	return nil, a.registry.detachPolicy(r.PathValue("name"), r.Header.Get(policyPrincipalHeader))
}

func (a *api) listAttachedPolicies(r *awsapi.Request) (any, error) {
	id, err := a.registry.principalID(r.PathValue("target"))
	if err != nil {
		return nil, err
	}
	rec, err := a.registry.certificate(id)
	if err != nil {
		return nil, err
	}
	return a.policyList(rec.Policies, ""), nil // ten at most: one page
}

func (a *api) listTargetsForPolicy(r *awsapi.Request) (any, error) {
	ids, err := a.registry.policyTargets(r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	ids, next, err := pageOf(r, ids, "pageSize", "marker")
	if err != nil {
		return nil, err
	}
	targets := []string{}
	for _, id := range ids {
		targets = append(targets, a.registry.arn("cert", id))
	}
	return withNext(map[string]any{"targets": targets}, "nextMarker", next), nil
}

// versionsLimit is how AWS refuses a sixth version.
func versionsLimit(name string) error {
	return awsapi.Refuse(http.StatusConflict, "VersionsLimitExceededException",
		"The policy %s already has the maximum number of versions (%d)", name, maxPolicyVersions)
}
