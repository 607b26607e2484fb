package iotcore

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"time"
)

// shadowKey names a shadow; the classic one has no name.
type shadowKey struct{ thing, name string }

// prefix is the beginning of its topics.
func (k shadowKey) prefix() string {
	if k.name == "" {
		return "$aws/things/" + k.thing + "/shadow"
	}
	return "$aws/things/" + k.thing + "/shadow/name/" + k.name
}

// label is what a 404 calls it.
func (k shadowKey) label() string {
	if k.name == "" {
		return k.thing
	}
	return k.name
}

// MarshalText makes the key of the stored map.
func (k shadowKey) MarshalText() ([]byte, error) { return []byte(k.thing + "/" + k.name), nil }

// UnmarshalText reads it back; a thing's name has no slash.
func (k *shadowKey) UnmarshalText(text []byte) error {
	k.thing, k.name, _ = strings.Cut(string(text), "/")
	return nil
}

// message is one MQTT message that the shadow service publishes.
type message struct {
	topic   string
	payload []byte
}

// shadows holds all shadows of the account. It is safe for concurrent use.
type shadows struct {
	now     func() time.Time
	changed func() // told of every change; must not block nor call back

	mu  sync.Mutex
	all map[shadowKey]*shadow
}

// request carries out one request. answer is the accepted document; also are
// the further messages that everybody hears of (delta, documents). The error
// is a *shadowError, and token the request's client token for it.
func (s *shadows) request(t shadowTopic, payload []byte) (answer []byte, also []message, token string, err error) {
	if len(t.name) > 64 {
		return nil, nil, "", &shadowError{400, "Invalid shadow name"}
	}
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	current, ok := s.all[t.shadowKey]
	if !ok {
		current = &shadow{} // kept only where it comes to exist
	}
	switch t.verb {
	case "get":
		if token, err = parseShadowToken(payload); err != nil {
			return nil, nil, token, err
		}
		doc, err := current.get(t.label(), token, now)
		if err != nil {
			return nil, nil, token, err
		}
		return encode(doc), nil, token, nil
	case "delete":
		if token, err = parseShadowToken(payload); err != nil {
			return nil, nil, token, err
		}
		doc, err := current.delete(t.label(), token, now)
		if err != nil {
			return nil, nil, token, err
		}
		s.changed()
		return encode(doc), nil, token, nil
	default:
		req, err := parseShadowUpdate(payload)
		if err != nil {
			return nil, nil, req.clientToken, err
		}
		out, err := current.update(req, now)
		if err != nil {
			return nil, nil, req.clientToken, err
		}
		s.all[t.shadowKey] = current
		s.changed()
		if out.delta != nil {
			also = append(also, message{t.prefix() + "/update/delta", encode(out.delta)})
		}
		also = append(also, message{t.prefix() + "/update/documents", encode(out.documents)})
		return encode(out.accepted), also, req.clientToken, nil
	}
}

// mqtt carries out a request that came by MQTT. Its answer is a message too.
func (s *shadows) mqtt(t shadowTopic, payload []byte) []message {
	answer, also, token, err := s.request(t, payload)
	topic := t.prefix() + "/" + t.verb
	if err == nil {
		return append([]message{{topic + "/accepted", answer}}, also...)
	}
	refused := &shadowError{500, "Internal service failure"}
	errors.As(err, &refused)
	return []message{{topic + "/rejected", encode(struct {
		Code        int    `json:"code"`
		Message     string `json:"message"`
		Timestamp   int64  `json:"timestamp"`
		ClientToken string `json:"clientToken,omitempty"`
	}{refused.code, refused.message, s.now().Unix(), token})}}
}

// MarshalJSON is all shadows, for the store.
func (s *shadows) MarshalJSON() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return json.Marshal(s.all)
}

// UnmarshalJSON replaces them by stored ones.
func (s *shadows) UnmarshalJSON(data []byte) error {
	all := map[shadowKey]*shadow{}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&all); err != nil {
		return err
	}
	s.mu.Lock()
	s.all = all
	s.mu.Unlock()
	return nil
}

// encode marshals what was decoded from JSON or is made of plain fields, so
// it cannot fail.
func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}
