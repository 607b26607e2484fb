package state

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// full has every field.
func full() File {
	day := time.Date(2026, 3, 5, 12, 0, 0, 123456789, time.UTC)
	return File{
		Version: version,
		Histories: map[string]History{
			Key("aa", "endpoint"): {AcceptedAt: day, InitAt: day.Add(time.Second)},
			Key("bb", "endpoint"): {AcceptedAt: day},
		},
		Steps:     map[string]int{"link": 3},
		WaitingMS: 1 << 40, ServerNotBefore: day.Add(-time.Hour),
		Port443Host: "endpoint", Dropped: 1 << 33, Gaps: 2, DeadLetters: 3,
	}
}

func open(t *testing.T, path string) *Store {
	t.Helper()
	store, setAside, err := Open(path)
	if err != nil || setAside != nil {
		t.Fatal(err, setAside)
	}
	return store
}

func save(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
}

// inode differs for each time that a file was written.
func inode(t *testing.T, path string) uint64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 {
		t.Errorf("mode %v; want 0600", info.Mode())
	}
	return info.Sys().(*syscall.Stat_t).Ino
}

func TestRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	s := open(t, path)
	if got := s.Get(); !reflect.DeepEqual(got, File{}) {
		t.Errorf("without a file: %+v", got)
	}
	s.Change(func(f *File) { *f = full() })
	save(t, s)
	if got := open(t, path).Get(); !reflect.DeepEqual(got, full()) {
		t.Errorf("%+v; want %+v", got, full())
	}
	if got, err := Read(path); err != nil || !reflect.DeepEqual(got, full()) {
		t.Errorf("Read: %+v, %v", got, err)
	}
	// A test of full itself: a new field must be in it.
	for v, i := reflect.ValueOf(full()), 0; i < v.NumField(); i++ {
		if v.Field(i).IsZero() {
			t.Errorf("this test does not know %s", v.Type().Field(i).Name)
		}
	}
}

// An SD card wears out by writing: what is on it already is not written again.
func TestSaveWritesOnlyDifferences(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	s := open(t, path)
	save(t, s)
	first := inode(t, path)
	for name, edit := range map[string]func(*File){
		"nothing":          func(*File) {},
		"empty maps":       func(f *File) { f.Steps, f.Histories = map[string]int{}, map[string]History{} },
		"there and back":   func(f *File) { f.Gaps++; f.Gaps-- },
		"another location": func(f *File) { f.ServerNotBefore = f.ServerNotBefore.In(time.UTC) },
	} {
		s.Change(edit)
		save(t, s)
		if inode(t, path) != first {
			t.Errorf("%s: it was written again", name)
		}
	}
	s.Change(func(f *File) { f.Gaps++ })
	save(t, s)
	second := inode(t, path)
	if second == first {
		t.Error("a difference was not written")
	}

	// The same after a start, with a time from this process's clock.
	s.Change(func(f *File) { f.Histories = map[string]History{"x": {AcceptedAt: time.Now()}} })
	save(t, s)
	third := inode(t, path)
	again := open(t, path)
	again.Change(func(f *File) { f.Steps = map[string]int{} })
	save(t, again)
	if inode(t, path) != third {
		t.Error("after a start it was written again")
	}
}

func TestSetAside(t *testing.T) {
	for name, c := range map[string]struct{ content, why string }{
		"empty, after a power cut": {"", "unexpected end"},
		"cut off":                  {`{"version":1,"gaps":`, "unexpected end"},
		"zeroes":                   {strings.Repeat("\x00", 100), "invalid character"},
		"another type":             {`{"version":1,"gaps":"x"}`, "gaps"},
		"no version":               {`{}`, "no version"},
		"a newer version":          {`{"version":2}`, "version 2"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.json")
			for _, bad := range []string{".bad", ".bad.2", ".bad.3"} { // the earlier ones stay
				write(t, path, c.content)
				s, setAside, err := Open(path)
				if err != nil {
					t.Fatal(err)
				}
				if setAside == nil || !strings.Contains(setAside.Error(), c.why) || !strings.HasSuffix(setAside.Error(), path+bad) {
					t.Errorf("%v; want %q and %s", setAside, c.why, path+bad)
				}
				if got := content(t, path+bad); got != c.content {
					t.Errorf("%s has %q; want %q", bad, got, c.content)
				}
				if got := s.Get(); !reflect.DeepEqual(got, File{}) {
					t.Errorf("%+v; want it empty", got)
				}
				save(t, s)
				open(t, path)
			}
		})
	}
}

// One that cannot even be read is set aside too: a bad block must not keep the
// gateway from starting.
func TestUnreadable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	if err := os.Mkdir(path, 0o700); err != nil { // which root cannot read as a file either
		t.Fatal(err)
	}
	if _, err := Read(path); err == nil {
		t.Error("Read: no error")
	}
	s, setAside, err := Open(path)
	if err != nil || setAside == nil {
		t.Fatalf("%v, %v; want it set aside", setAside, err)
	}
	if info, err := os.Stat(path + ".bad"); err != nil || !info.IsDir() {
		t.Errorf("%v, %v", info, err)
	}
	save(t, s)
}

// What could not be set aside is not overwritten.
func TestCannotSetAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	write(t, path, "old")
	if err := os.Symlink(path+".bad", path+".bad"); err != nil { // taken, though it leads nowhere
		t.Fatal(err)
	}
	if _, setAside, err := Open(path); err != nil || setAside == nil || content(t, path+".bad.2") != "old" {
		t.Errorf("%v, %v; want it as .bad.2", setAside, err)
	}
	if _, _, err := Open("/proc/self/status"); err == nil { // readable, and nobody can move it
		t.Error("no error")
	}
}

// A failed Save is made good by the next one.
func TestSaveFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	s := open(t, filepath.Join(dir, "state.json"))
	s.Change(func(f *File) { *f = full() })
	for range 2 {
		if err := s.Save(); err == nil {
			t.Fatal("no error without a directory")
		}
	}
	if got := s.Get(); !reflect.DeepEqual(got, full()) {
		t.Errorf("%+v; want %+v", got, full())
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	save(t, s)
	if got := open(t, filepath.Join(dir, "state.json")).Get(); !reflect.DeepEqual(got, full()) {
		t.Errorf("%+v; want %+v", got, full())
	}
}

// What Get gave is the caller's own.
func TestGetIsACopy(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "state.json"))
	s.Change(func(f *File) { *f = full() })
	got := s.Get()
	got.Steps["link"], got.Histories["x"], got.Gaps = 99, History{}, 99
	if again := s.Get(); !reflect.DeepEqual(again, full()) {
		t.Errorf("%+v; want %+v", again, full())
	}
}

// For the race detector.
func TestConcurrentUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	s := open(t, path)
	var work sync.WaitGroup
	for range 4 {
		work.Go(func() {
			for range 10 {
				s.Change(func(f *File) { f.Dropped++ })
				if err := s.Save(); err != nil {
					t.Error(err)
				}
				_ = s.Get()
			}
		})
	}
	work.Wait()
	if got := open(t, path).Get().Dropped; got != 40 {
		t.Errorf("%d on disk; want 40", got)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
