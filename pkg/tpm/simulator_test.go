//go:build simulator

package tpm

import (
	"context"
	"testing"

	"github.com/google/go-tpm-tools/simulator"
	"github.com/google/go-tpm/tpm2/transport"
)

// chip is Microsoft's reference implementation in this process. Package
// simulator has one for all, so nothing here runs in parallel.
type chip struct{ tpm transport.TPM }

func (c chip) Send(_ context.Context, command []byte) ([]byte, error) { return c.tpm.Send(command) }
func (chip) Managed() bool                                            { return false }
func (chip) Close() error                                             { return nil }

// TestSimulator needs cgo and OpenSSL's headers: go test -tags simulator.
func TestSimulator(t *testing.T) {
	conformance(t, func(t testing.TB) bench {
		sim, err := simulator.Get()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := sim.Close(); err != nil {
				t.Error(err)
			}
		})
		must := func(f func() error) func() {
			return func() {
				if err := f(); err != nil {
					t.Fatal(err)
				}
			}
		}
		return bench{
			tpm:      newTPM("simulator", chip{transport.FromReadWriter(sim)}),
			reset:    must(sim.Reset),
			exchange: must(sim.ManufactureReset),
		}
	})
}
