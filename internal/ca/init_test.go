package ca

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/certs"
)

func TestInit(t *testing.T) {
	for _, algorithm := range Algorithms() {
		t.Run(algorithm, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "CA")
			c, err := Init(t.Context(), dir, InitOptions{CommonName: "Acme gateways", Algorithm: algorithm, Days: 100, Now: now})
			if err != nil {
				t.Fatal(err)
			}
			own := c.Certificate()
			if got := certs.Algorithm(own.PublicKey); got != algorithm {
				t.Errorf("key = %s, want %s", got, algorithm)
			}
			if want := now.AddDate(0, 0, 100).Truncate(time.Second); !own.NotAfter.Equal(want) {
				t.Errorf("NotAfter = %s, want %s", own.NotAfter, want)
			}
			if !own.NotBefore.Before(now.Add(-time.Minute)) {
				t.Errorf("NotBefore = %s is not before %s by some minutes", own.NotBefore, now)
			}
			for file, mode := range map[string]os.FileMode{"": 0o700, "ca.key": 0o600, "ca.crt": 0o644} {
				info, err := os.Stat(filepath.Join(dir, file))
				if err != nil {
					t.Fatal(err)
				}
				if info.Mode().Perm() != mode {
					t.Errorf("mode of %q = %v, want %v", file, info.Mode().Perm(), mode)
				}
			}

			text := openssl(t, nil, "x509", "-in", filepath.Join(dir, "ca.crt"), "-noout", "-text")
			for _, want := range []string{
				"Subject: CN = Acme gateways",
				"X509v3 Basic Constraints: critical\n                CA:TRUE\n",
				"X509v3 Key Usage: critical\n                Certificate Sign, CRL Sign\n",
				"X509v3 Subject Key Identifier:",
				"X509v3 Authority Key Identifier:",
			} {
				if !strings.Contains(text, want) {
					t.Errorf("openssl does not show %q in\n%s", want, text)
				}
			}
			if !strings.Contains(strings.ToLower(text), "sha256") {
				t.Errorf("not signed with SHA-256:\n%s", text)
			}
			openssl(t, nil, "verify", "-x509_strict", "-check_ss_sig", "-CAfile", filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.crt"))
			keyPEM, err := os.ReadFile(filepath.Join(dir, "ca.key"))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(keyPEM, []byte("-----BEGIN PRIVATE KEY-----")) {
				t.Errorf("ca.key is not PKCS#8: %.40s", keyPEM)
			}
			openssl(t, keyPEM, "pkey", "-check", "-noout")
		})
	}
}

func TestInit_overwritesNothing(t *testing.T) {
	for _, file := range []string{"ca.crt", "ca.key", "CAroot.pem", "CAroot.key"} {
		t.Run(file, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), file)
			if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Init(t.Context(), filepath.Dir(path), InitOptions{CommonName: "x", Algorithm: "ecdsa-p256", Days: 1, Now: now})
			if !errors.Is(err, ErrExists) || !strings.Contains(err.Error(), path) {
				t.Errorf("err = %v, want ErrExists that names %s", err, path)
			}
			if data, err := os.ReadFile(path); string(data) != "precious" {
				t.Errorf("%s holds %q now, %v", path, data, err)
			}
		})
	}
}

func TestInit_refusesWithoutTouchingTheDisk(t *testing.T) {
	for name, o := range map[string]InitOptions{
		"no name":     {Algorithm: "ecdsa-p256", Days: 1, Now: now},
		"unknown key": {CommonName: "x", Algorithm: "dsa", Days: 1, Now: now},
		"no day":      {CommonName: "x", Algorithm: "ecdsa-p256", Days: 0, Now: now},
		"too long":    {CommonName: "x", Algorithm: "ecdsa-p256", Days: maxDays + 1, Now: now},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "CA")
			if _, err := Init(t.Context(), dir, o); err == nil {
				t.Error("no error")
			}
			if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s: %v, want that it does not exist", dir, err)
			}
		})
	}
}
