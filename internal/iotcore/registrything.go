package iotcore

import (
	"maps"
	"net/http"
	"slices"

	"github.com/jitr-agent/jitr-agent/internal/certs"
	"github.com/jitr-agent/jitr-agent/internal/iotcore/awsapi"
)

// thingPrincipalType of an attachment.
const (
	exclusiveThing    = "EXCLUSIVE_THING"
	nonExclusiveThing = "NON_EXCLUSIVE_THING"
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
		rec = thingRecord{Name: name, ID: awsapi.NewID(), TypeName: typeName, Attributes: attributes, Version: 1}
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

// updateThing changes a thing. expected is the version that it must have; nil:
// any.
func (r *registry) updateThing(name string, expected *int64, f func(*thingRecord)) error {
	return r.change(func() error {
		rec, ok := r.records.Things[name]
		switch {
		case !ok:
			return notFound("Thing %s does not exist", name)
		case expected != nil && *expected != rec.Version:
			return awsapi.Refuse(http.StatusConflict, "VersionConflictException", "The version of thing %s is %d, not %d", name, rec.Version, *expected)
		}
		f(rec)
		rec.Version++
		return nil
	})
}

// deleteThing is idempotent, as DeleteThing is.
func (r *registry) deleteThing(name string) error {
	return r.change(func() error {
		if rec, ok := r.records.Things[name]; ok && len(rec.Principals) > 0 {
			return invalidRequest("Cannot delete. Thing %s is still attached to one or more principals", name)
		}
		delete(r.records.Things, name)
		return nil
	})
}

// thingNames are the names of things, sorted: of all, or of those with an
// attribute or a type.
func (r *registry) thingNames(attribute, value, typeName string) []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var names []string
	for name, rec := range r.records.Things {
		if (attribute == "" || rec.Attributes[attribute] == value) && (typeName == "" || rec.TypeName == typeName) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// attachThing is idempotent. A certificate that is attached exclusively has
// one thing and no other.
func (r *registry) attachThing(name, principal string, exclusive bool) error {
	id, err := r.principalID(principal)
	if err != nil {
		return err
	}
	return r.change(func() error {
		rec, ok := r.records.Things[name]
		if !ok {
			return notFound("Thing %s does not exist", name)
		}
		cert, ok := r.records.Certificates[id]
		if !ok {
			return notFound("Certificate %s does not exist", id)
		}
		if other := cert.ExclusiveThing; other != "" && other != name {
			return invalidRequest("Principal %s is attached to thing %s exclusively", principal, other)
		}
		if exclusive {
			for other, rec := range r.records.Things {
				if other != name && slices.Contains(rec.Principals, id) {
					return invalidRequest("Principal %s cannot be attached exclusively: it is attached to thing %s", principal, other)
				}
			}
			cert.ExclusiveThing = name
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
		if cert, ok := r.records.Certificates[id]; ok && cert.ExclusiveThing == name {
			cert.ExclusiveThing = ""
		}
		return nil
	})
}

// principalType is how a certificate is attached to its things.
func (r *registry) principalType(id string) string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if rec, ok := r.records.Certificates[id]; ok && rec.ExclusiveThing != "" {
		return exclusiveThing
	}
	return nonExclusiveThing
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
