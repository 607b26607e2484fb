package inventory

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func certificate(t *testing.T, name string, serial int64) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: now, NotAfter: now.AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func openTest(t *testing.T, dir string) *Inventory {
	t.Helper()
	inv, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { inv.Close() })
	return inv
}

func names(t *testing.T, inv *Inventory) (names []string) {
	t.Helper()
	err := inv.View(func(tx *Tx) error {
		for e, err := range tx.All() {
			if err != nil {
				return err
			}
			names = append(names, e.Name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// An update that fails half-way leaves nothing behind, and what one committed
// is there after the file is opened anew.
func TestUpdate_allOrNothing(t *testing.T) {
	dir := t.TempDir()
	inv := openTest(t, dir)
	a, b := certificate(t, "a", 1), certificate(t, "b", 2)
	oops := errors.New("oops")
	err := inv.Update(func(tx *Tx) error {
		if _, err := tx.Add(a, Signed, now); err != nil {
			return err
		}
		return oops
	})
	if got := names(t, inv); !errors.Is(err, oops) || len(got) != 0 {
		t.Errorf("%v, then %q in it", err, got)
	}
	err = inv.Update(func(tx *Tx) error {
		for _, c := range []*x509.Certificate{b, a} {
			if added, err := tx.Add(c, Signed, now); err != nil || !added {
				t.Errorf("%v, %v", added, err)
			}
		}
		added, err := tx.Add(a, Imported, now)
		if added || err != nil {
			t.Errorf("the same again: %v, %v", added, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	inv.Close()
	inv = openTest(t, dir)
	if got := names(t, inv); strings.Join(got, " ") != "a b" {
		t.Errorf("names %q", got)
	}
	err = inv.View(func(tx *Tx) error {
		got, err := tx.ByRequest(RequestOf(a.RawSubjectPublicKeyInfo, a.RawSubject))
		if err != nil || got == nil || got.Serial != "01" || got.Origin != Signed {
			t.Errorf("by request: %+v, %v", got, err)
		}
		back, err := tx.Certificate("01")
		if err != nil || !back.Equal(a) {
			t.Errorf("the certificate: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAdd_serialNumberOfAnother(t *testing.T) {
	inv := openTest(t, t.TempDir())
	add := func(c *x509.Certificate) error {
		return inv.Update(func(tx *Tx) error {
			_, err := tx.Add(c, Signed, now)
			return err
		})
	}
	if err := add(certificate(t, "a", 7)); err != nil {
		t.Fatal(err)
	}
	if err := add(certificate(t, "b", 7)); !errors.Is(err, ErrTaken) {
		t.Errorf("err = %v, want ErrTaken", err)
	}
	if got := names(t, inv); len(got) != 1 {
		t.Errorf("names %q", got)
	}
}

// What an index knew first keeps its revocation when the certificate comes,
// and is one entry, though the index had another name.
func TestAdd_afterIndex(t *testing.T) {
	inv := openTest(t, t.TempDir())
	c := certificate(t, "gw-1", 255)
	entries, err := ParseIndex([]byte("R\t271124120000Z\t261101000000Z,keyTime,20261031000000Z\tFF\tunknown\t/CN=gw/1\n"), now)
	if err != nil {
		t.Fatal(err)
	}
	err = inv.Update(func(tx *Tx) error {
		if added, err := tx.AddUnseen(entries[0]); err != nil || !added {
			t.Errorf("%v, %v", added, err)
		}
		_, err := tx.Add(c, Imported, now)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := names(t, inv); len(got) != 1 || got[0] != "gw-1" {
		t.Errorf("names %q", got)
	}
	if err := inv.View(func(tx *Tx) error {
		e, err := tx.BySerial("FF")
		if err == nil && (e.State(now) != Revoked || e.Reason != KeyCompromise || e.CertificateID == "") {
			t.Errorf("%+v", e)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// What was signed here stays what a request gets, whatever is imported later.
func TestAdd_newestOfRequest(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	made := func(serial int64, begin time.Time) *x509.Certificate {
		t.Helper()
		template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "gw-1"}, NotBefore: begin, NotAfter: now.AddDate(1, 0, 0)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	inv := openTest(t, t.TempDir())
	for i, step := range []struct {
		origin Origin
		begin  time.Time
		want   Serial
	}{
		{Imported, now, "01"},
		{Imported, now.Add(-time.Hour), "01"},
		{Imported, now.Add(time.Hour), "03"},
		{Signed, now, "04"}, // it begins an hour ago, as all of ours do
		{Imported, now.Add(2 * time.Hour), "04"},
		{Signed, now, "06"},
	} {
		if err := inv.Update(func(tx *Tx) error {
			c := made(int64(i+1), step.begin)
			if _, err := tx.Add(c, step.origin, now); err != nil {
				return err
			}
			e, err := tx.ByRequest(RequestOf(c.RawSubjectPublicKeyInfo, c.RawSubject))
			if err == nil && e.Serial != step.want {
				t.Errorf("step %d: the newest is %s, want %s", i+1, e.Serial, step.want)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpen_fillsWhollyOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	oops := errors.New("oops")
	_, err := Open(dir, func(tx *Tx) error {
		if _, err := tx.Add(certificate(t, "a", 1), Imported, now); err != nil {
			return err
		}
		return oops
	})
	if entries, _ := os.ReadDir(dir); !errors.Is(err, oops) || len(entries) != 0 {
		t.Errorf("%v, then %v", err, entries)
	}
	// A process that was killed while it made the file.
	if err := os.WriteFile(filepath.Join(dir, "."+File+".tmp"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	openTest(t, dir)
	if entries, _ := os.ReadDir(dir); len(entries) != 1 || entries[0].Name() != File {
		t.Errorf("in the directory: %v", entries)
	}
}

func TestOpen_refuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, File)
	inv := openTest(t, dir)
	for serial := range int64(200) {
		if err := inv.Update(func(tx *Tx) error {
			_, err := tx.Add(certificate(t, "a", serial+1), Signed, now)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	inv.Close()
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	use := func(dir string) error {
		inv, err := Open(dir, nil)
		if err != nil {
			return err
		}
		defer inv.Close()
		return inv.View(func(tx *Tx) error {
			for e, err := range tx.All() {
				if err != nil {
					return err
				}
				if _, err := tx.Certificate(e.Serial); err != nil {
					return err
				}
			}
			return nil
		})
	}
	zeroed := bytes.Clone(good)
	clear(zeroed[len(zeroed)/4 : len(zeroed)/2])
	for name, data := range map[string][]byte{
		"empty":          {},
		"text":           []byte("hello, this is a note\n"),
		"cut off":        good[:len(good)/3],
		"zeroed pages":   zeroed,
		"zeroed headers": append(make([]byte, 2*os.Getpagesize()), good[2*os.Getpagesize():]...),
	} {
		// A directory each: bbolt keeps a file locked that it could not open.
		dir := t.TempDir()
		path := filepath.Join(dir, File)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := use(dir); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: err = %v, want ErrDamaged that names the file", name, err)
		}
	}

	if err := use(dir); err != nil {
		t.Errorf("undamaged: %v", err)
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: openTimeout})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketMeta).Put(keyFormat, []byte("2"))
	}), db.Close()); err != nil {
		t.Fatal(err)
	}
	if err := use(dir); !errors.Is(err, ErrNewer) {
		t.Errorf("err = %v, want ErrNewer", err)
	}
}

func TestCRLNumber(t *testing.T) {
	inv := openTest(t, t.TempDir())
	var got []int64
	if err := inv.Update(func(tx *Tx) error {
		for _, raise := range []int64{0, 9, 3} {
			if err := tx.RaiseCRLNumber(big.NewInt(raise)); err != nil {
				return err
			}
			n, err := tx.NextCRLNumber()
			if err != nil {
				return err
			}
			got = append(got, n.Int64())
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if got[0] != 1 || got[1] != 10 || got[2] != 11 {
		t.Errorf("%v, want 1, 10, 11", got)
	}
}

func TestParseSerial(t *testing.T) {
	for in, want := range map[string]Serial{
		"1000": "1000", "0a": "0A", "A": "0A", "0xff": "FF", "00ff": "FF", "aa:bb:0c": "AABB0C", "0": "00",
		strings.Repeat("ab", 20): Serial(strings.Repeat("AB", 20)),
		"":                       "", "gw-1": "", "-1": "", strings.Repeat("ab", 21): "",
	} {
		got, err := ParseSerial(in)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestReasons(t *testing.T) {
	for _, word := range Reasons() {
		r, err := ParseReason(strings.ToLower(word))
		if err != nil || r.String() != word {
			t.Errorf("%s: %v, %v", word, r, err)
		}
	}
	for _, word := range []string{"certificateHold", "removeFromCRL", "lost"} {
		if _, err := ParseReason(word); !errors.Is(err, ErrBadReason) {
			t.Errorf("%s: err = %v", word, err)
		}
	}
}

// What can be read can be written, and says the same then.
func FuzzParseIndex(f *testing.F) {
	f.Add([]byte("V\t311123234458Z\t\t655D\tunknown\t/CN=gw-1\n"))
	f.Add([]byte("R\t20510101000000Z\t261101000000Z,keyCompromise\t01\tunknown\t/C=DE/CN=gw/O=x\n"))
	f.Add([]byte("E\t200101000000Z\t\t0A\tunknown\t\n"))
	f.Add([]byte("E\t00000101000000Z\t\t0\t\t"))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := ParseIndex(data, now)
		if err != nil {
			return
		}
		var out bytes.Buffer
		for _, e := range entries {
			if err := WriteIndex(&out, e, now); err != nil {
				t.Fatal(err)
			}
		}
		again, err := ParseIndex(out.Bytes(), now)
		if err != nil || len(again) != len(entries) {
			t.Fatalf("%v in\n%q", err, out.Bytes())
		}
		for i, e := range entries {
			a := again[i]
			if a.Serial != e.Serial || a.Name != e.Name || a.State(now) != e.State(now) || a.Reason != e.Reason || !a.NotAfter.Equal(e.NotAfter) {
				t.Errorf("%+v became %+v", e, a)
			}
		}
	})
}
