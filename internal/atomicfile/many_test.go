package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestWriteMany(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "1"), []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	// What a killed process left behind.
	if err := os.Mkdir(filepath.Join(dir, ".stage"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, ".stage", "1"), []byte("half"), 0o644); err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for i := range 20 {
		files[fmt.Sprint(i)] = fmt.Appendf(nil, "content %d", i)
	}
	if err := WriteMany(dir, ".stage", files, 0o640); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != len(files) {
		t.Errorf("%d files, %v; want %d and no more", len(entries), err, len(files))
	}
	for name, want := range files {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || string(data) != string(want) {
			t.Errorf("%s: %q, %v", name, data, err)
		}
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("%s: mode %v, %v", name, info.Mode(), err)
		}
	}
}

// A process that is killed after its last rename leaves nothing to write, and
// its stage.
func TestWriteMany_nothing(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, ".stage"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := WriteMany(dir, ".stage", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("left in the directory: %v, %v", entries, err)
	}
}

// Where one file cannot be written, all are as they were.
func TestWriteMany_fails(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "b"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		second string
		want   error
	}{"a directory in the way": {"b", ErrNotRegular}, "a path": {"c/d", fs.ErrNotExist}, "a long name": {fmt.Sprintf("%0300d", 0), syscall.ENAMETOOLONG}} {
		if err := WriteMany(dir, ".stage", map[string][]byte{"a": []byte("new"), tt.second: nil}, 0o600); !errors.Is(err, tt.want) {
			t.Errorf("%s: err = %v, want %v", name, err, tt.want)
		}
		data, err := os.ReadFile(filepath.Join(dir, "a"))
		if entries, _ := os.ReadDir(dir); err != nil || string(data) != "old" || len(entries) != 2 {
			t.Errorf("%s: a holds %q, %v; in the directory %v", name, data, err, entries)
		}
	}
}
