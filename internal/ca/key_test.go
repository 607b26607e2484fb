package ca

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/jitr-agent/jitr-agent/internal/certs"
)

func answer(passphrase string) Passphrase {
	return func(string) ([]byte, error) { return []byte(passphrase), nil }
}

// openssl reads what we encrypt, with the right passphrase only.
func TestEncodeKey_opensslReadsIt(t *testing.T) {
	for _, algorithm := range []string{"ecdsa-p256", "rsa-2048"} {
		t.Run(algorithm, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "CA")
			c, err := Init(t.Context(), dir, InitOptions{CommonName: "x", Algorithm: algorithm, Days: 1, Passphrase: []byte("open sesame"), Now: now})
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, "ca.key")
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(data, []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----")) {
				t.Fatalf("%.40s", data)
			}
			plain := openssl(t, nil, "pkey", "-in", file, "-passin", "pass:open sesame")
			key, err := certs.ParseKey([]byte(plain))
			if err != nil || !certs.SameKey(key.Public(), c.Certificate().PublicKey) {
				t.Errorf("openssl gives another key, %v", err)
			}
			reopened, err := Open(dir, answer("open sesame"))
			if err != nil {
				t.Fatal(err)
			}
			sign(t, reopened, request(t, newECKey(t), "gw-1"), SignOptions{Days: 1})
		})
	}
}

func TestReadKey_asOpensslEncryptsIt(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain.key")
	openssl(t, nil, "genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", plain)
	want, err := readKey(plain, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"openssl 3":      {"pkcs8", "-topk8"},
		"AES-128":        {"pkcs8", "-topk8", "-v2", "aes-128-cbc"},
		"AES-192, SHA-1": {"pkcs8", "-topk8", "-v2", "aes-192-cbc", "-v2prf", "hmacWithSHA1"},
		"SHA-384":        {"pkcs8", "-topk8", "-v2prf", "hmacWithSHA384"},
		"SHA-512":        {"pkcs8", "-topk8", "-v2prf", "hmacWithSHA512", "-iter", "10"},
		"3DES":           {"pkcs8", "-topk8", "-v2", "des3"},
		"genrsa -aes256": {"rsa", "-traditional", "-aes256"},
		"genrsa -des3":   {"rsa", "-traditional", "-des3"},
		"pkey -aes256":   {"pkey", "-aes256"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "ca.key")
			openssl(t, nil, append(args, "-in", plain, "-out", file, "-passout", "pass:secret")...)
			key, err := readKey(file, answer("secret"))
			if err != nil || !certs.SameKey(key.Public(), want.Public()) {
				t.Fatalf("key %v, err %v", key != nil, err)
			}
			if _, err := readKey(file, answer("Secret")); !errors.Is(err, ErrPassphrase) {
				t.Errorf("wrong passphrase: err = %v", err)
			}
			if _, err := readKey(file, nil); !errors.Is(err, ErrNoPassphrase) {
				t.Errorf("no passphrase: err = %v", err)
			}
		})
	}
	file := filepath.Join(dir, "scrypt.key")
	openssl(t, nil, "pkcs8", "-topk8", "-scrypt", "-in", plain, "-out", file, "-passout", "pass:secret")
	if _, err := readKey(file, answer("secret")); !errors.Is(err, errUnread) {
		t.Errorf("scrypt: err = %v", err)
	}
}

// One wrong passphrase in 256 leaves a padding that looks right; the rest is
// no key then. With 600 of them the case is met nearly for certain.
func TestParseKey_wrongPassphraseIsSaidAlways(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.key")
	openssl(t, []byte(openssl(t, nil, "genpkey", "-quiet", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")),
		"pkcs8", "-topk8", "-iter", "1", "-out", file, "-passout", "pass:secret")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 600 {
		if _, err := parseKey(data, func() ([]byte, error) { return []byte{byte(i), byte(i >> 8)}, nil }); !errors.Is(err, ErrPassphrase) {
			t.Fatalf("passphrase %d: err = %v", i, err)
		}
	}
}
