package iotcore

import (
	"maps"
	"slices"

	"github.com/jitr-agent/jitr-agent/internal/iotcore/awsapi"
)

func (a *api) createThing(r *awsapi.Request) (any, error) {
	var in struct {
		ThingTypeName    string
		AttributePayload struct{ Attributes map[string]string }
	}
	if err := r.JSON(&in); err != nil {
		return nil, err
	}
	rec, err := a.registry.createThing(r.PathValue("name"), in.ThingTypeName, in.AttributePayload.Attributes)
	if err != nil {
		return nil, err
	}
	return map[string]string{"thingName": rec.Name, "thingArn": a.registry.arn("thing", rec.Name), "thingId": rec.ID}, nil
}

func (a *api) describeThing(r *awsapi.Request) (any, error) {
	rec, err := a.registry.thing(r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	out := map[string]any{
		"defaultClientId": rec.Name, "thingName": rec.Name, "thingId": rec.ID,
		"thingArn": a.registry.arn("thing", rec.Name), "attributes": map[string]string{}, "version": rec.Version,
	}
	if rec.Attributes != nil {
		out["attributes"] = rec.Attributes
	}
	if rec.TypeName != "" {
		out["thingTypeName"] = rec.TypeName
	}
	return out, nil
}

func (a *api) updateThing(r *awsapi.Request) (any, error) {
	var in struct {
		AttributePayload *struct {
			Attributes map[string]string
			Merge      bool
		}
		ThingTypeName   string
		RemoveThingType bool
		ExpectedVersion *int64
	}
	if err := r.JSON(&in); err != nil {
		return nil, err
	}
	return nil, a.registry.updateThing(r.PathValue("name"), in.ExpectedVersion, func(rec *thingRecord) {
		if p := in.AttributePayload; p != nil {
			attributes := map[string]string{}
			if p.Merge {
				maps.Copy(attributes, rec.Attributes)
			}
			maps.Copy(attributes, p.Attributes)
			maps.DeleteFunc(attributes, func(_, v string) bool { return v == "" }) // "" removes one
			rec.Attributes = attributes
		}
		if in.ThingTypeName != "" || in.RemoveThingType {
			rec.TypeName = in.ThingTypeName
		}
	})
}

func (a *api) deleteThing(r *awsapi.Request) (any, error) {
	return nil, a.registry.deleteThing(r.PathValue("name"))
}

func (a *api) listThings(r *awsapi.Request) (any, error) {
	q := r.URL.Query()
	names := a.registry.thingNames(q.Get("attributeName"), q.Get("attributeValue"), q.Get("thingTypeName"))
	names, next, err := pageOf(r, names, "maxResults", "nextToken")
	if err != nil {
		return nil, err
	}
	list := []map[string]any{}
	for _, name := range names {
		rec, err := a.registry.thing(name)
		if err != nil {
			continue // deleted since
		}
		one := map[string]any{"thingName": name, "thingArn": a.registry.arn("thing", name), "attributes": map[string]string{}, "version": rec.Version}
		if rec.Attributes != nil {
			one["attributes"] = rec.Attributes
		}
		if rec.TypeName != "" {
			one["thingTypeName"] = rec.TypeName
		}
		list = append(list, one)
	}
	return withNext(map[string]any{"things": list}, "nextToken", next), nil
}

const principalHeader = "X-Amzn-Principal"

func (a *api) attachThingPrincipal(r *awsapi.Request) (any, error) {
	kind := r.URL.Query().Get("thingPrincipalType")
	if kind != "" && kind != exclusiveThing && kind != nonExclusiveThing {
		return nil, invalidRequest("thingPrincipalType %q is neither %s nor %s", kind, exclusiveThing, nonExclusiveThing)
	}
	return nil, a.registry.attachThing(r.PathValue("name"), r.Header.Get(principalHeader), kind == exclusiveThing)
}

func (a *api) detachThingPrincipal(r *awsapi.Request) (any, error) {
	return nil, a.registry.detachThing(r.PathValue("name"), r.Header.Get(principalHeader))
}

// principalsOf is one page of a thing's principals.
func (a *api) principalsOf(r *awsapi.Request) (ids []string, next string, err error) {
	rec, err := a.registry.thing(r.PathValue("name"))
	if err != nil {
		return nil, "", err
	}
	return pageOf(r, slices.Sorted(slices.Values(rec.Principals)), "maxResults", "nextToken")
}

func (a *api) listThingPrincipals(r *awsapi.Request) (any, error) {
	ids, next, err := a.principalsOf(r)
	if err != nil {
		return nil, err
	}
	principals := []string{}
	for _, id := range ids {
		principals = append(principals, a.registry.arn("cert", id))
	}
	return withNext(map[string]any{"principals": principals}, "nextToken", next), nil
}

func (a *api) listThingPrincipalsV2(r *awsapi.Request) (any, error) {
	ids, next, err := a.principalsOf(r)
	if err != nil {
		return nil, err
	}
	wanted, list := r.URL.Query().Get("thingPrincipalType"), []map[string]string{}
	for _, id := range ids {
		kind := a.registry.principalType(id)
		if wanted == "" || wanted == kind {
			list = append(list, map[string]string{"principal": a.registry.arn("cert", id), "thingPrincipalType": kind})
		}
	}
	return withNext(map[string]any{"thingPrincipalObjects": list}, "nextToken", next), nil
}

// thingsOf is one page of the things of a principal.
func (a *api) thingsOf(r *awsapi.Request) (names []string, next string, err error) {
	names, err = a.registry.principalThings(r.Header.Get(principalHeader))
	if err != nil {
		return nil, "", err
	}
	return pageOf(r, names, "maxResults", "nextToken")
}

func (a *api) listPrincipalThings(r *awsapi.Request) (any, error) {
	names, next, err := a.thingsOf(r)
	if err != nil {
		return nil, err
	}
	return withNext(map[string]any{"things": append([]string{}, names...)}, "nextToken", next), nil
}

func (a *api) listPrincipalThingsV2(r *awsapi.Request) (any, error) {
	names, next, err := a.thingsOf(r)
	if err != nil {
		return nil, err
	}
	id, err := a.registry.principalID(r.Header.Get(principalHeader))
	if err != nil {
		return nil, err
	}
	wanted, kind, list := r.URL.Query().Get("thingPrincipalType"), a.registry.principalType(id), []map[string]string{}
	for _, name := range names {
		if wanted == "" || wanted == kind {
			list = append(list, map[string]string{"thingName": name, "thingPrincipalType": kind})
		}
	}
	return withNext(map[string]any{"principalThingObjects": list}, "nextToken", next), nil
}
