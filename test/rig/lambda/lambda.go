// Package lambda has the function of the rig's programs. It is not in rig
// itself because it links the zips that jitrctl carries, which no other test
// needs.
package lambda

import (
	"os"
	"testing"

	"github.com/jitr-agent/jitr-agent/internal/atomicfile"
	"github.com/jitr-agent/jitr-agent/internal/cloud/bundle"
	"github.com/jitr-agent/jitr-agent/test/rig"
)

// Zip is the file of the activator that rig.Main built, as Lambda takes it and
// 'jitrctl cloud deploy' by --zip. The one that jitrctl carries is as old as
// the last 'make build'.
//
// It stands beside the program, and is made once: to pack it takes seconds.
func Zip(t testing.TB) string {
	t.Helper()
	program := rig.Bin(t, "jitr-activator")
	file := program + ".zip"
	if current(t, file, program) {
		return file
	}
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	zip, err := bundle.Pack(data)
	if err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.Write(file, zip, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// current says whether a file is there and not older than its source.
func current(t testing.TB, file, source string) bool {
	t.Helper()
	from, err := os.Stat(source)
	if err != nil {
		t.Fatal(err)
	}
	made, err := os.Stat(file)
	return err == nil && !made.ModTime().Before(from.ModTime())
}
