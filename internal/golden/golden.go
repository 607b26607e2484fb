// Package golden holds checked-in files to what they are generated from. Only
// tests import it.
package golden

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write the generated files")

// Check compares files, by path, with what they should hold; with -update it
// writes them. directory is what go generate is to be told.
func Check(t *testing.T, directory string, files map[string]string) {
	t.Helper()
	for path, want := range files {
		if *update {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s is stale (%v); run: go generate %s", path, err, directory)
		}
	}
}
