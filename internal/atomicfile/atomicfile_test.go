package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
)

// nobody is a user and group that own nothing here.
const nobody = 65534

// content is what is in dir, by name; a directory is "dir".
func content(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, e := range entries {
		all[e.Name()] = "dir"
		if !e.IsDir() {
			data, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			all[e.Name()] = string(data)
		}
	}
	return all
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	old := syscall.Umask(0o077) // the mode is exact whatever it says
	defer syscall.Umask(old)
	for _, step := range []struct {
		data string
		perm fs.FileMode
	}{{"one", 0o600}, {"two, longer", 0o644}, {"", 0o666}} {
		if err := Write(path, []byte(step.data), step.perm); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != step.perm {
			t.Errorf("mode %v; want %v", info.Mode(), step.perm)
		}
		if got := content(t, dir); len(got) != 1 || got["f"] != step.data {
			t.Errorf("%v; want only f with %q", got, step.data)
		}
	}
}

// What root writes belongs to whom the directory belongs to.
func TestWriteHandsOver(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	dir := t.TempDir()
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	if err := Write(filepath.Join(dir, "f"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	if st := info.Sys().(*syscall.Stat_t); st.Uid != nobody || st.Gid != nobody || info.Mode() != 0o600 {
		t.Errorf("owner %d:%d, mode %v; want %d:%d, 0600", st.Uid, st.Gid, info.Mode(), nobody, nobody)
	}
}

func TestWriteErrors(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(t *testing.T, dir string) (path string)
		want    error
	}{
		"no directory": {func(_ *testing.T, dir string) string { return filepath.Join(dir, "none", "f") }, fs.ErrNotExist},
		"over a directory": {func(t *testing.T, dir string) string {
			path := filepath.Join(dir, "d")
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
			return path
		}, ErrNotRegular},
		// Such as --out /dev/stdout: the link would be replaced by a file.
		"over a link to a pipe": {func(t *testing.T, dir string) string {
			pipe, path := filepath.Join(dir, "..", "pipe"), filepath.Join(dir, "stdout")
			if err := errors.Join(syscall.Mkfifo(pipe, 0o600), os.Symlink(pipe, path)); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.Remove(path) })
			return path
		}, ErrNotRegular},
		"a name that the file system does not take": {func(_ *testing.T, dir string) string {
			return filepath.Join(dir, string(make([]byte, 300)))
		}, syscall.EINVAL},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "dir")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			path := c.prepare(t, dir)
			before := names(t, dir)
			if err := Write(path, []byte("x"), 0o600); !errors.Is(err, c.want) {
				t.Errorf("%v; want %v", err, c.want)
			}
			if after := names(t, dir); !slices.Equal(after, before) {
				t.Errorf("it left %v; before there was %v", after, before)
			}
		})
	}
}

func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, e.Name()+" "+e.Type().String())
	}
	return all
}

// On a full disk the old content survives and nothing stays behind. The write
// fails by a limit on the size of files, which only a process of its own can
// have.
func TestWriteNoSpace(t *testing.T) {
	if path := os.Getenv("ATOMICFILE_TEST_PATH"); path != "" {
		limit := syscall.Rlimit{Cur: 10, Max: 10}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			t.Fatal(err)
		}
		if err := Write(path, make([]byte, 100), 0o600); !errors.Is(err, syscall.EFBIG) {
			t.Fatalf("%v; want %v", err, syscall.EFBIG)
		}
		return
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := Write(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestWriteNoSpace$")
	cmd.Env = append(os.Environ(), "ATOMICFILE_TEST_PATH="+path)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := content(t, dir); len(got) != 1 || got["f"] != "old" {
		t.Errorf("%v; want only f, with its old content", got)
	}
}

// A directory that may not be written says so, and keeps what it has.
func TestWriteDenied(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := Write(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 { // root may write everywhere, but not in /proc
		if err := Write("/proc/self/f", nil, 0o600); err == nil {
			t.Error("no error in /proc")
		}
		return
	}
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(dir, 0o700) //nolint:errcheck // TempDir says it, where it cannot remove what is in there
	err := Write(path, []byte("new"), 0o600)
	if !errors.Is(err, fs.ErrPermission) {
		t.Errorf("%v; want %v", err, fs.ErrPermission)
	}
	if got := content(t, dir); len(got) != 1 || got["f"] != "old" {
		t.Errorf("%v; want only f, with its old content", got)
	}
}

// A reader sees one writer's whole content, at any time.
func TestWriteIsAtomic(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	a, b := string(make([]byte, 100_000)), string(make([]byte, 7))
	if err := Write(path, []byte(a), 0o600); err != nil {
		t.Fatal(err)
	}
	var writers sync.WaitGroup
	for _, data := range []string{a, b} {
		writers.Go(func() {
			for range 20 {
				if err := Write(path, []byte(data), 0o600); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { writers.Wait(); close(done) }()
	for {
		got, err := os.ReadFile(path)
		if err != nil || len(got) != len(a) && len(got) != len(b) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		select {
		case <-done:
			return
		default:
		}
	}
}

// Sweep takes the temporary files that Write makes for that very path, and
// nothing else: another process may be writing its neighbours.
func TestSweep_takesOnlyWhatWriteLeft(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state.json")
	killed(t, path)
	stays := []string{"state.json", "state.json.bad", ".hidden", "x.tmp", ".state.json", ".device.crt.7.tmp"}
	for _, name := range stays {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := content(t, dir); len(got) != len(stays)+1 {
		t.Fatalf("%v: the killed writer left no temporary file, or another name", got)
	}
	if err := Sweep(path); err != nil {
		t.Fatal(err)
	}
	got := content(t, dir)
	for _, name := range stays {
		if _, ok := got[name]; !ok {
			t.Errorf("%s is gone", name)
		}
		delete(got, name)
	}
	if len(got) != 0 {
		t.Errorf("still there: %v", got)
	}
	if err := Sweep(filepath.Join(dir, "none", "f")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

// killed is a writer of path that dies within Write.
func killed(t *testing.T, path string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDieInWrite$")
	cmd.Env = append(os.Environ(), "ATOMICFILE_TEST_DIE="+path)
	out, err := cmd.CombinedOutput()
	if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the writer was not killed: %v\n%s", err, out)
	}
}

// TestDieInWrite is the process that killed starts. The kernel ends it in the
// middle of a write: no handler is called, as in a power cut.
func TestDieInWrite(t *testing.T) {
	path := os.Getenv("ATOMICFILE_TEST_DIE")
	if path == "" {
		t.Skip("it is a part of TestSweep_takesOnlyWhatWriteLeft")
	}
	dir := filepath.Dir(path)
	go func() {
		for {
			if found, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(found) > 0 {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			}
		}
	}()
	for {
		// Longer than it takes to see the file.
		if err := Write(path, make([]byte, 64<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRemoveAndRename(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	if err := Write(a, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Rename(a, b); err != nil {
		t.Fatal(err)
	}
	if got := content(t, dir); len(got) != 1 || got["b"] != "x" {
		t.Errorf("%v; want only b", got)
	}
	if err := Rename(a, b); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v; want %v", err, fs.ErrNotExist)
	}
	for range 2 { // the second time there is nothing, and that is no error
		if err := Remove(b); err != nil {
			t.Error(err)
		}
	}
	if got := content(t, dir); len(got) != 0 {
		t.Errorf("still there: %v", got)
	}
	if err := Remove(filepath.Join(a, "none")); err != nil {
		t.Errorf("in no directory: %v", err)
	}
	if err := Remove(dir + "/."); err == nil {
		t.Error("a directory cannot be removed by this name, and there is no error")
	}
}
