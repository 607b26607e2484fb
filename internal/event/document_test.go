package event

import (
	"flag"
	"os"
	"testing"
)

var update = flag.Bool("update", false, "write the generated files")

// TestGenerated holds the catalog and the page to the table.
func TestGenerated(t *testing.T) {
	for path, want := range map[string]string{
		"../../packaging/jitr-agent.catalog": Catalog(),
		"../../docs/events.md":               Page(),
	} {
		if *update {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("%s is stale; run: go generate ./internal/event", path)
		}
	}
}
