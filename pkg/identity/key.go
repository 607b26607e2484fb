package identity

import (
	"bytes"
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

// deviceKey is a key file as it was read: one of its three keys is set. The
// file's format says where the key lives.
type deviceKey struct {
	path   string
	data   []byte
	tpm    *tpm.Key
	sealed *tpm.Sealed
	file   crypto.Signer
}

func (k *deviceKey) provider() string {
	switch {
	case k.tpm != nil:
		return ProviderTPM
	case k.sealed != nil:
		return ProviderSealed
	}
	return ProviderFile
}

// public needs no TPM.
func (k *deviceKey) public() crypto.PublicKey {
	switch {
	case k.tpm != nil:
		return k.tpm.Public()
	case k.sealed != nil:
		return k.sealed.Public()
	}
	return k.file.Public()
}

// readKey reads an installed key file. It needs no TPM.
func readKey(path string) (*deviceKey, error) {
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: %w; run jitr-agent csr", path, ErrNoKey)
	case err != nil:
		return nil, fmt.Errorf("%s: %w that can be read: %w; give the file to the service's user", path, ErrNoKey, reason(err))
	}
	key, err := parseKey(path, data)
	switch {
	case err == nil:
		return key, nil
	case errors.Is(err, ErrKeyCorrupt):
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return nil, fmt.Errorf("%s: %w: %w; restore it from a backup, or set device.key and device.crt aside and enrol this gateway anew with jitr-agent csr",
		path, ErrKeyCorrupt, err)
}

// parseKey reads the content of a key file in any of the three formats.
func parseKey(path string, data []byte) (k *deviceKey, err error) {
	k = &deviceKey{path: path, data: data}
	switch {
	case tpm.IsKey(data):
		k.tpm, err = tpm.ParseKey(data)
	case tpm.IsSealed(data):
		k.sealed, err = tpm.ParseSealed(data)
	default:
		k.file, err = certs.ParseKey(data)
	}
	return k, err
}

// openKey is a key that can sign.
type openKey struct {
	signer   crypto.Signer
	commands func() uint64 // nil for a file key
	close    func() error
}

// open makes the key ready to sign.
func (k *deviceKey) open(ctx context.Context, opts Options) (*openKey, error) {
	if k.file != nil {
		return &openKey{signer: k.file, close: func() error { return nil }}, nil
	}
	t, err := openTPM(opts)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.path, err)
	}
	opened, err := k.load(ctx, t, opts.Owner)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", k.path, err), t.Close())
	}
	return opened, nil
}

func openTPM(opts Options) (*tpm.TPM, error) {
	return tpm.Open(opts.TPMDevice, tpm.WithOwnerAuth(opts.OwnerAuth))
}

// load loads the key. On success the TPM is closed when it is not needed any
// more: at once for a sealed key.
func (k *deviceKey) load(ctx context.Context, t *tpm.TPM, owner bool) (*openKey, error) {
	if owner {
		if _, err := t.FlushLeftovers(ctx); err != nil {
			return nil, err
		}
	}
	if k.sealed != nil {
		signer, err := t.Unseal(ctx, k.sealed)
		if err != nil {
			return nil, err
		}
		return &openKey{signer: signer, commands: t.Commands, close: func() error { return nil }}, t.Close()
	}
	signer, err := t.Load(ctx, k.tpm)
	if err != nil {
		return nil, err
	}
	return &openKey{
		signer:   signer,
		commands: t.Commands,
		close:    func() error { return errors.Join(signer.Close(), t.Close()) },
	}, nil
}

// createKey makes a key of the given provider and returns the content of its
// file.
func createKey(ctx context.Context, opts Options, provider string) ([]byte, error) {
	if provider == ProviderTPM {
		return withTPM(opts, func(t *tpm.TPM) (encoder, error) {
			return t.CreateKey(ctx, tpm.Algorithm(opts.Algorithm))
		})
	}
	key, err := generate(opts.Algorithm)
	if err != nil {
		return nil, err
	}
	return keepKey(ctx, opts, provider, key)
}

// keepKey returns the content of the file in which the provider keeps a
// software key.
func keepKey(ctx context.Context, opts Options, provider string, key crypto.Signer) ([]byte, error) {
	switch provider {
	case ProviderTPM:
		return withTPM(opts, func(t *tpm.TPM) (encoder, error) { return t.Adopt(ctx, key) })
	case ProviderSealed:
		return withTPM(opts, func(t *tpm.TPM) (encoder, error) {
			sealed, err := t.Seal(ctx, key, opts.PCRs)
			if err != nil {
				return nil, err
			}
			_, err = t.Unseal(ctx, sealed) // the software key is given up on its account
			return sealed, err
		})
	}
	return encodeFileKey(key, opts.Root)
}

// encoder is a key that stands in a file.
type encoder interface{ Encode() ([]byte, error) }

// withTPM has a key made, and returns the content of its file.
func withTPM(opts Options, makeKey func(*tpm.TPM) (encoder, error)) ([]byte, error) {
	t, err := openTPM(opts)
	if err != nil {
		return nil, err
	}
	key, err := makeKey(t)
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

// encodeFileKey returns the content of a file key's file: PKCS #8, after a line
// that names the board, if that has a serial number.
func encodeFileKey(key crypto.Signer, root string) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode the device key: %w", err)
	}
	var out bytes.Buffer
	if serial, _ := boardSerial(root); serial != "" {
		out.WriteString(boardLine + serial + "\n")
	}
	out.Write(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	return out.Bytes(), nil
}
