package iotcore

import "net/http"

func (a *api) createPolicy(r *http.Request) (any, error) {
	var in struct{ PolicyDocument string }
	if err := readJSON(r, &in); err != nil {
		return nil, err
	}
	rec, err := a.registry.createPolicy(r.PathValue("name"), in.PolicyDocument)
	if err != nil {
		return nil, err
	}
	return map[string]string{
		"policyName": rec.Name, "policyArn": a.registry.arn("policy", rec.Name),
		"policyDocument": rec.Document, "policyVersionId": "1",
	}, nil
}

func (a *api) getPolicy(r *http.Request) (any, error) {
	rec, err := a.registry.policy(r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"policyName": rec.Name, "policyArn": a.registry.arn("policy", rec.Name),
		"policyDocument": rec.Document, "defaultVersionId": "1",
		"creationDate": epoch(rec.CreatedAt), "lastModifiedDate": epoch(rec.CreatedAt),
	}, nil
}

func (a *api) attachPolicy(r *http.Request) (any, error) {
	var in struct{ Target string }
	if err := readJSON(r, &in); err != nil {
		return nil, err
	}
	return nil, a.registry.attachPolicy(r.PathValue("name"), in.Target)
}

// attachPrincipalPolicy is deprecated, and what the older how-tos call.
func (a *api) attachPrincipalPolicy(r *http.Request) (any, error) {
	return nil, a.registry.attachPolicy(r.PathValue("name"), r.Header.Get("X-Amzn-Iot-Principal"))
}

func (a *api) detachPolicy(r *http.Request) (any, error) {
	var in struct{ Target string }
	if err := readJSON(r, &in); err != nil {
		return nil, err
	}
	if err := a.registry.detachPolicy(r.PathValue("name"), in.Target); err != nil {
		return nil, err
	}
	return nil, nil
}

func (a *api) listAttachedPolicies(r *http.Request) (any, error) {
	id, err := a.registry.principalID(r.PathValue("target"))
	if err != nil {
		return nil, err
	}
	rec, err := a.registry.certificate(id)
	if err != nil {
		return nil, err
	}
	policies := []map[string]string{}
	for _, name := range rec.Policies {
		policies = append(policies, map[string]string{"policyName": name, "policyArn": a.registry.arn("policy", name)})
	}
	return map[string]any{"policies": policies}, nil
}

func (a *api) createThing(r *http.Request) (any, error) {
	var in struct {
		ThingTypeName    string
		AttributePayload struct{ Attributes map[string]string }
	}
	if err := readJSON(r, &in); err != nil {
		return nil, err
	}
	rec, err := a.registry.createThing(r.PathValue("name"), in.ThingTypeName, in.AttributePayload.Attributes)
	if err != nil {
		return nil, err
	}
	return map[string]string{"thingName": rec.Name, "thingArn": a.registry.arn("thing", rec.Name), "thingId": rec.ID}, nil
}

func (a *api) describeThing(r *http.Request) (any, error) {
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

const principalHeader = "X-Amzn-Principal"

func (a *api) attachThingPrincipal(r *http.Request) (any, error) {
	return nil, a.registry.attachThing(r.PathValue("name"), r.Header.Get(principalHeader))
}

func (a *api) detachThingPrincipal(r *http.Request) (any, error) {
	return nil, a.registry.detachThing(r.PathValue("name"), r.Header.Get(principalHeader))
}

func (a *api) listThingPrincipals(r *http.Request) (any, error) {
	rec, err := a.registry.thing(r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	principals := []string{}
	for _, id := range rec.Principals {
		principals = append(principals, a.registry.arn("cert", id))
	}
	return map[string]any{"principals": principals}, nil
}

func (a *api) listPrincipalThings(r *http.Request) (any, error) {
	things, err := a.registry.principalThings(r.Header.Get(principalHeader))
	if err != nil {
		return nil, err
	}
	return map[string]any{"things": things}, nil
}
