package iotcore

import (
	"encoding/json"
	"maps"
	"reflect"
	"time"
)

// Limits of the shadow service (AWS general reference, device shadow).
const (
	maxShadowSize   = 8 << 10 // bytes of the state; metadata does not count
	maxShadowLevels = 6       // nested levels in desired or reported
	maxClientToken  = 64      // bytes
)

// object is a JSON object. Numbers in it are json.Number, so that they come
// out as they went in.
type object = map[string]any

// shadow is one device shadow. It is plain data without a lock or a clock:
// its methods are the rules of the shadow service and nothing else. The zero
// value is a shadow that does not exist.
type shadow struct {
	Exists   bool   `json:"exists"` // false: deleted; the version goes on counting
	Version  int64  `json:"version"`
	Desired  object `json:"desired,omitempty"`
	Reported object `json:"reported,omitempty"`
	// The metadata mirrors the state: {"timestamp": seconds} in the place of
	// each leaf.
	DesiredMeta  object `json:"desiredMeta,omitempty"`
	ReportedMeta object `json:"reportedMeta,omitempty"`
}

// shadowBody is the wire form of accepted, delta and get documents, and of
// the two halves of a documents message.
type shadowBody struct {
	State       object `json:"state"`
	Metadata    object `json:"metadata"`
	Version     int64  `json:"version"`
	Timestamp   int64  `json:"timestamp,omitempty"` // seconds
	ClientToken string `json:"clientToken,omitempty"`
}

type shadowDocuments struct {
	Previous    shadowBody `json:"previous"`
	Current     shadowBody `json:"current"`
	Timestamp   int64      `json:"timestamp"`
	ClientToken string     `json:"clientToken,omitempty"`
}

type shadowDeleted struct {
	Version     int64  `json:"version"`
	Timestamp   int64  `json:"timestamp"`
	ClientToken string `json:"clientToken,omitempty"`
}

// shadowUpdated is what one accepted update says to the world.
type shadowUpdated struct {
	accepted  shadowBody
	documents shadowDocuments
	delta     *shadowBody // nil where desired and reported agree
}

// update applies a request. An error, always a *shadowError, leaves the
// shadow as it was.
func (s *shadow) update(req shadowRequest, now time.Time) (shadowUpdated, error) {
	if req.version != nil && *req.version != s.Version {
		return shadowUpdated{}, &shadowError{409, "Version conflict"}
	}
	at := now.Unix()
	next := shadow{
		Exists:       true,
		Version:      s.Version + 1,
		Desired:      clone(s.Desired),
		Reported:     clone(s.Reported),
		DesiredMeta:  clone(s.DesiredMeta),
		ReportedMeta: clone(s.ReportedMeta),
	}
	echo := shadowBody{State: object{}, Metadata: object{}, Version: next.Version, Timestamp: at, ClientToken: req.clientToken}
	apply := func(name string, section, meta *object) {
		patch, named := req.state[name]
		if !named {
			return
		}
		echo.State[name] = patch
		fields, isObject := patch.(object)
		if !isObject { // null removes the section
			*section, *meta = nil, nil
			return
		}
		if *section == nil {
			*section, *meta = object{}, object{}
		}
		merge(*section, *meta, fields, at)
		echo.Metadata[name] = stamp(fields, at)
	}
	apply("desired", &next.Desired, &next.DesiredMeta)
	apply("reported", &next.Reported, &next.ReportedMeta)
	if next.size() > maxShadowSize {
		return shadowUpdated{}, &shadowError{413, "The payload exceeds the maximum size allowed"}
	}
	out := shadowUpdated{
		accepted: echo,
		documents: shadowDocuments{
			Previous: s.body(), Current: next.body(), Timestamp: at, ClientToken: req.clientToken,
		},
	}
	if state, meta := next.delta(); len(state) > 0 {
		out.delta = &shadowBody{State: state, Metadata: meta, Version: next.Version, Timestamp: at, ClientToken: req.clientToken}
	}
	*s = next
	return out, nil
}

// get is the whole document. name is what the 404 calls the shadow.
func (s *shadow) get(name, clientToken string, now time.Time) (shadowBody, error) {
	if !s.Exists {
		return shadowBody{}, noShadow(name)
	}
	body := s.body()
	if state, _ := s.delta(); len(state) > 0 {
		body.State["delta"] = state
	}
	body.Timestamp, body.ClientToken = now.Unix(), clientToken
	return body, nil
}

// delete removes the document. The version is kept, so that a shadow made
// anew goes on counting (AWS keeps it for 48 hours).
func (s *shadow) delete(name, clientToken string, now time.Time) (shadowDeleted, error) {
	if !s.Exists {
		return shadowDeleted{}, noShadow(name)
	}
	*s = shadow{Version: s.Version}
	return shadowDeleted{Version: s.Version, Timestamp: now.Unix(), ClientToken: clientToken}, nil
}

func noShadow(name string) error {
	return &shadowError{404, "No shadow exists with name: '" + name + "'"}
}

func (s *shadow) body() shadowBody {
	b := shadowBody{State: object{}, Metadata: object{}, Version: s.Version}
	if s.Desired != nil {
		b.State["desired"], b.Metadata["desired"] = s.Desired, s.DesiredMeta
	}
	if s.Reported != nil {
		b.State["reported"], b.Metadata["reported"] = s.Reported, s.ReportedMeta
	}
	return b
}

func (s *shadow) delta() (state, meta object) {
	return difference(s.Desired, s.Reported, s.DesiredMeta)
}

func (s *shadow) size() int {
	data, err := json.Marshal(s.body().State)
	if err != nil {
		return maxShadowSize + 1 // cannot be: it was decoded from JSON
	}
	return len(data)
}

// merge writes patch over state: null deletes a key, objects are merged,
// everything else, arrays too, is replaced whole.
func merge(state, meta, patch object, at int64) {
	for key, value := range patch {
		switch value := value.(type) {
		case nil:
			delete(state, key)
			delete(meta, key)
		case object:
			inner, isObject := state[key].(object)
			innerMeta, _ := meta[key].(object)
			if !isObject {
				inner, innerMeta = object{}, object{}
			}
			merge(inner, innerMeta, value, at)
			state[key], meta[key] = inner, innerMeta
		default:
			state[key], meta[key] = value, stamp(value, at)
		}
	}
}

// stamp is the metadata of a value: its shape, with the time in each leaf.
func stamp(value any, at int64) any {
	switch value := value.(type) {
	case object:
		out := object{}
		for key, v := range value {
			if v != nil {
				out[key] = stamp(v, at)
			}
		}
		return out
	case []any:
		out := make([]any, len(value))
		for i, v := range value {
			out[i] = stamp(v, at)
		}
		return out
	default:
		return object{"timestamp": at}
	}
}

// difference is what desired wants otherwise than reported says, with
// desired's metadata. Keys that only reported has do not count.
func difference(desired, reported, meta object) (state, stateMeta object) {
	state, stateMeta = object{}, object{}
	for key, want := range desired {
		have, known := reported[key]
		wantObject, ok1 := want.(object)
		haveObject, ok2 := have.(object)
		if ok1 && ok2 {
			innerMeta, _ := meta[key].(object)
			inner, innerMeta := difference(wantObject, haveObject, innerMeta)
			if len(inner) > 0 {
				state[key], stateMeta[key] = inner, innerMeta
			}
			continue
		}
		if known && equal(want, have) {
			continue
		}
		state[key], stateMeta[key] = want, meta[key]
	}
	return state, stateMeta
}

// equal compares JSON values; 1 and 1.0 are the same number.
func equal(a, b any) bool {
	if a, ok := a.(json.Number); ok {
		b, ok := b.(json.Number)
		if !ok {
			return false
		}
		x, err1 := a.Float64()
		y, err2 := b.Float64()
		return a == b || (err1 == nil && err2 == nil && x == y)
	}
	listA, ok1 := a.([]any)
	listB, ok2 := b.([]any)
	if ok1 && ok2 {
		if len(listA) != len(listB) {
			return false
		}
		for i := range listA {
			if !equal(listA[i], listB[i]) {
				return false
			}
		}
		return true
	}
	mapA, ok1 := a.(object)
	mapB, ok2 := b.(object)
	if ok1 && ok2 {
		return maps.EqualFunc(mapA, mapB, equal)
	}
	return reflect.DeepEqual(a, b)
}

// clone copies the objects of a tree; the leaves and arrays are never
// written to, so they are shared.
func clone(o object) object {
	if o == nil {
		return nil
	}
	out := make(object, len(o))
	for key, v := range o {
		if inner, ok := v.(object); ok {
			v = clone(inner)
		}
		out[key] = v
	}
	return out
}
