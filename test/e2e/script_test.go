package e2e

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/jitr-agent/jitr-agent/test/rig"
)

// TestScripts runs testdata/script on the real binaries. UPDATE=1 rewrites the
// expected output in them. Commands beside testscript's own:
//
//	code N command [args...]   it must end with exit code N
//	line                       stderr of the last command is one line
//	keep DIR                   remember all files in DIR
//	kept DIR                   they are still the same, byte for byte
//
// The condition [tpm] is for a machine that has one of its own.
func TestScripts(t *testing.T) {
	t.Parallel()
	bin := filepath.Dir(rig.Bin(t, "jitr-agent"))
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       os.Getenv("UPDATE") != "",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", bin+string(os.PathListSeparator)+env.Getenv("PATH"))
			// Relative, so that the lines that name a file are the same each time.
			env.Setenv("STATE_DIRECTORY", "state")
			env.Setenv("RUNTIME_DIRECTORY", "run")
			env.Values[kept{}] = map[string]map[string]string{}
			return nil
		},
		Condition: func(name string) (bool, error) {
			if name != "tpm" {
				return false, fmt.Errorf("there is no condition %s", name)
			}
			entries, _ := os.ReadDir("/sys/class/tpm") // none where it does not exist
			return len(entries) > 0, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code": code, "line": line, "keep": keep, "kept": compare,
		},
	})
}

func code(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N command [args...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func line(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: line")
	}
	if text := ts.ReadFile("stderr"); strings.Count(text, "\n") != 1 || !strings.HasSuffix(text, "\n") {
		ts.Fatalf("stderr is not one line: %q", text)
	}
}

// kept is the key of what keep remembers: directory → file → what it was.
type kept struct{}

func keep(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: keep DIR")
	}
	ts.Value(kept{}).(map[string]map[string]string)[args[0]] = contents(ts, args[0])
}

func compare(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: kept DIR")
	}
	before, ok := ts.Value(kept{}).(map[string]map[string]string)[args[0]]
	if !ok {
		ts.Fatalf("nothing was kept of %s", args[0])
	}
	now := contents(ts, args[0])
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if before[name] != now[name] {
			ts.Fatalf("%s in %s is %s, and was %q", name, args[0], now[name], before[name])
		}
	}
	for name := range before {
		if _, ok := now[name]; !ok {
			ts.Fatalf("%s in %s is gone", name, args[0])
		}
	}
}

// contents are mode and digest of each file. Lock files are left out: the pid
// in them is of whoever looked last. A directory that does not exist is empty.
func contents(ts *testscript.TestScript, dir string) map[string]string {
	files := map[string]string{}
	err := filepath.WalkDir(ts.MkAbs(dir), func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil || d.IsDir() || d.Name() == "lock" || d.Name() == "identity.lock":
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		files[path] = fmt.Sprintf("%v %x", info.Mode(), sha256.Sum256(data))
		return nil
	})
	ts.Check(err)
	return files
}
