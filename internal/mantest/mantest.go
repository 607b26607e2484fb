// Package mantest makes the manual pages of a program from its commands, and
// holds the checked-in ones to them. Only tests import it: what it needs is not
// in the programs.
package mantest

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// Pages is where the checked-in pages are, seen from a directory in cmd/.
const Pages = "../../packaging/man"

// Check compares the pages of root with those in Pages; with update it writes
// them.
func Check(t *testing.T, root *cobra.Command, update bool) {
	t.Helper()
	root.DisableAutoGenTag = true
	fresh := t.TempDir()
	first := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC) // today would make them stale every month
	header := &doc.GenManHeader{Section: "1", Source: "jitr-agent", Manual: "jitr-agent", Date: &first}
	if err := doc.GenManTree(root, header, fresh); err != nil {
		t.Fatal(err)
	}
	pages, err := os.ReadDir(fresh)
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		want, err := os.ReadFile(filepath.Join(fresh, page.Name()))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(Pages, page.Name())
		if update {
			if err := os.MkdirAll(Pages, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != string(want) {
			t.Errorf("%s is stale (%v); run: go generate ./cmd/...", path, err)
		}
	}
}
