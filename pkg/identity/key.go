package identity

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/jitr-agent/jitr-agent/internal/certs"
	"github.com/jitr-agent/jitr-agent/pkg/tpm"
)

// deviceKey is a key file as it was read: one of its two keys is set. The
// file's format says where the key lives.
type deviceKey struct {
	path     string
	tpm      *tpm.Key
	file     crypto.Signer
	warnings []string
}

func (k *deviceKey) provider() string {
	if k.tpm != nil {
		return ProviderTPM
	}
	return ProviderFile
}

// public needs no TPM.
func (k *deviceKey) public() crypto.PublicKey {
	if k.tpm != nil {
		return k.tpm.Public()
	}
	return k.file.Public()
}

// readKey reads a key file. It needs no TPM.
func readKey(path string) (*deviceKey, error) {
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: %w; run jitr-agent csr", path, ErrNoKey)
	case err != nil:
		return nil, fmt.Errorf("%s: %w that can be read: %w; give the file to the service's user", path, ErrNoKey, reason(err))
	}
	k := &deviceKey{path: path}
	if tpm.IsKey(data) {
		if k.tpm, err = tpm.ParseKey(data); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if !k.tpm.NoDA() {
			k.warnings = append(k.warnings, path+" was made without noDA by another program: after some power cuts the TPM may lock it; make the key with jitr-agent csr")
		}
		return k, nil
	}
	if k.file, err = certs.ParseKey(data); err != nil {
		return nil, fmt.Errorf("%s: %w: %w; restore it from a backup, or set device.key and device.crt aside and enrol this gateway anew with jitr-agent csr",
			path, ErrKeyCorrupt, err)
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
		k.warnings = append(k.warnings, fmt.Sprintf("%s can be read by other users (mode %04o); run chmod 600 %s", path, info.Mode().Perm(), path))
	}
	return k, nil
}

// openKey is a key that can sign.
type openKey struct {
	signer   crypto.Signer
	commands func() uint64 // nil for a file key
	close    func() error
}

// open makes the key ready to sign.
func (k *deviceKey) open(ctx context.Context, opts Options) (*openKey, error) {
	if k.tpm == nil {
		return &openKey{signer: k.file, close: func() error { return nil }}, nil
	}
	t, err := tpm.Open(opts.TPMDevice)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.path, err)
	}
	signer, err := load(ctx, t, k.tpm, opts.Owner)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", k.path, err), t.Close())
	}
	return &openKey{
		signer:   signer,
		commands: t.Commands,
		close:    func() error { return errors.Join(signer.Close(), t.Close()) },
	}, nil
}

func load(ctx context.Context, t *tpm.TPM, key *tpm.Key, owner bool) (*tpm.Signer, error) {
	if owner {
		if _, err := t.FlushLeftovers(ctx); err != nil {
			return nil, err
		}
	}
	return t.Load(ctx, key)
}

// createKey makes a key of the given provider and returns the content of its
// file.
func createKey(ctx context.Context, opts Options, provider string) ([]byte, error) {
	if provider == ProviderFile {
		key, err := generate(opts.Algorithm)
		if err != nil {
			return nil, err
		}
		return encodeFileKey(key)
	}
	t, err := tpm.Open(opts.TPMDevice)
	if err != nil {
		return nil, err
	}
	key, err := t.CreateKey(ctx, tpm.Algorithm(opts.Algorithm))
	if err := errors.Join(err, t.Close()); err != nil {
		return nil, err
	}
	return key.Encode()
}

func generate(algorithm string) (crypto.Signer, error) {
	switch algorithm {
	case "ecdsa-p256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "rsa-2048":
		return rsa.GenerateKey(rand.Reader, 2048)
	}
	return nil, fmt.Errorf("[identity] algorithm: there is no %q; set ecdsa-p256 or rsa-2048", algorithm)
}

// encodeFileKey returns the content of a file key's file: PKCS #8.
func encodeFileKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode the device key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
