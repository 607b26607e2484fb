package main

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// unwanted is what the agent must never link, directly or through anything it
// imports, and why. A path stands for itself and, with "/..." behind it, for
// all packages below it too.
var unwanted = []struct{ path, why string }{
	{"github.com/mochi-mqtt/server/v2", "the broker is for the emulator and costs 2 MB; its packets package is what the agent may use"},
	{"github.com/mochi-mqtt/server/v2/listeners", "part of the broker"},
	{"github.com/mochi-mqtt/server/v2/hooks/...", "part of the broker"},
	{"github.com/aws/...", "the gateway speaks MQTT only; the AWS SDK is for the operator's side"},
	{"github.com/google/go-tpm-tools/...", "its client costs 2 MB; go-tpm's direct API does what is needed"},
	{"github.com/jitr-agent/jitr-agent/internal/iotcore/...", "the emulator is for the bench"},
	{"net/http/pprof", "it adds handlers to the default mux by being imported"},
	{"expvar", "it adds handlers to the default mux by being imported"},
	{"testing/...", "test code does not belong on a gateway"},
	{"github.com/rogpeppe/go-internal/...", "test code does not belong on a gateway"},
	{"pgregory.net/rapid/...", "test code does not belong on a gateway"},
}

// reason says why the agent must not link the package, "" where it may.
func reason(pkg string) string {
	for _, u := range unwanted {
		base, below := strings.CutSuffix(u.path, "/...")
		if pkg == base || below && strings.HasPrefix(pkg, base+"/") {
			return u.why
		}
	}
	return ""
}

// TestDependencies guards the link graph of the agent: one careless import
// brings megabytes, or a debug server, to thousands of gateways.
func TestDependencies(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", ".")
	cmd.Env = append(os.Environ(), "GOOS=linux", "CGO_ENABLED=0") // as it is shipped
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list -deps: %v", err)
	}
	deps := strings.Fields(string(out))
	if !slices.Contains(deps, "github.com/jitr-agent/jitr-agent/cmd/agent") || !slices.Contains(deps, "crypto/tls") {
		t.Fatalf("go list -deps does not list the agent and what it needs, but %q", deps)
	}
	for _, pkg := range deps {
		if why := reason(pkg); why != "" {
			t.Errorf("the agent links %s: %s; find out through what with: go list -deps -f '{{.ImportPath}}: {{.Imports}}' ./cmd/agent", pkg, why)
		}
	}
}

func TestReason(t *testing.T) {
	for pkg, unwanted := range map[string]bool{
		"github.com/mochi-mqtt/server/v2":                   true,
		"github.com/mochi-mqtt/server/v2/hooks/auth":        true,
		"github.com/mochi-mqtt/server/v2/packets":           false,
		"github.com/aws/aws-sdk-go-v2/service/iot":          true,
		"github.com/awsome/x":                               false,
		"github.com/google/go-tpm-tools/client":             true,
		"github.com/google/go-tpm/tpm2":                     false,
		"net/http/pprof":                                    true,
		"net/http":                                          false,
		"testing":                                           true,
		"testing/fstest":                                    true,
		"github.com/rogpeppe/go-internal/testscript":        true,
		"pgregory.net/rapid":                                true,
		"github.com/jitr-agent/jitr-agent/pkg/jitr":         false,
		"github.com/jitr-agent/jitr-agent/internal/iotcore": true,
	} {
		if got := reason(pkg) != ""; got != unwanted {
			t.Errorf("%s: unwanted = %v, want %v", pkg, got, unwanted)
		}
	}
}
