package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/certs"
	"github.com/jitr-agent/jitr-agent/internal/swtpmtest"
)

// floor is the time that has certainly come in these tests.
func floor() time.Time { return time.Now().Add(-24 * time.Hour) }

func TestImportRefuses(t *testing.T) {
	ca, other := newCA(t, "Test CA"), newCA(t, "Other CA")
	noCA := newCA(t, "No CA", func(c *x509.Certificate) { c.IsCA = false; c.KeyUsage = 0 })
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name  string
		want  error // nil: any
		says  string
		files func(t *testing.T, opts *Options) ImportFiles
	}{
		{"no such file", os.ErrNotExist, "--cert", func(t *testing.T, _ *Options) ImportFiles {
			return ImportFiles{Cert: filepath.Join(t.TempDir(), "gw.crt")}
		}},
		{"no such chain file", os.ErrNotExist, "--chain", func(t *testing.T, o *Options) ImportFiles {
			return ImportFiles{Cert: write(t, pemOf(ca.leaf(t, "gw-1", csrKey(t, *o)))), Chain: filepath.Join(t.TempDir(), "ca.crt")}
		}},
		{"no PEM", certs.ErrNoCertificate, "give a PEM file", func(t *testing.T, _ *Options) ImportFiles {
			return ImportFiles{Cert: write(t, ca.cert.Raw)}
		}},
		{"no key", ErrNoKey, "jitr-agent csr", func(t *testing.T, _ *Options) ImportFiles {
			return ImportFiles{Cert: write(t, pemOf(ca.leaf(t, "gw-1", newKey(t).Public()), ca.cert))}
		}},
		{"another key", ErrKeyMismatch, "output of jitr-agent csr", func(t *testing.T, o *Options) ImportFiles {
			csrKey(t, *o)
			return ImportFiles{Cert: write(t, pemOf(ca.leaf(t, "gw-1", newKey(t).Public()), ca.cert))}
		}},
		{"the leaf alone", certs.ErrNoIssuer, "add it with --chain", func(t *testing.T, o *Options) ImportFiles {
			return ImportFiles{Cert: write(t, pemOf(ca.leaf(t, "gw-1", csrKey(t, *o))))}
		}},
		{"another CA", certs.ErrNoIssuer, "with --chain", func(t *testing.T, o *Options) ImportFiles {
			return ImportFiles{Cert: write(t, pemOf(ca.leaf(t, "gw-1", csrKey(t, *o)))), Chain: write(t, pemOf(other.cert))}
		}},
		{"the CA first", certs.ErrOrder, "put the device certificate first", func(t *testing.T, o *Options) ImportFiles {
			return ImportFiles{Cert: write(t, pemOf(ca.cert, ca.leaf(t, "gw-1", csrKey(t, *o))))}
		}},
		{"only the CA", certs.ErrNoCertificate, "with --cert", func(t *testing.T, _ *Options) ImportFiles {
			return ImportFiles{Cert: write(t, pemOf(ca.cert))}
		}},
		{"a CA without CA:TRUE", certs.ErrNotCA, "CA:TRUE", func(t *testing.T, o *Options) ImportFiles {
			return ImportFiles{Cert: write(t, pemOf(noCA.leaf(t, "gw-1", csrKey(t, *o)), noCA.cert))}
		}},
		{"expired", certs.ErrExpired, "have a new one made", func(t *testing.T, o *Options) ImportFiles {
			return ImportFiles{Cert: write(t, pemOf(ca.leaf(t, "gw-1", csrKey(t, *o), func(c *x509.Certificate) {
				c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
			}), ca.cert))}
		}},
		{"a weak key", certs.ErrWeakKey, "P-256", func(t *testing.T, _ *Options) ImportFiles {
			return ImportFiles{Cert: write(t, pemOf(ca.leaf(t, "gw-1", p224.Public()), ca.cert))}
		}},
		{"no common name", ErrNoThingName, "device.crt has no usable common name; set cloud.thing_name", func(t *testing.T, o *Options) ImportFiles {
			return ImportFiles{Cert: write(t, pemOf(ca.leaf(t, "", csrKey(t, *o)), ca.cert))}
		}},
		{"a common name with blanks", ErrNoThingName, "set cloud.thing_name", func(t *testing.T, o *Options) ImportFiles {
			return ImportFiles{Cert: write(t, pemOf(ca.leaf(t, "gw 1", csrKey(t, *o)), ca.cert))}
		}},
		{"--key of another certificate", ErrKeyMismatch, "give the key that", func(t *testing.T, _ *Options) ImportFiles {
			data, _ := encodeFileKey(newKey(t), t.TempDir())
			return ImportFiles{Cert: write(t, pemOf(ca.leaf(t, "gw-1", newKey(t).Public()), ca.cert)), Key: write(t, data)}
		}},
		{"--key without a key", certs.ErrNoKey, "PEM key file", func(t *testing.T, o *Options) ImportFiles {
			cert := write(t, pemOf(ca.leaf(t, "gw-1", csrKey(t, *o)), ca.cert))
			return ImportFiles{Cert: cert, Key: cert}
		}},
		{"--key over another device.key", ErrKeyMismatch, "never overwritten", func(t *testing.T, o *Options) ImportFiles {
			csrKey(t, *o)
			key := newKey(t)
			data, _ := encodeFileKey(key, t.TempDir())
			return ImportFiles{Cert: write(t, pemOf(ca.leaf(t, "gw-1", key.Public()), ca.cert)), Key: write(t, data)}
		}},
		{"a state directory that cannot be made", nil, "--state-dir", func(t *testing.T, o *Options) ImportFiles {
			cert := write(t, pemOf(ca.leaf(t, "gw-1", csrKey(t, *o)), ca.cert))
			o.StateDir = filepath.Join(cert, "state")
			return ImportFiles{Cert: cert}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			opts := options(t)
			files := test.files(t, &opts)
			before := map[string]string{}
			if !strings.HasPrefix(test.name, "a state directory") {
				before = snapshot(t, opts)
			}
			res, err := Import(t.Context(), opts, files, false, time.Now(), floor())
			if err == nil || res.Changed || (test.want != nil && !errors.Is(err, test.want)) || !strings.Contains(err.Error(), test.says) {
				t.Fatalf("got %+v, %v", res, err)
			}
			if msg := err.Error(); strings.Contains(msg, "\n") || !strings.Contains(msg, "; ") || !strings.HasPrefix(msg, "/") {
				t.Errorf("not one line with its object and a remedy: %q", msg)
			}
			if !strings.HasPrefix(test.name, "a state directory") {
				if after := snapshot(t, opts); !maps.Equal(before, after) {
					t.Errorf("the disk changed: %v, was %v", after, before)
				}
			}
		})
	}
}

// What editors, openssl and copy-and-paste make of a file.
func TestImportTakes(t *testing.T) {
	ca := newCA(t, "Test CA")
	for name, dress := range map[string]func([]byte) []byte{
		"as it is":         func(b []byte) []byte { return b },
		"CRLF":             func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n")) },
		"no last line end": func(b []byte) []byte { return bytes.TrimSpace(b) },
		"comments":         func(b []byte) []byte { return append([]byte("subject=/CN=gw-1\nissuer=/CN=Test CA\n"), b...) },
	} {
		t.Run(name, func(t *testing.T) {
			opts := options(t)
			leaf := ca.leaf(t, "gw-1", csrKey(t, opts))
			// The CA in both files, and the two files one after the other.
			files := ImportFiles{Cert: write(t, dress(pemOf(leaf, ca.cert))), Chain: write(t, dress(pemOf(ca.cert)))}
			if _, err := Import(t.Context(), opts, files, false, time.Now(), floor()); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(opts.path(CertFile))
			if err != nil || !bytes.Equal(got, pemOf(leaf, ca.cert)) {
				t.Errorf("device.crt: %v\n%s", err, got)
			}
		})
	}
}

func TestImportClock(t *testing.T) {
	ca := newCA(t, "Test CA")
	opts := options(t)
	pub := csrKey(t, opts)
	soon := ca.leaf(t, "gw-1", pub, func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(10*time.Minute), time.Now().Add(time.Hour)
	})
	now := time.Now()
	for _, test := range []struct {
		name         string
		now, minTime time.Time
		says         string // "": no warning
		expired      bool
	}{
		{"a right clock", now, floor(), "not valid yet", false},
		{"a clock of 1970", time.Unix(60, 0), floor(), "clock is wrong", false},
		{"a clock of 1970, and it is time", time.Unix(60, 0), now.Add(30 * time.Minute), "", false},
		{"a clock of 1970, and it is over", time.Unix(60, 0), now.Add(2 * time.Hour), "", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			res, err := Import(t.Context(), opts, ImportFiles{Cert: write(t, pemOf(soon, ca.cert))}, false, test.now, test.minTime)
			switch {
			case test.expired:
				if !errors.Is(err, certs.ErrExpired) {
					t.Errorf("got %v", err)
				}
			case err != nil:
				t.Error(err)
			case test.says != "" && (len(res.Warnings) == 0 || !strings.Contains(strings.Join(res.Warnings, "\n"), test.says)):
				t.Errorf("warnings: %q", res.Warnings)
			case test.says == "" && len(res.Warnings) != 0:
				t.Errorf("warnings: %q", res.Warnings)
			}
		})
	}
}

// The how-to's own certificate, by its own commands: version 1, RSA, a blank
// subject that equals its CA's.
func TestHowTo(t *testing.T) {
	dir := t.TempDir()
	for _, line := range []string{
		"genrsa -out CAroot.key 2048",
		"req -x509 -new -nodes -key CAroot.key -sha256 -days 365 -out CAroot.pem -subj /C=AU/ST=Some-State/O=Internet_Widgits",
		"genrsa -out deviceCert.key 2048",
		"req -new -key deviceCert.key -out deviceCert.csr -subj /C=AU/ST=Some-State/O=Internet_Widgits",
		"x509 -req -in deviceCert.csr -CA CAroot.pem -CAkey CAroot.key -CAcreateserial -out deviceCert.crt -days 365 -sha256",
	} {
		cmd := exec.CommandContext(t.Context(), "openssl", strings.Fields(line)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("openssl %s: %v\n%s", line, err, out)
		}
	}
	var both []byte
	for _, name := range []string{"deviceCert.crt", "CAroot.pem"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, data...)
	}
	files := ImportFiles{Cert: write(t, both), Key: filepath.Join(dir, "deviceCert.key")}
	opts := options(t)
	if _, err := Import(t.Context(), opts, files, false, time.Now(), floor()); !errors.Is(err, ErrNoThingName) {
		t.Errorf("without a name: %v", err)
	}
	opts.ThingName = "JustInTime"
	res, err := Import(t.Context(), opts, files, false, time.Now(), floor())
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0], "OpenSSL") || res.ThingName != "JustInTime" {
		t.Errorf("got %+v", res)
	}
	checkModes(t, opts)
	id, err := Load(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer id.Close()
	if id.Algorithm != "rsa-2048" || id.Provider != ProviderFile || len(id.Chain) != 2 {
		t.Errorf("loaded %+v", id)
	}
}

// A missing CA is added to the certificate that is installed, even an accepted
// one: the identity is the same.
func TestImportCompletesTheChain(t *testing.T) {
	opts := options(t)
	ca := newCA(t, "Test CA")
	leaf := ca.leaf(t, "gw-1", csrKey(t, opts))
	if err := os.WriteFile(opts.path(CertFile), pemOf(leaf), 0o644); err != nil {
		t.Fatal(err)
	}
	res, err := Import(t.Context(), opts, ImportFiles{Cert: write(t, pemOf(leaf, ca.cert))}, true, time.Now(), floor())
	if err != nil || !res.Changed || res.InstalledAs != InstalledDevice {
		t.Fatalf("got %+v, %v", res, err)
	}
	if chain := installedChain(opts, CertFile); len(chain) != 2 || exists(opts.path(NextCertFile)) {
		t.Errorf("device.crt holds %d certificates", len(chain))
	}
}

// Beside an accepted certificate a new one is a candidate.
func TestImportNext(t *testing.T) {
	ca := newCA(t, "Test CA")
	opts := options(t)
	pub := csrKey(t, opts)
	current := ca.leaf(t, "gw-1", pub)
	importChain(t, opts, current, ca.cert)
	device := snapshot(t, opts)

	next := func(files ImportFiles, changed bool) {
		t.Helper()
		res, err := Import(t.Context(), opts, files, true, time.Now(), floor())
		if err != nil {
			t.Fatal(err)
		}
		if res.Changed != changed || res.InstalledAs != InstalledNext {
			t.Errorf("got %+v", res)
		}
		got := snapshot(t, opts)
		for _, file := range []string{KeyFile, CertFile} {
			if got[file] != device[file] {
				t.Errorf("%s changed", file)
			}
		}
		checkModes(t, opts)
	}
	pair := func() (ImportFiles, *x509.Certificate) {
		key := newKey(t)
		data, err := encodeFileKey(key, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		leaf := ca.leaf(t, "gw-1", key.Public())
		return ImportFiles{Cert: write(t, pemOf(leaf, ca.cert)), Key: write(t, data)}, leaf
	}
	installed := func(leaf *x509.Certificate, withKey bool) {
		t.Helper()
		if chain := installedChain(opts, NextCertFile); len(chain) != 2 || !chain[0].Equal(leaf) {
			t.Error("next.crt is another certificate")
		}
		if exists(opts.path(NextKeyFile)) != withKey {
			t.Errorf("next.key exists: %v", !withKey)
		}
	}

	renewed := ca.leaf(t, "gw-1", pub)
	sameKey := ImportFiles{Cert: write(t, pemOf(renewed, ca.cert))}
	next(sameKey, true)
	next(sameKey, false)
	installed(renewed, false)

	one, oneLeaf := pair()
	next(one, true)
	next(one, false)
	installed(oneLeaf, true)

	two, twoLeaf := pair()
	next(two, true) // an unproven candidate may be replaced
	installed(twoLeaf, true)

	next(sameKey, true) // back to the device's key: next.key must not stay
	installed(renewed, false)

	// The accepted one again changes nothing.
	res, err := Import(t.Context(), opts, ImportFiles{Cert: write(t, pemOf(current, ca.cert))}, true, time.Now(), floor())
	if err != nil || res.Changed {
		t.Errorf("the accepted one again: %+v, %v", res, err)
	}
	// And one for no key of ours is refused.
	stranger := ImportFiles{Cert: write(t, pemOf(ca.leaf(t, "gw-1", newKey(t).Public()), ca.cert))}
	if _, err := Import(t.Context(), opts, stranger, true, time.Now(), floor()); !errors.Is(err, ErrKeyMismatch) {
		t.Errorf("a stranger: %v", err)
	}
	installed(renewed, false)
}

// A kill -9 or power cut after any number of steps is healed by the same
// import, and never leaves a pair that does not fit.
func TestImportHealsItself(t *testing.T) {
	ca := newCA(t, "Test CA")
	key, nextKey := newKey(t), newKey(t)
	for _, accepted := range []bool{false, true} {
		for cut := range 4 {
			opts := options(t)
			subject := key
			if accepted {
				data, err := encodeFileKey(key, t.TempDir())
				if err != nil {
					t.Fatal(err)
				}
				first := ImportFiles{Cert: write(t, pemOf(ca.leaf(t, "gw-1", key.Public()), ca.cert)), Key: write(t, data)}
				if _, err := Import(t.Context(), opts, first, false, time.Now(), floor()); err != nil {
					t.Fatal(err)
				}
				oldKey := newKey(t) // an earlier candidate
				old, err := encodeFileKey(oldKey, t.TempDir())
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(opts.path(NextKeyFile), old, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(opts.path(NextCertFile), pemOf(ca.leaf(t, "gw-1", oldKey.Public()), ca.cert), 0o644); err != nil {
					t.Fatal(err)
				}
				subject = nextKey
			} else if err := os.MkdirAll(opts.StateDir, 0o700); err != nil {
				t.Fatal(err)
			}
			data, err := encodeFileKey(subject, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			given := ImportFiles{Cert: write(t, pemOf(ca.leaf(t, "gw-1", subject.Public()), ca.cert)), Key: write(t, data)}

			in, err := readImport(given)
			if err != nil {
				t.Fatal(err)
			}
			steps, as, err := in.plan(t.Context(), opts, accepted)
			if err != nil {
				t.Fatal(err)
			}
			certFile, keyFile := CertFile, KeyFile
			if as == InstalledNext {
				certFile, keyFile = NextCertFile, NextKeyFile
			}
			for _, s := range steps[:min(cut, len(steps))] {
				if err := s.run(opts); err != nil {
					t.Fatal(err)
				}
				if chain := installedChain(opts, certFile); len(chain) > 0 {
					if k, err := readKey(opts.path(keyFile)); err != nil || !certs.SameKey(k.public(), chain[0].PublicKey) {
						t.Errorf("accepted %v: after %s the pair does not fit", accepted, s.file)
					}
				}
			}
			if _, err := Import(t.Context(), opts, given, accepted, time.Now(), floor()); err != nil {
				t.Fatalf("accepted %v, cut after %d steps: %v", accepted, cut, err)
			}
			k, err := readKey(opts.path(keyFile))
			if err != nil {
				t.Fatal(err)
			}
			if chain := installedChain(opts, certFile); len(chain) != 2 || !certs.SameKey(k.public(), chain[0].PublicKey) {
				t.Errorf("accepted %v, cut after %d steps: not healed", accepted, cut)
			}
		}
	}
}

// --key with a key that openssl of old wrote becomes PKCS #8.
func TestImportPKCS1Key(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "old.key")
	data, err := encodeFileKey(key, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "openssl", "rsa", "-traditional", "-in", write(t, data), "-out", path).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	opts := options(t)
	ca := newCA(t, "Test CA")
	files := ImportFiles{Cert: write(t, pemOf(ca.leaf(t, "gw-1", key.Public()), ca.cert)), Key: path}
	if _, err := Import(t.Context(), opts, files, false, time.Now(), floor()); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(opts.path(KeyFile)); err != nil || !bytes.HasPrefix(got, []byte("-----BEGIN PRIVATE KEY-----")) {
		t.Errorf("device.key: %v\n%.40s", err, got)
	}
}

// import needs no TPM: the key file's public part is enough.
func TestImportWithoutTPM(t *testing.T) {
	s := swtpmtest.Start(t)
	opts := options(t)
	opts.Key, opts.TPMDevice = "tpm", s.Device
	pub := csrKey(t, opts)
	s.PowerCut()
	ca := newCA(t, "Test CA")
	importChain(t, opts, ca.leaf(t, "gw-1", pub), ca.cert)
}
