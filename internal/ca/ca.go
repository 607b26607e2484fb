// Package ca is the operator's certificate authority: a directory with a key
// and a certificate, as openssl users keep it, and what they do with it. It
// replaces the openssl lines of AWS's own how-tos and checks what those let
// through: who holds the key, what the name is, what AWS IoT takes.
//
// Files interchange with openssl in both directions. The directory holds
//
//	ca.crt          the CA's certificate, then its issuers if it is an intermediate one
//	ca.key          its private key, PKCS#8, encrypted on request, 0600
//	inventory.db    every certificate that it has made (package inventory)
//	lock            held while a command works with the inventory
//
// A CA made by openssl is used as it is, under the names of the AWS how-tos
// and of 'openssl ca'.
//
// A certificate leaves this package only after it is in the inventory, and on
// the disk there. So a command that was killed can be given again: what was
// handed out is handed out again, and what was not is made then.
//
// Two processes may use one directory at the same time: the one waits for the
// other until the context ends.
package ca

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/certs"
)

// layouts are the file names a CA may have, certificate and key, ours first.
// The second pair is what the AWS how-tos of the openssl days call them, the
// third what openssl.cnf has for 'openssl ca'.
var layouts = [][2]string{{"ca.crt", "ca.key"}, {"CAroot.pem", "CAroot.key"}, {"cacert.pem", "private/cakey.pem"}}

// CA is a certificate authority in a directory. Its private key is read only
// when something is signed, so a copy without the key can still bundle.
type CA struct {
	dir     string
	keyFile string
	ask     Passphrase
	chain   []*x509.Certificate // the CA's own certificate first
}

// Open reads the CA's certificate from dir. Where there is none the error
// wraps ErrNoCA. ask may be nil; then an encrypted key is ErrNoPassphrase.
func Open(dir string, ask Passphrase) (*CA, error) {
	for _, names := range layouts {
		file := filepath.Join(dir, names[0])
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		chain, err := certs.ParseChain(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if !chain[0].IsCA {
			return nil, fmt.Errorf("%s: %w (basicConstraints CA:TRUE is missing), so AWS IoT does not register it; make a CA with 'jitrctl ca init'", file, certs.ErrNotCA)
		}
		return &CA{dir: dir, keyFile: filepath.Join(dir, names[1]), ask: ask, chain: chain}, nil
	}
	return nil, fmt.Errorf("%s: %w (no %s); make one with 'jitrctl ca init --dir %s --cn NAME'", dir, ErrNoCA, layouts[0][0], dir)
}

// Certificate is the CA's own certificate.
func (c *CA) Certificate() *x509.Certificate { return c.chain[0] }

// Bundle puts the CA's chain behind a certificate that was made elsewhere
// with this CA's key, so that AWS IoT can register it just in time. Of leaf
// only the first certificate is used; what follows it is the CA's to say. A
// certificate that this CA did not sign wraps ErrForeign.
func (c *CA) Bundle(leaf []*x509.Certificate) ([]*x509.Certificate, error) {
	bundle := certs.Append(leaf[:1:1], c.chain)
	if err := certs.CheckChain(bundle); err != nil {
		if errors.Is(err, certs.ErrNoIssuer) {
			return nil, fmt.Errorf("%w, %q, but by %q; name the directory of the CA that signed it with --dir",
				ErrForeign, certs.Name(c.Certificate()), leaf[0].Issuer.String())
		}
		return nil, err
	}
	return bundle, nil
}

// signer reads the CA's key and refuses where the pair cannot sign at now.
func (c *CA) signer(now time.Time) (crypto.Signer, error) {
	own := c.Certificate()
	switch {
	case now.After(own.NotAfter):
		return nil, fmt.Errorf("the CA %q: %w at %s; make a new CA in another directory with 'jitrctl ca init'", certs.Name(own), certs.ErrExpired, stamp(own.NotAfter))
	case now.Before(own.NotBefore):
		return nil, fmt.Errorf("the CA %q: %w, it begins at %s; check this machine's clock", certs.Name(own), certs.ErrNotYetValid, stamp(own.NotBefore))
	case own.KeyUsage != 0 && own.KeyUsage&x509.KeyUsageCertSign == 0:
		return nil, fmt.Errorf("the CA %q: its certificate has a keyUsage without keyCertSign; make a CA with 'jitrctl ca init'", certs.Name(own))
	}
	key, err := readKey(c.keyFile, c.ask)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w; signing needs the CA's private key there", err)
	}
	if err != nil {
		return nil, err
	}
	if !certs.SameKey(key.Public(), own.PublicKey) {
		return nil, fmt.Errorf("%s: %w; put the key there that the CA was made with", c.keyFile, ErrKeyMismatch)
	}
	return key, nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
