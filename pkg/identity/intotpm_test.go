package identity

import (
	"crypto/tls"
	"errors"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/certs"
	"github.com/jitr-agent/jitr-agent/internal/swtpmtest"
	"github.com/jitr-agent/jitr-agent/pkg/tpm"
)

// import --key FILE --into-tpm: the key works from the TPM, and device.key
// holds nothing of it in clear.
func TestImportIntoTPM(t *testing.T) {
	for _, provider := range []string{ProviderTPM, ProviderSealed} {
		t.Run(provider, func(t *testing.T) {
			opts := options(t)
			opts.Key, opts.TPMDevice = provider, swtpmtest.Start(t).Device
			ca := newCA(t, "Test CA")
			key := newKey(t)
			leaf := ca.leaf(t, "gw-1", key.Public())
			files := ImportFiles{Cert: write(t, pemOf(leaf, ca.cert)), Key: softKey(t, key), IntoTPM: true}
			res, err := Import(t.Context(), opts, files, false, time.Now(), floor())
			if err != nil {
				t.Fatal(err)
			}
			if !res.Changed || len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0], files.Key+" still holds the key in clear: destroy it") {
				t.Errorf("got %+v", res)
			}
			data, err := os.ReadFile(opts.path(KeyFile))
			if err != nil {
				t.Fatal(err)
			}
			if tpm.IsKey(data) != (provider == ProviderTPM) || tpm.IsSealed(data) != (provider == ProviderSealed) || strings.Contains(string(data), "BEGIN PRIVATE KEY") {
				t.Errorf("device.key is\n%s", data)
			}
			before := snapshot(t, opts)
			if res, err := Import(t.Context(), opts, files, false, time.Now(), floor()); err != nil || res.Changed {
				t.Errorf("the same again: %+v, %v", res, err)
			}
			if after := snapshot(t, opts); !maps.Equal(before, after) {
				t.Error("the same again changed the disk")
			}
			checkModes(t, opts)
			holds(t, opts, leaf)
		})
	}
}

// A key that was installed as a file moves; the certificate stays.
func TestInstalledKeyMovesIntoTPM(t *testing.T) {
	opts := options(t)
	ca := newCA(t, "Test CA")
	leaf := ca.leaf(t, "gw-1", csrKey(t, opts))
	importChain(t, opts, leaf, ca.cert)
	s := swtpmtest.Start(t)
	opts.Key, opts.TPMDevice = "auto", s.Device
	files := ImportFiles{Cert: opts.path(CertFile), Key: opts.path(KeyFile), IntoTPM: true}

	s.PowerCut() // without the TPM nothing may be lost
	before := snapshot(t, opts)
	if _, err := Import(t.Context(), opts, files, true, time.Now(), floor()); !errors.Is(err, ErrTPMAbsent) {
		t.Errorf("got %v", err)
	}
	if after := snapshot(t, opts); !maps.Equal(before, after) {
		t.Error("the disk was changed")
	}
	s.PowerOn()

	// The certificate is accepted: that it is the same one counts.
	res, err := Import(t.Context(), opts, files, true, time.Now(), floor())
	if err != nil {
		t.Fatal(err)
	}
	if !res.Changed || res.InstalledAs != InstalledDevice || len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0], "backup") {
		t.Errorf("got %+v", res)
	}
	id, err := Load(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer id.Close()
	if id.Provider != ProviderTPM || len(id.Warnings) != 0 {
		t.Errorf("the key is in %s, with warnings %v", id.Provider, id.Warnings)
	}
	handshake(t, id.TLSCertificate(), tls.VersionTLS12)
}

// Without --into-tpm a key stays as it came; one that a TPM program made is
// installed as it is.
func TestImportTPMKey(t *testing.T) {
	s := swtpmtest.Start(t)
	theirs := options(t)
	theirs.Key, theirs.TPMDevice = "tpm", s.Device
	pub := csrKey(t, theirs)
	ca := newCA(t, "Test CA")
	opts := options(t)
	opts.TPMDevice = s.Device
	leaf := ca.leaf(t, "gw-1", pub)
	files := ImportFiles{Cert: write(t, pemOf(leaf, ca.cert)), Key: theirs.path(KeyFile)}
	if _, err := Import(t.Context(), opts, files, false, time.Now(), floor()); err != nil {
		t.Fatal(err)
	}
	holds(t, opts, leaf)

	// A software key is never moved without being told to.
	again := options(t)
	again.Key, again.TPMDevice = "tpm", s.Device
	key := newKey(t)
	files = ImportFiles{Cert: write(t, pemOf(ca.leaf(t, "gw-1", key.Public()), ca.cert)), Key: softKey(t, key)}
	if _, err := Import(t.Context(), again, files, false, time.Now(), floor()); err != nil {
		t.Fatal(err)
	}
	installed, err := readKey(again.path(KeyFile))
	if err != nil || installed.provider() != ProviderFile || !certs.SameKey(installed.public(), key.Public()) {
		t.Errorf("installed %+v: %v", installed, err)
	}
}

// A candidate's key goes into the TPM too, beside the present one.
func TestNextKeyIntoTPM(t *testing.T) {
	opts := options(t)
	opts.Key, opts.TPMDevice = "tpm", swtpmtest.Start(t).Device
	ca := newCA(t, "Test CA")
	present := ca.leaf(t, "gw-1", csrKey(t, opts))
	importChain(t, opts, present, ca.cert)
	key := newKey(t)
	next := ca.leaf(t, "gw-1", key.Public())
	files := ImportFiles{Cert: write(t, pemOf(next, ca.cert)), Key: softKey(t, key), IntoTPM: true}
	if _, err := Import(t.Context(), opts, files, true, time.Now(), floor()); err != nil {
		t.Fatal(err)
	}
	id, err := LoadNext(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if id.Provider != ProviderTPM || !id.Leaf().Equal(next) {
		t.Errorf("the candidate is %s in %s", id.CertificateID(), id.Provider)
	}
	holds(t, opts, present) // both are loaded
	if err := id.Close(); err != nil {
		t.Error(err)
	}
	if err := Promote(t.Context(), opts, certs.ID(next)); err != nil {
		t.Fatal(err)
	}
	holds(t, opts, next)
}

func TestIntoTPMNeedsAKey(t *testing.T) {
	ca := newCA(t, "Test CA")
	files := ImportFiles{Cert: write(t, pemOf(ca.leaf(t, "gw-1", newKey(t).Public()), ca.cert)), IntoTPM: true}
	if _, err := Import(t.Context(), options(t), files, false, time.Now(), floor()); err == nil || !strings.Contains(err.Error(), "--key") {
		t.Errorf("got %v", err)
	}
}
