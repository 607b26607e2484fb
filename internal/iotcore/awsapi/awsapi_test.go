package awsapi

import (
	"maps"
	"slices"
	"testing"
)

func TestCredential(t *testing.T) {
	for header, want := range map[string]Credential{
		"AWS4-HMAC-SHA256 Credential=AKIA/20260101/us-east-1/iot/aws4_request, SignedHeaders=host, Signature=x": {"AKIA", "us-east-1", "iot"},
		"AWS4-HMAC-SHA256 Credential=AKIA/20260101/us-east-1, SignedHeaders=host":                               {},
		"Bearer Credential=AKIA/20260101/us-east-1/iot/aws4_request":                                            {},
		"": {},
	} {
		if got := parseCredential(header); got != want {
			t.Errorf("%q: %+v", header, got)
		}
	}
}

func TestPage(t *testing.T) {
	all := []string{"a", "b", "c", "d", "e"}
	var got []string
	token, pages := "", 0
	for {
		page, next := Page(all, token, 2, func(s string) string { return s })
		got = append(got, page...)
		pages++
		if next == "" {
			break
		}
		token = next
		all = slices.DeleteFunc(slices.Clone(all), func(s string) bool { return s == token }) // its item goes away meanwhile
	}
	if !slices.Equal(got, []string{"a", "b", "c", "d", "e"}) || pages != 3 {
		t.Errorf("%d pages: %v", pages, got)
	}
}

func TestRetag(t *testing.T) {
	old := map[string]string{"a": "1", "b": "2"}
	if got := Retag(old, map[string]string{"b": "3", "c": "4"}, "a", "none"); !maps.Equal(got, map[string]string{"b": "3", "c": "4"}) {
		t.Errorf("got %v", got)
	}
	if got := Retag(nil, nil, "a"); got == nil || len(got) != 0 {
		t.Errorf("of nothing came %v", got)
	}
	if len(old) != 2 || old["b"] != "2" {
		t.Errorf("the old tags became %v", old)
	}
}
