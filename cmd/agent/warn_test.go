package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jitr-agent/jitr-agent/pkg/identity"
)

// Whatever package identity warns of has an event, is said with its object and
// its reason, and only once.
func TestWarnings(t *testing.T) {
	b := newBench(t, "")
	ids := []string{identity.WarnFileKey, identity.WarnKeyReadable, identity.WarnKeyCanLock, identity.WarnKeyCopied, identity.WarnVolatile}
	for range 2 {
		for _, id := range ids {
			b.warn(identity.Warning{ID: id, Object: "/the/object", Why: "this is why"})
		}
	}
	said, sentences := b.events()
	if !slices.Equal(said, ids) {
		t.Errorf("events %q, want each of %q once", said, ids)
	}
	for i, s := range sentences {
		if !strings.Contains(s, "/the/object") || !strings.Contains(s, "this is why") || strings.Contains(s, "{") {
			t.Errorf("%s: %q", said[i], s)
		}
	}
	b.warn(identity.Warning{ID: identity.WarnKeyReadable, Object: "/the/object", Why: "another reason"})
	if said, _ := b.events(); len(said) != 1 {
		t.Errorf("another reason: %q", said)
	}
}

func TestCredential(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	if got := credential("tpm-owner-auth"); got != nil {
		t.Errorf("none: %q", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "tpm-owner-auth"), []byte("the owner's \n"), 0o400); err != nil {
		t.Fatal(err)
	}
	if got := credential("tpm-owner-auth"); string(got) != "the owner's " {
		t.Errorf("got %q", got)
	}
}
