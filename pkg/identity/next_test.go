package identity

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/atomicfile"
	"github.com/jitr-agent/jitr-agent/internal/certs"
)

// candidate installs an accepted identity and, beside it, a next certificate:
// with a key of its own, or for the same key.
func candidate(t *testing.T, ownKey bool) (opts Options, present, next *x509.Certificate) {
	t.Helper()
	ca := newCA(t, "Test CA")
	opts = options(t)
	pub := csrKey(t, opts)
	present = ca.leaf(t, "gw-1", pub)
	importChain(t, opts, present, ca.cert)
	files := ImportFiles{}
	if ownKey {
		key := newKey(t)
		pub = key.Public()
		data, err := encodeFileKey(key, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		files.Key = write(t, data)
	}
	next = ca.leaf(t, "gw-1", pub)
	files.Cert = write(t, pemOf(next, ca.cert))
	res, err := Import(t.Context(), opts, files, true, time.Now(), floor())
	if err != nil || res.InstalledAs != InstalledNext {
		t.Fatalf("%+v, %v", res, err)
	}
	return opts, present, next
}

// holds says that exactly this certificate is installed, and that it works
// with its key.
func holds(t *testing.T, opts Options, want *x509.Certificate) {
	t.Helper()
	opts.Owner = true
	id, err := Load(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer id.Close()
	if !id.Leaf().Equal(want) || len(id.Chain) != 2 {
		t.Errorf("certificate %s is installed, with %d in its chain; want %s", id.CertificateID(), len(id.Chain), certs.ID(want))
	}
	handshake(t, id.TLSCertificate(), tls.VersionTLS12)
}

func TestPromote(t *testing.T) {
	for _, ownKey := range []bool{false, true} {
		opts, present, next := candidate(t, ownKey)
		loaded, err := LoadNext(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		if !loaded.Leaf().Equal(next) {
			t.Errorf("own key %v: the candidate is %s", ownKey, loaded.CertificateID())
		}
		handshake(t, loaded.TLSCertificate(), tls.VersionTLS12)
		if err := loaded.Close(); err != nil {
			t.Fatal(err)
		}
		holds(t, opts, present) // until it is proved

		before := Stamp(opts)
		if err := Promote(t.Context(), opts, certs.ID(next)); err != nil {
			t.Fatal(err)
		}
		holds(t, opts, next)
		if Stamp(opts) == before {
			t.Error("the stamp is the same")
		}
		for _, name := range []string{NextCertFile, NextKeyFile} {
			if exists(opts.path(name)) {
				t.Errorf("own key %v: %s is still there", ownKey, name)
			}
		}
		checkModes(t, opts)
		if none, err := LoadNext(t.Context(), opts); none != nil || err != nil {
			t.Errorf("a candidate after the promotion: %v, %v", none, err)
		}
	}
}

// Killed between the two renames: the key is the new one, the certificate the
// old one. The next start finishes it, and nobody but the service does.
func TestPromotionCutInTwo(t *testing.T) {
	opts, present, next := candidate(t, true)
	if err := atomicfile.Rename(opts.path(NextKeyFile), opts.path(KeyFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(t.Context(), opts); !errors.Is(err, ErrKeyMismatch) {
		t.Errorf("seen by a command: %v", err)
	}
	if chain := installedChain(opts, CertFile); !chain[0].Equal(present) {
		t.Error("a command changed device.crt")
	}
	holds(t, opts, next)
	if exists(opts.path(NextCertFile)) {
		t.Error("next.crt is still there")
	}
	holds(t, opts, next) // and a second start changes nothing
}

// What looks like a promotion cut in two and is none is left alone.
func TestNothingToFinish(t *testing.T) {
	for _, ownKey := range []bool{false, true} {
		opts, present, _ := candidate(t, ownKey)
		before := snapshot(t, opts)
		holds(t, opts, present)
		if after := snapshot(t, opts); !maps.Equal(before, after) {
			t.Errorf("own key %v: a start changed the disk", ownKey)
		}
	}
	// device.key fits neither: somebody's mistake, to be told and not mended.
	opts, _, _ := candidate(t, true)
	other, err := encodeFileKey(newKey(t), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(opts.path(KeyFile), other, 0o600), os.Remove(opts.path(NextKeyFile))); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, opts)
	opts.Owner = true
	if _, err := Load(t.Context(), opts); !errors.Is(err, ErrKeyMismatch) {
		t.Errorf("got %v", err)
	}
	if after := snapshot(t, opts); !maps.Equal(before, after) {
		t.Error("a start changed the disk")
	}
}

// While the candidate was proved, another import took its place: that one has
// not been proved.
func TestStaleCandidateIsNotPromoted(t *testing.T) {
	opts, present, proved := candidate(t, true)
	ca := newCA(t, "Another CA")
	key := newKey(t)
	data, err := encodeFileKey(key, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	later := ca.leaf(t, "gw-1", key.Public())
	files := ImportFiles{Cert: write(t, pemOf(later, ca.cert)), Key: write(t, data)}
	if _, err := Import(t.Context(), opts, files, true, time.Now(), floor()); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, opts)
	err = Promote(t.Context(), opts, certs.ID(proved))
	if err == nil || !strings.Contains(err.Error(), certs.ID(proved)) || !strings.Contains(err.Error(), certs.ID(later)) {
		t.Errorf("got %v", err)
	}
	if after := snapshot(t, opts); !maps.Equal(before, after) {
		t.Error("the disk was changed")
	}
	holds(t, opts, present)

	// It was withdrawn altogether.
	if err := errors.Join(os.Remove(opts.path(NextCertFile)), os.Remove(opts.path(NextKeyFile))); err != nil {
		t.Fatal(err)
	}
	if err := Promote(t.Context(), opts, certs.ID(later)); !errors.Is(err, ErrNoCertificate) {
		t.Errorf("got %v", err)
	}
	holds(t, opts, present)
}

// A candidate that does not load is an error of its own, and the present
// identity works on.
func TestUnusableCandidate(t *testing.T) {
	opts, present, _ := candidate(t, true)
	if err := os.WriteFile(opts.path(NextKeyFile), []byte("-----BEGIN PRIVATE KEY-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if id, err := LoadNext(t.Context(), opts); id != nil || !errors.Is(err, ErrKeyCorrupt) {
		t.Errorf("got %v", err)
	}
	holds(t, opts, present)
}

func TestStamp(t *testing.T) {
	opts := options(t)
	if err := os.MkdirAll(opts.StateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	stamps, nexts := map[string]string{}, map[string]string{}
	see := func(what string, device, next bool) {
		t.Helper()
		s, n := Stamp(opts), NextStamp(opts)
		if old, seen := stamps[s]; seen == device {
			t.Errorf("%s: the stamp was seen (%q): %v", what, old, seen)
		}
		if old, seen := nexts[n]; seen == next {
			t.Errorf("%s: the next stamp was seen (%q): %v", what, old, seen)
		}
		stamps[s], nexts[n] = what, what
		if Stamp(opts) != s || NextStamp(opts) != n {
			t.Errorf("%s: a second look differs", what)
		}
	}
	put := func(path string) {
		t.Helper()
		if err := atomicfile.Write(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	see("nothing", true, true)
	put(opts.path(KeyFile))
	see("a key", true, false)
	put(opts.path(KeyFile)) // the same content in a new file
	see("another key", true, false)
	put(opts.path(CertFile))
	see("a certificate", true, false)
	put(opts.path(NextKeyFile))
	see("a next key", false, true)
	put(opts.path(NextCertFile))
	see("a next certificate", false, true)
	put(opts.TPMDevice)
	see("a TPM", true, false)
	put(filepath.Join(opts.StateDir, "state.json"))
	see("another file", false, false)
	opts.TPMDevice = "/dev/null" // a device's times change with its use
	see("a device", true, false)
	if err := os.WriteFile("/dev/null", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	see("a device in use", false, false)
}

// Promote waits for a csr or import that is under way, and gives up with its
// context.
func TestPromoteHoldsTheLock(t *testing.T) {
	opts, present, next := candidate(t, false)
	unlock, err := lock(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- Promote(ctx, opts, certs.ID(next)) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	unlock()
	holds(t, opts, present)
}

// softKey is the key in a file as somebody else made it.
func softKey(t *testing.T, key crypto.Signer) string {
	t.Helper()
	data, err := encodeFileKey(key, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return write(t, data)
}
