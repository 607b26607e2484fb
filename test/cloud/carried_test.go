package cloud

import (
	"errors"
	"runtime"
	"testing"

	"github.com/jitr-agent/jitr-agent/internal/cloud"
	"github.com/jitr-agent/jitr-agent/internal/cloud/bundle"
	"github.com/jitr-agent/jitr-agent/test/rig"
)

// TestCarriedFunction: the zip that jitrctl carries works as well as the one
// that the other tests give it.
func TestCarriedFunction(t *testing.T) {
	t.Parallel()
	if _, err := bundle.Zip(cloud.ArchitectureFor(runtime.GOARCH)); errors.Is(err, bundle.ErrNone) {
		t.Skip("skipped: jitrctl carries none; make build makes it")
	}
	sim := rig.StartSim(t)
	ca, id := registerCA(t, sim)
	sim.Cloud(t, "deploy", "--ca-id", id)
	getIn(t, sim, "gw-1", ca.Issue(t, "gw-1"), "dt/gw-1/test")
}
