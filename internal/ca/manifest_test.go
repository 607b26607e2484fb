package ca

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/jitr-agent/jitr-agent/internal/certs"
)

func TestParseManifest(t *testing.T) {
	want := []Item{{File: "in/a.csr", Name: "gw-1", Days: 30}, {File: "/abs/b.csr"}}
	for name, data := range map[string]string{
		"plain":           "csr,name,days\na.csr,gw-1,30\n/abs/b.csr,,\n",
		"a spreadsheet's": "\xef\xbb\xbfcsr;name;days\r\na.csr;gw-1;30\r\n/abs/b.csr;;\r\n",
		"other order":     "days, Name ,CSR\n 30, gw-1, a.csr\n,,/abs/b.csr",
		"quoted":          "\"csr\",\"name\",\"days\"\n\"a.csr\",\"gw-1\",\"30\"\n\n/abs/b.csr,\"\",\n",
	} {
		if got, err := ParseManifest([]byte(data), "in"); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if got, err := ParseManifest([]byte("csr\na.csr\n"), ""); err != nil || !reflect.DeepEqual(got, []Item{{File: "a.csr"}}) {
		t.Errorf("only requests: %+v, %v", got, err)
	}
}

func TestParseManifest_refuses(t *testing.T) {
	for name, tt := range map[string]struct {
		data string
		want error
		says string
	}{
		"empty":          {"", ErrBadManifest, "line 1: it must name the columns"},
		"no request":     {"csr,name\n", ErrNoRequests, "stands nothing"},
		"no csr column":  {"name,days\ngw-1,30\n", ErrBadManifest, `line 1: column "csr", the request's file, is missing`},
		"unknown column": {"csr,naem\na,b\n", ErrBadManifest, `line 1: column "naem" is unknown`},
		"column twice":   {"csr,csr\na,b\n", ErrBadManifest, `column "csr" is there twice`},
		"no file":        {"csr,name\n,gw-1\n", ErrBadManifest, "line 2: no request's file"},
		"too few fields": {"csr,name\na\n", ErrBadManifest, "line 2: it has 1 columns, and the first line names 2"},
		"bad name":       {"csr,name\na,gw 1\n", ErrBadName, `line 2: the common name cannot be a thing name: "gw 1"`},
		"path as a name": {"csr,name\na,../gw\n", ErrBadName, "line 2"},
		"name twice":     {"csr,name\na,gw-1\n\nb,gw-1\n", ErrNameTwice, `line 4: the name is given twice: "gw-1" is in line 2 too`},
		"bad days":       {"csr,days\na,soon\n", ErrBadValidity, `line 2: the number of days is impossible: "soon"`},
		"no days":        {"csr,days\na,0\n", ErrBadValidity, "line 2"},
		"half a quote":   {"csr,name\n\"a,gw-1\n", ErrBadManifest, "line 2"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseManifest([]byte(tt.data), "")
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("err = %v, want %v with %q", err, tt.want, tt.says)
			}
		})
	}
	if _, err := ParseManifest([]byte("csr,name,days\na,gw 1,1\nb,gw-2,0\n"), ""); !strings.Contains(err.Error(), "line 2") || !strings.Contains(err.Error(), "line 3") {
		t.Errorf("not all errors in one go: %v", err)
	}
}

func TestFolder(t *testing.T) {
	dir := t.TempDir()
	if _, err := Folder(dir); !errors.Is(err, ErrNoRequests) {
		t.Errorf("an empty folder: err = %v", err)
	}
	for _, name := range []string{"b.csr", "a.csr", "a.key", "csr", ".csr.swp"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "old.csr"), 0o700); err != nil {
		t.Fatal(err)
	}
	want := []Item{{File: filepath.Join(dir, "a.csr")}, {File: filepath.Join(dir, "b.csr")}}
	if got, err := Folder(dir); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v", got, err)
	}
}

// Whatever a manifest holds, no item leads a certificate out of --out, or has
// a validity that endOf would not take.
func FuzzParseManifest(f *testing.F) {
	f.Add([]byte("csr,name,days\na.csr,gw-1,30\n"))
	f.Add([]byte("\xef\xbb\xbfcsr;name\r\n\"a;b\";gw\r\n"))
	f.Add([]byte("csr,name\na,../x\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		items, err := ParseManifest(data, "dir")
		if err == nil && len(items) == 0 {
			t.Error("neither items nor an error")
		}
		names := map[string]bool{}
		for _, i := range items {
			if i.Name != "" && (!certs.ValidThingName(i.Name) || names[i.Name]) || i.Days < 0 || i.Days > maxDays || i.File == "" {
				t.Errorf("%+v", i)
			}
			names[i.Name] = true
		}
	})
}

// A request that is taken has a signature that fits, and can be signed or is
// refused by its name: never a panic, never a certificate without a name.
func FuzzParseRequest(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\n"))
	key, err := newKey(Algorithms()[0])
	if err != nil {
		f.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "gw-1"}}, key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(encodeRequest(der))
	f.Fuzz(func(t *testing.T, data []byte) {
		csr, err := ParseRequest(data)
		if err != nil {
			return
		}
		if err := csr.CheckSignature(); err != nil {
			t.Errorf("taken, though %v", err)
		}
		if j, err := newJob(csr, SignOptions{Days: 1, Now: now}); err == nil && !certs.ValidThingName(j.name) {
			t.Errorf("name %q", j.name)
		}
	})
}
