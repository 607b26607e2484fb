// Package identity says who this gateway is: its device key, in a TPM or in a
// file, the certificate that goes with it, and the name of its thing. It makes
// keys and certificate requests, and takes certificates in. It promises:
//
//   - A key is never replaced and never made silently: only MakeCSR makes one,
//     and only where there is none. The one thing that Import does to a key
//     that is there is to move it into the TPM, when it is asked to.
//   - Import checks everything before it writes anything. What a power cut
//     leaves half done, the same Import finishes.
//   - The certificate is presented with its whole chain: AWS IoT registers an
//     unknown certificate only together with the CA that signed it.
//   - Every reason for having no identity is a sentinel in errors.go, and its
//     sentence says what to do.
package identity

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/jitr-agent/jitr-agent/internal/certs"
	"github.com/jitr-agent/jitr-agent/pkg/tpm"
)

// Names of the files in the state directory.
const (
	KeyFile      = "device.key"
	CertFile     = "device.crt"
	NextKeyFile  = "next.key"
	NextCertFile = "next.crt"
	LockFile     = "identity.lock"
)

// Key providers, as status and the init message name them.
const (
	ProviderTPM    = "tpm"
	ProviderSealed = "tpm-sealed"
	ProviderFile   = "file"
)

// Options say where an identity lives. Key, Algorithm, TPMDevice and PCRs are
// the settings of [identity].
type Options struct {
	StateDir  string
	Key       string // auto, tpm, tpm-sealed or file; for a new key: an existing key file decides for itself
	Algorithm string // ecdsa-p256 or rsa-2048; for MakeCSR
	TPMDevice string
	PCRs      []int      // what a new sealed key is bound to
	OwnerAuth tpm.Secret // of the TPM's owner hierarchy, where that has a password
	ThingName string     // cloud.thing_name; empty: the certificate's common name

	// Owner says that this process is the only lasting user of the TPM: Load
	// flushes what an earlier one left loaded in a software TPM.
	Owner bool

	// AllowVolatile lets MakeCSR make a key where a restart takes it away.
	AllowVolatile bool

	// Root is where /sys, /proc and /etc are found; empty means "/".
	Root string
}

func (o Options) path(name string) string { return filepath.Join(o.StateDir, name) }

// Identity is a key that works and the certificate that goes with it. It is
// safe for concurrent use until Close.
type Identity struct {
	ThingName string
	Provider  string              // ProviderTPM, ProviderSealed or ProviderFile
	Algorithm string              // of the key: "ecdsa-p256", "rsa-2048", …
	Chain     []*x509.Certificate // leaf first
	Signer    crypto.Signer
	// TPMCommands counts the TPM commands sent so far; nil for a file key.
	TPMCommands func() uint64
	// Warnings are about what works and should not stay so.
	Warnings []Warning

	close func() error
}

// Load reads the installed key and certificate, and opens the key. The errors
// wrap the sentinels of this package; ErrNoThingName is the only one that is a
// wrong configuration. The caller closes the identity.
func Load(ctx context.Context, opts Options) (*Identity, error) {
	if opts.Owner {
		if err := finishPromotion(ctx, opts); err != nil {
			return nil, err
		}
	}
	return loadPair(ctx, opts, opts.path(KeyFile), opts.path(CertFile))
}

func loadPair(ctx context.Context, opts Options, keyPath, certPath string) (*Identity, error) {
	key, err := readKey(keyPath)
	if err != nil {
		return nil, err
	}
	chain, err := readChain(certPath)
	if err != nil {
		return nil, err
	}
	name, err := thingName(opts, chain[0])
	if err != nil {
		return nil, err
	}
	if !certs.SameKey(key.public(), chain[0].PublicKey) {
		return nil, fmt.Errorf("%s: %w: %s holds another key; install the certificate that was made from the output of jitr-agent csr",
			certPath, ErrKeyMismatch, filepath.Base(keyPath))
	}
	opened, err := key.open(ctx, opts)
	if err != nil {
		return nil, err
	}
	return &Identity{
		ThingName:   name,
		Provider:    key.provider(),
		Algorithm:   certs.Algorithm(key.public()),
		Chain:       chain,
		Signer:      opened.signer,
		TPMCommands: opened.commands,
		Warnings:    key.warnings(opts),
		close:       opened.close,
	}, nil
}

// Close gives the key back. The identity cannot sign after it.
func (id *Identity) Close() error { return id.close() }

// Leaf is the device certificate.
func (id *Identity) Leaf() *x509.Certificate { return id.Chain[0] }

// CertificateID is the AWS certificateId of the device certificate.
func (id *Identity) CertificateID() string { return certs.ID(id.Chain[0]) }

// CACertificateID is the id of the CA that signed it; "" if device.crt does
// not hold that CA.
func (id *Identity) CACertificateID() string { return caID(id.Chain) }

func caID(chain []*x509.Certificate) string {
	if len(chain) < 2 {
		return ""
	}
	return certs.ID(chain[1])
}

// TLSCertificate returns what to present in a TLS handshake: the whole chain,
// and only signature algorithms that the key has.
func (id *Identity) TLSCertificate() *tls.Certificate {
	c := &tls.Certificate{
		PrivateKey:                   id.Signer,
		Leaf:                         id.Chain[0],
		SupportedSignatureAlgorithms: signatureAlgorithms(id.Provider, id.Signer.Public()),
	}
	for _, cert := range id.Chain {
		c.Certificate = append(c.Certificate, cert.Raw)
	}
	return c
}

// signatureAlgorithms: without them, TLS prefers RSA-PSS, which the TPM's
// signer refuses. TLS 1.3 has no other RSA signatures, so an RSA key in a TPM
// is for TLS 1.2.
func signatureAlgorithms(provider string, pub crypto.PublicKey) []tls.SignatureScheme {
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		switch pub.Curve {
		case elliptic.P384():
			return []tls.SignatureScheme{tls.ECDSAWithP384AndSHA384}
		case elliptic.P521():
			return []tls.SignatureScheme{tls.ECDSAWithP521AndSHA512}
		}
		return []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}
	case *rsa.PublicKey:
		if provider != ProviderTPM {
			return []tls.SignatureScheme{tls.PKCS1WithSHA256, tls.PSSWithSHA256}
		}
		return []tls.SignatureScheme{tls.PKCS1WithSHA256}
	}
	return nil
}

// InstalledChain reads the installed certificate and its chain, leaf first,
// without the key. The error wraps ErrNoCertificate.
func InstalledChain(opts Options) ([]*x509.Certificate, error) { return readChain(opts.path(CertFile)) }

// readChain reads an installed certificate file.
func readChain(path string) ([]*x509.Certificate, error) {
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: %w; have the output of jitr-agent csr signed, then run jitr-agent import --cert FILE", path, ErrNoCertificate)
	case err != nil:
		return nil, fmt.Errorf("%s: %w that can be read: %w; give the file to the service's user", path, ErrNoCertificate, reason(err))
	}
	chain, err := certs.ParseChain(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w that can be read: %w; run jitr-agent import --cert FILE again", path, ErrNoCertificate, err)
	}
	return chain, nil
}

// thingName is cloud.thing_name, else the certificate's common name.
func thingName(opts Options, leaf *x509.Certificate) (string, error) {
	name := opts.ThingName
	if name == "" {
		name = leaf.Subject.CommonName
	}
	if !certs.ValidThingName(name) {
		return "", ErrNoThingName
	}
	return name, nil
}

// ThingName is the thing that the installed files stand for, without a look at
// the key: what programs on the gateway hand in is for this thing, whatever is
// wrong with its TPM. Errors wrap ErrNoCertificate or ErrNoThingName.
func ThingName(opts Options) (string, error) {
	if opts.ThingName != "" {
		return thingName(opts, nil)
	}
	chain, err := readChain(opts.path(CertFile))
	if err != nil {
		return "", err
	}
	return thingName(opts, chain[0])
}

// reason takes operation and path off an error of package os, where our
// sentence names the file already.
func reason(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}
