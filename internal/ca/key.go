package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/jitr-agent/jitr-agent/internal/certs"
)

// Passphrase gives the passphrase of the encrypted key in file. It is called
// only where the key is encrypted.
type Passphrase func(file string) ([]byte, error)

// Algorithms are the kinds of key that Init makes, the default first: P-256
// is what a TPM and AWS IoT both have, and its certificates are the smallest
// on a metered link. RSA is for peers that know nothing else.
func Algorithms() []string { return []string{"ecdsa-p256", "rsa-2048", "rsa-4096"} }

func newKey(algorithm string) (crypto.Signer, error) {
	switch algorithm {
	case "ecdsa-p256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "rsa-2048":
		return rsa.GenerateKey(rand.Reader, 2048)
	case "rsa-4096":
		return rsa.GenerateKey(rand.Reader, 4096)
	}
	return nil, fmt.Errorf("%w: %q", ErrBadAlgorithm, algorithm)
}

// encodeKey writes a key as PKCS#8, encrypted where there is a passphrase.
func encodeKey(key crypto.Signer, passphrase []byte) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	block := &pem.Block{Type: "PRIVATE KEY", Bytes: der}
	if len(passphrase) > 0 {
		if block.Bytes, err = encrypt(der, passphrase); err != nil {
			return nil, fmt.Errorf("encrypt the key: %w", err)
		}
		block.Type = "ENCRYPTED PRIVATE KEY"
	}
	return pem.EncodeToMemory(block), nil
}

// readKey reads the key in file: in the clear as certs.ParseKey does, or
// encrypted as openssl does it, with what ask gives.
func readKey(file string, ask Passphrase) (crypto.Signer, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	key, err := parseKey(data, func() ([]byte, error) {
		if ask == nil {
			return nil, ErrNoPassphrase
		}
		return ask(file)
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return key, nil
}

func parseKey(data []byte, ask func() ([]byte, error)) (crypto.Signer, error) {
	for rest := data; ; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			return certs.ParseKey(data)
		}
		var open func(passphrase []byte) ([]byte, error)
		kind := "PRIVATE KEY"
		switch {
		case block.Type == "ENCRYPTED PRIVATE KEY":
			open = func(p []byte) ([]byte, error) { return decrypt(block.Bytes, p) }
		case block.Headers["DEK-Info"] != "":
			kind = block.Type
			open = func(p []byte) ([]byte, error) { return decryptTraditional(block, p) }
		default:
			continue
		}
		passphrase, err := ask()
		if err != nil {
			return nil, err
		}
		der, err := open(passphrase)
		if err != nil {
			return nil, err
		}
		key, err := certs.ParseKey(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
		if err != nil && !errors.Is(err, certs.ErrWeakKey) {
			return nil, ErrPassphrase // the padding was right by chance
		}
		return key, err
	}
}

// decryptTraditional reads what openssl 1.x wrote by genrsa -aes256. Its
// format is weak against whoever has the file, which is no reason not to read
// it.
func decryptTraditional(block *pem.Block, passphrase []byte) ([]byte, error) {
	der, err := x509.DecryptPEMBlock(block, passphrase) //nolint:staticcheck // deprecated for writing; CAs of many years are kept like this
	if errors.Is(err, x509.IncorrectPasswordError) {
		return nil, ErrPassphrase
	}
	return der, err
}
