package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"strings"
	"testing"
)

// All keys are made by openssl, in the formats that it has written over the
// years.
func TestParseKey(t *testing.T) {
	dir := t.TempDir()
	openssl(t, dir, "genrsa", "-out", "rsa", "2048")
	openssl(t, dir, "genrsa", "-out", "weak", "1024")
	openssl(t, dir, "ecparam", "-name", "prime256v1", "-genkey", "-out", "ec")
	openssl(t, dir, "ecparam", "-name", "secp384r1", "-genkey", "-noout", "-out", "p384")
	openssl(t, dir, "ecparam", "-name", "secp224r1", "-genkey", "-noout", "-out", "p224")
	openssl(t, dir, "genpkey", "-algorithm", "ed25519", "-out", "ed25519")
	openssl(t, dir, "genpkey", "-algorithm", "x25519", "-out", "x25519")
	ec := read(t, dir, "ec")

	for name, c := range map[string]struct {
		data []byte
		want string // algorithm
	}{
		"PKCS#8 RSA":       {openssl(t, dir, "pkey", "-in", "rsa"), "rsa-2048"},
		"PKCS#1":           {openssl(t, dir, "rsa", "-in", "rsa", "-traditional"), "rsa-2048"},
		"PKCS#8 EC":        {openssl(t, dir, "pkey", "-in", "ec"), "ecdsa-p256"},
		"SEC 1, P-384":     {read(t, dir, "p384"), "ecdsa-p384"},
		"parameters first": {ec, "ecdsa-p256"},
		"CRLF and text":    {[]byte("my key\r\n" + strings.ReplaceAll(string(ec), "\n", "\r\n")), "ecdsa-p256"},
		"byte order mark":  {append([]byte("\ufeff"), openssl(t, dir, "pkey", "-in", "ec")...), "ecdsa-p256"},
		"no last line end": {[]byte(strings.TrimSpace(string(ec))), "ecdsa-p256"},
	} {
		t.Run(name, func(t *testing.T) {
			key, err := ParseKey(c.data)
			if err != nil {
				t.Fatal(err)
			}
			if got := Algorithm(key.Public()); got != c.want {
				t.Errorf("%s; want %s", got, c.want)
			}
		})
	}

	for name, c := range map[string]struct {
		data []byte
		want error
		text string
	}{
		"empty":              {nil, ErrNoKey, ""},
		"public key":         {openssl(t, dir, "pkey", "-in", "ec", "-pubout"), ErrNoKey, ""},
		"cut off":            {ec[:len(ec)-60], ErrDamaged, ""},
		"not a key":          {[]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), nil, "damaged"},
		"encrypted PKCS#8":   {openssl(t, dir, "pkey", "-in", "ec", "-aes128", "-passout", "pass:geheim"), ErrEncrypted, ""},
		"encrypted PKCS#1":   {openssl(t, dir, "rsa", "-in", "rsa", "-traditional", "-aes128", "-passout", "pass:geheim"), ErrEncrypted, ""},
		"encrypted SEC 1":    {openssl(t, dir, "ec", "-in", "ec", "-aes128", "-passout", "pass:geheim"), ErrEncrypted, ""},
		"RSA-1024":           {read(t, dir, "weak"), ErrWeakKey, "1024 bits"},
		"P-224":              {read(t, dir, "p224"), ErrWeakKey, "P-224"},
		"Ed25519":            {read(t, dir, "ed25519"), ErrWeakKey, "Ed25519"},
		"one that signs not": {read(t, dir, "x25519"), ErrWeakKey, "cannot sign"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseKey(c.data)
			if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v; want %v, %q", err, c.want, c.text)
			}
		})
	}
}

func TestSameKey(t *testing.T) {
	one, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	two, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	three, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	copied := one.PublicKey
	if !SameKey(one.Public(), &copied) {
		t.Error("a copy is the same key")
	}
	for _, other := range []crypto.PublicKey{two.Public(), three, nil, "text"} {
		if SameKey(one.Public(), other) || SameKey(other, one.Public()) {
			t.Errorf("%T is not the same key", other)
		}
	}
}
