package ca

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/ca/inventory"
	"github.com/jitr-agent/jitr-agent/internal/certs"
)

func TestRevoke(t *testing.T) {
	c := newTestCA(t)
	leaf := func(name string, days int) *x509.Certificate {
		return sign(t, c, request(t, newECKey(t), name), SignOptions{Days: days}).Chain[0]
	}
	byID, bySerial, old, twin1, twin2 := leaf("gw-1", 30), leaf("gw-2", 30), leaf("gw-3", 1), leaf("gw-3", 30), leaf("gw-3", 30)
	leaf("gw-4", 30)
	colons := strings.ReplaceAll(strings.ToLower(fmt.Sprintf("% X", bySerial.SerialNumber.Bytes())), " ", ":") // as openssl x509 -text has it
	later := now.AddDate(0, 0, 2)
	for which, want := range map[string][]*x509.Certificate{
		certs.ID(byID): {byID},
		colons:         {bySerial},
		"gw-3":         {twin1, twin2},
	} {
		got, err := c.Revoke(t.Context(), which, inventory.KeyCompromise, later)
		if err != nil || len(got) != len(want) {
			t.Fatalf("%s: %d revoked, %v", which, len(got), err)
		}
		for _, e := range got {
			if e.RevokedAt == nil || !e.RevokedAt.Equal(later.Truncate(time.Second)) || e.Reason != inventory.KeyCompromise {
				t.Errorf("%s: %+v", which, e)
			}
		}
	}
	// The first time and reason stay.
	if got, err := c.Revoke(t.Context(), "gw-1", inventory.Unspecified, later.Add(time.Hour)); err != nil || !got[0].RevokedAt.Equal(later.Truncate(time.Second)) || got[0].Reason != inventory.KeyCompromise {
		t.Errorf("again: %+v, %v", got, err)
	}
	list, err := c.List(t.Context(), Filter{States: []inventory.State{inventory.Valid, inventory.Expired}}, later)
	if err != nil || len(list) != 2 || list[0].CertificateID != certs.ID(old) || list[1].Name != "gw-4" {
		t.Errorf("not revoked: %v, %v", list, err)
	}
	// One without a name, as the how-tos make them.
	unnamed, err := inventory.ParseIndex([]byte("V\t491231000000Z\t\t01\tunknown\t/O=Acme\n"), now)
	if err != nil {
		t.Fatal(err)
	}
	st, err := c.open(t.Context(), now)
	if err != nil {
		t.Fatal(err)
	}
	err = st.Update(func(tx *inventory.Tx) error {
		_, err := tx.AddUnseen(unnamed[0])
		return err
	})
	st.Close()
	if err != nil {
		t.Fatal(err)
	}
	for _, which := range []string{"", "gw-9", "ab", strings.Repeat("ab", 32), "gw-1.crt"} {
		if _, err := c.Revoke(t.Context(), which, inventory.Unspecified, later); !errors.Is(err, inventory.ErrUnknown) {
			t.Errorf("%q: err = %v, want ErrUnknown", which, err)
		}
	}
	// A name that is another's serial number.
	number := string(inventory.SerialOf(twin1.SerialNumber))
	leaf(number, 30)
	if _, err := c.Revoke(t.Context(), number, inventory.Unspecified, later); !errors.Is(err, ErrAmbiguous) {
		t.Errorf("err = %v, want ErrAmbiguous", err)
	}
}

func TestMakeCRL(t *testing.T) {
	for name, c := range map[string]*CA{"ours": newTestCA(t), "the how-to's": howtoCA(t)} {
		t.Run(name, func(t *testing.T) {
			now := time.Now()
			ca := c.keyFile[:len(c.keyFile)-len("key")]
			for _, suffix := range []string{"crt", "pem"} {
				if _, err := os.Stat(ca + suffix); err == nil {
					ca += suffix
					break
				}
			}
			dir := t.TempDir()
			check := func(leaf *x509.Certificate) error {
				crl, err := c.MakeCRL(t.Context(), 7, now)
				if err != nil {
					t.Fatal(err)
				}
				file, cert := filepath.Join(dir, "ca.crl"), filepath.Join(dir, "leaf.crt")
				if err := errors.Join(
					os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: crl.DER}), 0o600),
					os.WriteFile(cert, certs.EncodeChain([]*x509.Certificate{leaf}), 0o600),
				); err != nil {
					t.Fatal(err)
				}
				if out := openssl(t, nil, "crl", "-in", file, "-CAfile", ca, "-noout", "-nextupdate", "-crlnumber"); !strings.Contains(out, "verify OK") || !strings.Contains(out, "crlNumber=") {
					t.Errorf("openssl crl: %s", out)
				}
				return exec.CommandContext(t.Context(), "openssl", "verify", "-crl_check", "-CAfile", ca, "-CRLfile", file, cert).Run()
			}
			good := sign(t, c, request(t, newECKey(t), "gw-1"), SignOptions{Days: 30, Now: now}).Chain[0]
			bad := sign(t, c, request(t, newECKey(t), "gw-2"), SignOptions{Days: 30, Now: now}).Chain[0]
			if err := check(bad); err != nil {
				t.Errorf("before it is revoked: %v", err)
			}
			if _, err := c.Revoke(t.Context(), "gw-2", inventory.Unspecified, now); err != nil {
				t.Fatal(err)
			}
			if err := check(bad); err == nil {
				t.Error("openssl takes the revoked certificate")
			}
			if err := check(good); err != nil {
				t.Errorf("openssl refuses the other one: %v", err)
			}
			// After all of that by a process of its own.
			reopened, err := Open(c.dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			crl, err := reopened.MakeCRL(t.Context(), 7, now)
			if err != nil || crl.Number.Int64() != 4 || crl.Entries != 1 {
				t.Errorf("%+v, %v; want number 4 with one entry", crl, err)
			}
			if _, err := c.MakeCRL(t.Context(), 0, now); !errors.Is(err, ErrBadValidity) {
				t.Errorf("0 days: err = %v", err)
			}
		})
	}
}

// howtoCA is a CA as the how-tos make it: no keyUsage.
func howtoCA(t *testing.T) *CA {
	t.Helper()
	dir := t.TempDir()
	openssl(t, nil, "genrsa", "-out", filepath.Join(dir, "CAroot.key"), "2048")
	openssl(t, nil, "req", "-x509", "-new", "-nodes", "-key", filepath.Join(dir, "CAroot.key"), "-sha256", "-days", "365", "-subj", "/O=Acme", "-out", filepath.Join(dir, "CAroot.pem"))
	c, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestList_expiring(t *testing.T) {
	c := newTestCA(t)
	for name, days := range map[string]int{"gw-1": 100, "gw-2": 20, "gw-3": 10, "gw-4": 1} {
		sign(t, c, request(t, newECKey(t), name), SignOptions{Days: days})
	}
	if _, err := c.Revoke(t.Context(), "gw-3", inventory.Unspecified, now); err != nil {
		t.Fatal(err)
	}
	later := now.AddDate(0, 0, 2)
	list, err := c.List(t.Context(), Filter{EndsBefore: later.AddDate(0, 0, 30)}, later)
	if err != nil || len(list) != 1 || list[0].Name != "gw-2" {
		t.Errorf("%v, %v; want gw-2 alone: not the expired, not the revoked one", list, err)
	}
}
