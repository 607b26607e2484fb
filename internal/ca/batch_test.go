package ca

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/jitr-agent/jitr-agent/internal/certs"
)

// writeRequest writes a request by a new key and returns the file.
func writeRequest(t *testing.T, dir, file, name string) string {
	t.Helper()
	path := filepath.Join(dir, file)
	if err := os.WriteFile(path, pemOf(t, name), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func pemOf(t *testing.T, name string) []byte {
	t.Helper()
	return encodeRequest(request(t, newECKey(t), name).Raw)
}

// contents reads all files of a folder, hidden ones too.
func contents(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, e := range entries {
		if files[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func TestSignBatch(t *testing.T) {
	c, in := newTestCA(t), t.TempDir()
	out := filepath.Join(in, "made", "certificates")
	b := Batch{Out: out, Days: 30, Now: now}
	const n = 2*group + 5
	for i := range n {
		b.Items = append(b.Items, Item{File: writeRequest(t, in, fmt.Sprintf("%d.csr", i), fmt.Sprintf("gw-%d", i))})
	}
	b.Items[3].Name, b.Items[4].Days = "gw-special", 7
	// What must not keep the others from being signed.
	bad := []Item{
		{File: filepath.Join(in, "nowhere.csr")},
		{File: writeRequest(t, in, "spaced.csr", "gw 1")},
		{File: writeRequest(t, in, "twin.csr", "gw-0")},
		{File: b.Items[9].File, Name: "gw-other"}, // the key of gw-9
	}
	want := []error{os.ErrNotExist, ErrBadName, ErrNameTwice, ErrKeyReused}
	same := filepath.Join(in, "copy of 1.csr")
	data, err := os.ReadFile(b.Items[1].File)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(same, data, 0o600); err != nil {
		t.Fatal(err)
	}
	b.Items = slices.Concat(b.Items[:12], bad, []Item{{File: same}}, b.Items[12:])

	var refused []error
	b.Refused = func(i Item, err error) {
		if i != bad[len(refused)] {
			t.Errorf("refused %+v, want %+v", i, bad[len(refused)])
		}
		refused = append(refused, err)
	}
	var done int
	b.Progress = func(n int) { done = n }
	o, err := c.SignBatch(t.Context(), b)
	if err != nil || o != (Outcome{Signed: n, Again: 1, Refused: len(bad)}) || done != len(b.Items) {
		t.Fatalf("%+v, %d done, %v", o, done, err)
	}
	for i := range want {
		if !errors.Is(refused[i], want[i]) {
			t.Errorf("%s: err = %v, want %v", bad[i].File, refused[i], want[i])
		}
	}

	files := contents(t, out)
	if len(files) != n {
		t.Errorf("%d files, want %d", len(files), n)
	}
	for name, days := range map[string]int{"gw-1": 30, "gw-special": 30, "gw-4": 7} {
		chain, err := certs.ParseChain(files[name+".crt"])
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		opensslVerify(t, filepath.Join(c.dir, "ca.crt"), chain)
		if leaf := chain[0]; leaf.Subject.CommonName != name || leaf.NotAfter.Unix() != now.AddDate(0, 0, days).Unix() {
			t.Errorf("%s: CN %q until %s", name, leaf.Subject.CommonName, leaf.NotAfter)
		}
	}

	// Again, with one file lost and one spoilt: nothing is signed, all is there.
	if err := os.Remove(filepath.Join(out, "gw-2.crt")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(out, "gw-5.crt"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused = nil
	if o, err := c.SignBatch(t.Context(), b); err != nil || o.Signed != 0 || o.Again != n+1 {
		t.Errorf("again: %+v, %v", o, err)
	}
	for name, data := range contents(t, out) {
		if !bytes.Equal(data, files[name]) {
			t.Errorf("%s is another one now", name)
		}
	}
	refused, b.RenewBefore = nil, now.AddDate(0, 0, 10)
	if o, err := c.SignBatch(t.Context(), b); err != nil || o.Signed != 1 {
		t.Errorf("renewal of what ends in 10 days: %+v, %v; want one", o, err)
	}
}

// A name that is another key's in the same batch is refused in a later group
// of the same batch too.
func TestSignBatch_nameTwiceFarApart(t *testing.T) {
	c, in := newTestCA(t), t.TempDir()
	b := Batch{Out: filepath.Join(in, "out"), Days: 30, Now: now}
	for i := range group + 1 {
		b.Items = append(b.Items, Item{File: writeRequest(t, in, fmt.Sprintf("%d.csr", i), fmt.Sprintf("gw-%d", i%group))})
	}
	if o, err := c.SignBatch(t.Context(), b); err != nil || o != (Outcome{Signed: group, Refused: 1}) {
		t.Errorf("%+v, %v", o, err)
	}
}
