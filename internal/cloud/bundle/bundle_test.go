package bundle

import (
	"archive/zip"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestPack_sameBytes(t *testing.T) {
	binary := bytes.Repeat([]byte("\x7fELF activator"), 1000)
	first, err := Pack(binary)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Pack(bytes.Clone(binary))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("the same program gave two different zips")
	}
	if err := Check(first); err != nil {
		t.Error(err)
	}
	other, err := Pack(append(binary, 'x'))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(first, other) {
		t.Error("another program gave the same zip")
	}
}

// TestPack_unzip lets Info-ZIP look: what it unpacks can be started.
func TestPack_unzip(t *testing.T) {
	script := []byte("#!/bin/sh\necho started\n")
	data, err := Pack(script)
	if err != nil {
		t.Fatal(err)
	}
	data, err = Add(data, "inventory.txt", []byte("gw-1\n"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "f.zip")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "python3", "-c", `
import sys, os, zipfile
z = zipfile.ZipFile(sys.argv[1])
assert z.testzip() is None
for i in z.infolist():
    z.extract(i, sys.argv[2]); os.chmod(os.path.join(sys.argv[2], i.filename), i.external_attr >> 16)
`, file, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), filepath.Join(dir, program)).Output()
	if err != nil || string(out) != "started\n" {
		t.Errorf("%q, %v", out, err)
	}
	inventory, err := os.ReadFile(filepath.Join(dir, "inventory.txt"))
	if err != nil || string(inventory) != "gw-1\n" {
		t.Errorf("%q, %v", inventory, err)
	}
}

func TestAdd_replaces(t *testing.T) {
	data, err := Pack([]byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"one", "two"} {
		if data, err = Add(data, "inventory.txt", []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	r, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.File) != 2 {
		t.Fatalf("%d files, want 2", len(r.File))
	}
	f, err := r.Open("inventory.txt")
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(f)
	if err != nil || string(got) != "two" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestCheck_refusals(t *testing.T) {
	made := func(name string, mode os.FileMode) []byte {
		var out bytes.Buffer
		w := zip.NewWriter(&out)
		if err := put(w, name, mode, []byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	for name, tt := range map[string]struct {
		data []byte
		want string
	}{
		"no zip":         {[]byte("hello"), "it is no zip"},
		"another name":   {made("main", 0o755), "it has no bootstrap"},
		"not executable": {made(program, 0o644), "not executable"},
	} {
		if err := Check(tt.data); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

func TestZip_saysHowToBuildIt(t *testing.T) {
	if _, err := Zip("sparc"); !errors.Is(err, ErrNone) || !strings.Contains(err.Error(), "make build") {
		t.Error(err)
	}
}
