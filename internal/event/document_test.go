package event

import (
	"testing"

	"github.com/jitr-agent/jitr-agent/internal/golden"
)

// TestGenerated holds the catalog and the page to the table.
func TestGenerated(t *testing.T) {
	golden.Check(t, "./internal/event", map[string]string{
		"../../packaging/jitr-agent.catalog": Catalog(),
		"../../docs/events.md":               Page(),
	})
}
