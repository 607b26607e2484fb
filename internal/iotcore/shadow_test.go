package iotcore

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

// at is the time of all shadow tests, and ts its metadata.
var at = time.Unix(1_700_000_000, 0)

const ts = `{"timestamp":1700000000}`

func mustUpdate(t *testing.T, s *shadow, body string) shadowUpdated {
	t.Helper()
	req, err := parseShadowUpdate([]byte(body))
	if err != nil {
		t.Fatalf("parse %s: %v", body, err)
	}
	out, err := s.update(req, at)
	if err != nil {
		t.Fatalf("update %s: %v", body, err)
	}
	return out
}

// wantJSON compares by value, so the order of keys and white space are free.
func wantJSON(t *testing.T, what string, got any, want string) {
	t.Helper()
	data, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var a, b any
	if err := json.Unmarshal(data, &a); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(want), &b); err != nil {
		t.Fatalf("%s: the test's own JSON: %v", what, err)
	}
	if !equalJSON(a, b) {
		t.Errorf("%s:\n got %s\nwant %s", what, data, want)
	}
}

func equalJSON(a, b any) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && string(x) == string(y)
}

func TestShadowUpdateAnswers(t *testing.T) {
	var s shadow
	out := mustUpdate(t, &s, `{"state":{"desired":{"telemetry":{"interval":"7s","on":true}},"reported":{"telemetry":{"on":true,"extra":1}}},"clientToken":"t1"}`)
	wantJSON(t, "accepted", out.accepted, `{"state":{"desired":{"telemetry":{"interval":"7s","on":true}},"reported":{"telemetry":{"on":true,"extra":1}}},
	  "metadata":{"desired":{"telemetry":{"interval":`+ts+`,"on":`+ts+`}},"reported":{"telemetry":{"on":`+ts+`,"extra":`+ts+`}}},
	  "version":1,"timestamp":1700000000,"clientToken":"t1"}`)
	wantJSON(t, "delta", out.delta, `{"state":{"telemetry":{"interval":"7s"}},"metadata":{"telemetry":{"interval":`+ts+`}},"version":1,"timestamp":1700000000,"clientToken":"t1"}`)
	wantJSON(t, "previous", out.documents.Previous, `{"state":{},"metadata":{},"version":0}`)

	// Accepted echoes only what this request named.
	out = mustUpdate(t, &s, `{"state":{"reported":{"telemetry":{"interval":"7s"}}}}`)
	wantJSON(t, "accepted", out.accepted, `{"state":{"reported":{"telemetry":{"interval":"7s"}}},"metadata":{"reported":{"telemetry":{"interval":`+ts+`}}},"version":2,"timestamp":1700000000}`)
	if out.delta != nil {
		t.Errorf("delta after desired was reached: %v", out.delta)
	}
	wantJSON(t, "current", out.documents.Current.State, `{"desired":{"telemetry":{"interval":"7s","on":true}},"reported":{"telemetry":{"interval":"7s","on":true,"extra":1}}}`)
	wantJSON(t, "previous", out.documents.Previous.State, `{"desired":{"telemetry":{"interval":"7s","on":true}},"reported":{"telemetry":{"on":true,"extra":1}}}`)

	doc, err := s.get("gw-1", "t2", at)
	if err != nil {
		t.Fatal(err)
	}
	if doc.Version != 2 || doc.ClientToken != "t2" || doc.State["delta"] != nil {
		t.Errorf("get: %+v", doc)
	}
}

func TestShadowMerge(t *testing.T) {
	tests := []struct {
		name    string
		updates []string
		state   string // of get, delta included
	}{
		{"null deletes a key", []string{`{"desired":{"a":1,"b":{"c":2,"d":3}}}`, `{"desired":{"a":null,"b":{"c":null}}}`}, `{"desired":{"b":{"d":3}},"delta":{"b":{"d":3}}}`},
		{"null removes a section", []string{`{"desired":{"a":1},"reported":{"a":2}}`, `{"desired":null}`}, `{"reported":{"a":2}}`},
		{"arrays are replaced whole", []string{`{"desired":{"a":[1,2,3]},"reported":{"a":[1,2,3]}}`, `{"desired":{"a":[1,2]}}`}, `{"desired":{"a":[1,2]},"reported":{"a":[1,2,3]},"delta":{"a":[1,2]}}`},
		{"object over scalar", []string{`{"desired":{"a":1}}`, `{"desired":{"a":{"b":1,"c":null}}}`}, `{"desired":{"a":{"b":1}},"delta":{"a":{"b":1}}}`},
		{"scalar over object", []string{`{"reported":{"a":{"b":1}}}`, `{"reported":{"a":1}}`}, `{"reported":{"a":1}}`},
		{"reported only is no delta", []string{`{"reported":{"a":1}}`}, `{"reported":{"a":1}}`},
		{"1 and 1.0 agree", []string{`{"desired":{"a":1,"l":[{"x":2}]},"reported":{"a":1.0,"l":[{"x":2.0}]}}`}, `{"desired":{"a":1,"l":[{"x":2}]},"reported":{"a":1.0,"l":[{"x":2.0}]}}`},
		{"big numbers survive", []string{`{"desired":{"a":9007199254740993}}`}, `{"desired":{"a":9007199254740993},"delta":{"a":9007199254740993}}`},
		{"empty state", []string{`{}`}, `{}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var s shadow
			for _, u := range tt.updates {
				mustUpdate(t, &s, `{"state":`+u+`}`)
			}
			doc, err := s.get("x", "", at)
			if err != nil {
				t.Fatal(err)
			}
			wantJSON(t, "state", doc.State, tt.state)
			if doc.Version != int64(len(tt.updates)) {
				t.Errorf("version %d after %d updates", doc.Version, len(tt.updates))
			}
		})
	}
}

func TestShadowRefusals(t *testing.T) {
	big := `{"state":{"desired":{"a":"` + strings.Repeat("x", maxShadowSize) + `"}}}`
	tests := []struct {
		body string
		code int
		text string
	}{
		{`{`, 400, "Invalid JSON"},
		{`[]`, 400, "Invalid JSON"},
		{`null`, 400, "Invalid JSON"},
		{`{"state":{}} x`, 400, "Invalid JSON"},
		{`{}`, 400, "Missing required node: state"},
		{`{"state":1}`, 400, "State node must be an object"},
		{`{"state":null}`, 400, "State node must be an object"},
		{`{"state":{"desired":1}}`, 400, "Desired node must be an object"},
		{`{"state":{"reported":[]}}`, 400, "Reported node must be an object"},
		{`{"state":{"wanted":{}}}`, 400, "State contains an invalid node"},
		{`{"state":{"desired":{"a":[1,null]}}}`, 400, "State contains an invalid node"},
		{`{"state":{"desired":{"a":[{"b":null}]}}}`, 400, "State contains an invalid node"},
		{`{"state":{},"version":"1"}`, 400, "Invalid version"},
		{`{"state":{},"version":1.5}`, 400, "Invalid version"},
		{`{"state":{},"clientToken":"` + strings.Repeat("x", 65) + `"}`, 400, "Invalid clientToken"},
		{`{"state":{"desired":{"a":{"b":{"c":{"d":{"e":{"f":{}}}}}}}}}`, 400, "too many levels"},
		{`{"state":{},"version":7}`, 409, "Version conflict"},
		{big, 413, "maximum size"},
		{"{\"state\":{\"desired\":{\"a\":\"\xff\"}}}", 415, "UTF-8"},
	}
	for _, tt := range tests {
		var s shadow
		mustUpdate(t, &s, `{"state":{"desired":{"keep":1}}}`)
		req, err := parseShadowUpdate([]byte(tt.body))
		if err == nil {
			_, err = s.update(req, at)
		}
		var refused *shadowError
		if !errors.As(err, &refused) || refused.code != tt.code || !strings.Contains(refused.message, tt.text) {
			t.Errorf("%.60s: %v, want %d %q", tt.body, err, tt.code, tt.text)
		}
		if s.Version != 1 || len(s.Desired) != 1 {
			t.Errorf("%.60s: the refused update changed the shadow: %+v", tt.body, s)
		}
	}
}

func TestShadowDepthAndSizeThatPass(t *testing.T) {
	var s shadow
	mustUpdate(t, &s, `{"state":{"desired":{"a":{"b":{"c":{"d":{"e":{"f":1}}}}}}}}`)
	var full shadow
	body := `{"state":{"desired":{"a":"` + strings.Repeat("x", maxShadowSize-len(`{"desired":{"a":""}}`)) + `"}}}`
	mustUpdate(t, &full, body) // exactly 8 KB; the metadata does not count
}

func TestShadowVersionConflictAndDelete(t *testing.T) {
	var s shadow
	mustUpdate(t, &s, `{"state":{},"version":0}`)
	mustUpdate(t, &s, `{"state":{},"version":1}`)
	gone, err := s.delete("gw-1", "tok", at)
	if err != nil {
		t.Fatal(err)
	}
	wantJSON(t, "deleted", gone, `{"version":2,"timestamp":1700000000,"clientToken":"tok"}`)
	var refused *shadowError
	if _, err := s.get("gw-1", "", at); !errors.As(err, &refused) || refused.code != 404 || refused.message != "No shadow exists with name: 'gw-1'" {
		t.Errorf("get after delete: %v", err)
	}
	if _, err := s.delete("gw-1", "", at); !errors.As(err, &refused) || refused.code != 404 {
		t.Errorf("second delete: %v", err)
	}
	if out := mustUpdate(t, &s, `{"state":{"desired":{"a":1}}}`); out.accepted.Version != 3 {
		t.Errorf("the version was reset by delete: %d", out.accepted.Version)
	}
}

func TestShadowTokenRequests(t *testing.T) {
	for body, want := range map[string]string{"": "", " \n": "", `{}`: "", `{"clientToken":"x"}`: "x"} {
		if got, err := parseShadowToken([]byte(body)); err != nil || got != want {
			t.Errorf("%q: %q, %v", body, got, err)
		}
	}
	if _, err := parseShadowToken([]byte("hello")); err == nil {
		t.Error("text that is not JSON was accepted")
	}
}

func FuzzShadowUpdate(f *testing.F) {
	f.Add([]byte(`{"state":{"desired":{"a":[1,{"b":null}]},"reported":null},"version":1,"clientToken":"x"}`), []byte(`{"state":{"desired":{"a":{"b":{}}}}}`))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		var s shadow
		for _, body := range [][]byte{first, second} {
			before := s.Version
			req, err := parseShadowUpdate(body)
			if err != nil {
				continue
			}
			if _, err := s.update(req, at); err == nil && s.Version != before+1 {
				t.Fatalf("version went from %d to %d", before, s.Version)
			}
		}
		if s.Exists && s.size() > maxShadowSize {
			t.Fatalf("the shadow has %d bytes", s.size())
		}
	})
}
