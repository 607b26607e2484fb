package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets the scripts run jitrctl as a process of its own.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"jitrctl": main})
}

// TestScripts runs testdata/script. The command "code N jitrctl …" wants the
// exit code N.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       os.Getenv("UPDATE") != "",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"code": code},
	})
}
