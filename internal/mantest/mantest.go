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

	"github.com/jitr-agent/jitr-agent/internal/golden"
)

// pages is where the checked-in pages are, seen from a directory in cmd/.
const pages = "../../packaging/man"

// Check compares the pages of root with the checked-in ones.
func Check(t *testing.T, root *cobra.Command) {
	t.Helper()
	root.DisableAutoGenTag = true
	fresh := t.TempDir()
	first := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC) // today would make them stale every month
	header := &doc.GenManHeader{Section: "1", Source: "jitr-agent", Manual: "jitr-agent", Date: &first}
	if err := doc.GenManTree(root, header, fresh); err != nil {
		t.Fatal(err)
	}
	made, err := os.ReadDir(fresh)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, page := range made {
		data, err := os.ReadFile(filepath.Join(fresh, page.Name()))
		if err != nil {
			t.Fatal(err)
		}
		want[filepath.Join(pages, page.Name())] = string(data)
	}
	golden.Check(t, "./cmd/...", want)
}
