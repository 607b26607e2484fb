package iotcore

import (
	"maps"
	"slices"

	"github.com/jitr-agent/jitr-agent/internal/certs"
)

// createThing is idempotent for the same configuration, as CreateThing is.
func (r *registry) createThing(name, typeName string, attributes map[string]string) (thingRecord, error) {
	if !certs.ValidThingName(name) {
		return thingRecord{}, invalidRequest("thingName %q is not valid; it is [a-zA-Z0-9:_-]{1,128}", name)
	}
	var rec thingRecord
	err := r.change(func() error {
		if have, ok := r.records.Things[name]; ok {
			if have.TypeName != typeName || !maps.Equal(have.Attributes, attributes) {
				return alreadyExists("Thing "+name+" already exists in account with different attributes", name, r.arn("thing", name))
			}
			rec = *have
			return nil
		}
		rec = thingRecord{Name: name, ID: newUUID(), TypeName: typeName, Attributes: attributes, Version: 1}
		stored := rec
		r.records.Things[name] = &stored
		return nil
	})
	return rec, err
}

func (r *registry) thing(name string) (thingRecord, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	rec, ok := r.records.Things[name]
	if !ok {
		return thingRecord{}, notFound("Thing %s does not exist", name)
	}
	return *rec, nil
}

// attachThing is idempotent.
func (r *registry) attachThing(name, principal string) error {
	id, err := r.principalID(principal)
	if err != nil {
		return err
	}
	return r.change(func() error {
		rec, ok := r.records.Things[name]
		if !ok {
			return notFound("Thing %s does not exist", name)
		}
		if _, ok := r.records.Certificates[id]; !ok {
			return notFound("Certificate %s does not exist", id)
		}
		if !slices.Contains(rec.Principals, id) {
			rec.Principals = append(slices.Clone(rec.Principals), id)
		}
		return nil
	})
}

func (r *registry) detachThing(name, principal string) error {
	id, err := r.principalID(principal)
	if err != nil {
		return err
	}
	return r.change(func() error {
		rec, ok := r.records.Things[name]
		if !ok {
			return notFound("Thing %s does not exist", name)
		}
		rec.Principals = slices.DeleteFunc(slices.Clone(rec.Principals), func(p string) bool { return p == id })
		return nil
	})
}

func (r *registry) principalThings(principal string) ([]string, error) {
	id, err := r.principalID(principal)
	if err != nil {
		return nil, err
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	things := []string{}
	for name, rec := range r.records.Things {
		if slices.Contains(rec.Principals, id) {
			things = append(things, name)
		}
	}
	slices.Sort(things)
	return things, nil
}
