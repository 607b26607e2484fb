package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/certs"
	"github.com/jitr-agent/jitr-agent/internal/clock"
	"github.com/jitr-agent/jitr-agent/internal/state"
	"github.com/jitr-agent/jitr-agent/pkg/identity"
)

func TestMakeInit(t *testing.T) {
	leaf, ca := certificate(t, "gw-1"), certificate(t, "CA")
	id := &identity.Identity{ThingName: "gw-1", Provider: "tpm", Chain: append(leaf, ca...)}
	m := makeInit("init/{thing_name}", id, state.File{}, "endpoint")
	if m.Topic != "init/gw-1" || m.ContentType != "application/json" {
		t.Errorf("topic %s, content type %s", m.Topic, m.ContentType)
	}
	var got map[string]any
	if err := json.Unmarshal(m.Payload, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"schema": 1.0, "thing_name": "gw-1", "certificate_id": certs.ID(leaf[0]), "ca_certificate_id": certs.ID(ca[0]),
		"replaces": nil, "key_provider": "tpm", "boot_id": clock.BootID(),
	}
	for key, value := range want {
		if got[key] != value {
			t.Errorf("%s: %v; want %v", key, got[key], value)
		}
	}
	sameKeys(t, got, "schema", "thing_name", "certificate_id", "ca_certificate_id", "replaces", "agent_version", "key_provider",
		"hardware", "os", "boot_id", "sent_at")
	sameKeys(t, got["hardware"].(map[string]any), "model", "serial", "arch")
	sameKeys(t, got["os"].(map[string]any), "id", "version", "kernel")
	if got["agent_version"] == "" {
		t.Error("no version")
	}
	if at, _ := got["sent_at"].(string); !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`).MatchString(at) {
		t.Errorf("sent_at %q", at)
	}
	if kernel := got["os"].(map[string]any)["kernel"]; kernel == "" {
		t.Error("no kernel")
	}

	// Without a CA in the chain, and in the place of another certificate.
	id.Chain = leaf
	known := state.File{Histories: map[string]state.History{state.Key("old", "endpoint"): {AcceptedAt: time.Now()}}}
	if err := json.Unmarshal(makeInit("init", id, known, "endpoint").Payload, &got); err != nil {
		t.Fatal(err)
	}
	if got["ca_certificate_id"] != nil || got["replaces"] != "old" {
		t.Errorf("CA %v, replaces %v; want null and old", got["ca_certificate_id"], got["replaces"])
	}
}

func sameKeys(t *testing.T, got map[string]any, want ...string) {
	t.Helper()
	if keys := slices.Sorted(maps.Keys(got)); !slices.Equal(keys, slices.Sorted(slices.Values(want))) {
		t.Errorf("keys %v; want %v", keys, want)
	}
}

// The certificate that was accepted last at this endpoint, and not this one.
func TestReplaced(t *testing.T) {
	day := func(n int) state.History {
		return state.History{AcceptedAt: time.Date(2026, 3, n, 0, 0, 0, 0, time.UTC)}
	}
	known := state.File{Histories: map[string]state.History{
		state.Key("aa", "here"): day(1), state.Key("bb", "here"): day(3), state.Key("cc", "here"): day(2),
		state.Key("dd", "there"): day(9), state.Key("ee", "here"): {}, // never accepted
	}}
	for _, c := range []struct{ id, host, want string }{
		{"new", "here", "bb"}, {"bb", "here", "cc"}, {"new", "there", "dd"}, {"dd", "there", ""}, {"new", "elsewhere", ""},
	} {
		if got := replaced(known, c.id, c.host); got != c.want {
			t.Errorf("%s at %s replaces %q; want %q", c.id, c.host, got, c.want)
		}
	}
}

func TestOSRelease(t *testing.T) {
	path := filepath.Join(t.TempDir(), "os-release")
	if err := os.WriteFile(path, []byte("# a comment\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_ID=\"12\"\nBUG='x=y'\n\nnothing\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := osRelease(path)
	for name, want := range map[string]string{"ID": "debian", "VERSION_ID": "12", "BUG": "x=y", "NONE": ""} {
		if got[name] != want {
			t.Errorf("%s: %q; want %q", name, got[name], want)
		}
	}
	if got := osRelease(path + ".none"); len(got) != 0 {
		t.Errorf("without a file: %v", got)
	}
}

func TestOrNull(t *testing.T) {
	if orNull("") != nil || *orNull("x") != "x" {
		t.Error("empty is null, and nothing else")
	}
}
