package ca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/atomicfile"
	"github.com/jitr-agent/jitr-agent/internal/ca/inventory"
	"github.com/jitr-agent/jitr-agent/internal/certs"
	"github.com/jitr-agent/jitr-agent/internal/filelock"
)

// DefaultDays is how long a new CA lives: ten years, the time a gateway stays
// in the field. AWS IoT registers no device under an expired CA, and a new CA
// means new certificates on gateways that nobody can reach.
const DefaultDays = 3650

// InitOptions says what CA to make.
type InitOptions struct {
	CommonName string    // as it shall appear in AWS IoT and in every device certificate's issuer
	Algorithm  string    // one of Algorithms
	Days       int       // validity, such as DefaultDays; it ends with the parent's at the latest
	Passphrase []byte    // encrypts the key; empty: the key is in the clear
	Parent     *CA       // signs the new CA's certificate; nil: it signs itself, as a root
	Now        time.Time // the time of signing
}

// Init makes a CA in dir, which it creates where there is none. It overwrites
// nothing: where there is a CA already, or half of one, the error wraps
// ErrExists and names the file.
//
// An intermediate CA goes into its parent's inventory, so that the parent can
// revoke it.
func Init(ctx context.Context, dir string, o InitOptions) (*CA, error) {
	if o.CommonName == "" {
		return nil, errors.New("a CA needs a name; give one with --cn")
	}
	if !slices.Contains(Algorithms(), o.Algorithm) {
		return nil, fmt.Errorf("%w: --key %q; use one of %s", ErrBadAlgorithm, o.Algorithm, strings.Join(Algorithms(), ", "))
	}
	end, err := endOf(o.Now, o.Days)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, withRoom(err)
	}
	held, err := filelock.Wait(ctx, filepath.Join(dir, "lock"))
	if err != nil {
		return nil, err
	}
	defer held.Unlock()
	if file := exists(dir); file != "" {
		return nil, fmt.Errorf("%s: %w, and a CA is never overwritten: the devices under it would be lost; choose another --dir", file, ErrExists)
	}

	key, err := newKey(o.Algorithm)
	if err != nil {
		return nil, err
	}
	chain, err := rootOrBelow(ctx, o, key, end)
	if err != nil {
		return nil, err
	}
	if err := write(dir, key, o.Passphrase, chain); err != nil {
		return nil, withRoom(err)
	}
	return &CA{dir: dir, keyFile: filepath.Join(dir, layouts[0][1]), chain: chain, ask: func(string) ([]byte, error) { return o.Passphrase, nil }}, nil
}

// rootOrBelow makes the CA's certificate, and puts its issuers behind it.
func rootOrBelow(ctx context.Context, o InitOptions, key crypto.Signer, end time.Time) ([]*x509.Certificate, error) {
	if o.Parent != nil {
		return o.Parent.below(ctx, o, key, end)
	}
	ski, err := keyID(key.Public())
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:   serial(),
		NotBefore:      o.Now.Add(-backdate),
		NotAfter:       end,
		SubjectKeyId:   ski,
		AuthorityKeyId: ski,
	}
	asCA(template, o.CommonName)
	own, err := create(template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return []*x509.Certificate{own}, nil
}

func asCA(template *x509.Certificate, name string) {
	template.Subject = pkix.Name{CommonName: name}
	template.BasicConstraintsValid, template.IsCA = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
}

// below signs the certificate of a CA under this one.
func (c *CA) below(ctx context.Context, o InitOptions, key crypto.Signer, end time.Time) ([]*x509.Certificate, error) {
	own := c.Certificate()
	if own.MaxPathLen == 0 && own.MaxPathLenZero {
		return nil, fmt.Errorf("the CA %q: %w (pathLenConstraint 0); take another one as --parent", certs.Name(own), ErrNoCABelow)
	}
	if bytes.Equal(own.RawSubject, encodedName(o.CommonName)) {
		return nil, fmt.Errorf("the CA %q has that name itself, and openssl takes a certificate whose issuer has its own name for a root; choose another --cn", certs.Name(own))
	}
	signer, err := c.signer(o.Now)
	if err != nil {
		return nil, err
	}
	template, err := c.leafTemplate(key.Public(), o.Now, end)
	if err != nil {
		return nil, err
	}
	asCA(template, o.CommonName)
	if own.MaxPathLen > 0 { // -1 where there is no limit
		template.MaxPathLen = own.MaxPathLen - 1
		template.MaxPathLenZero = template.MaxPathLen == 0
	}
	cert, err := create(template, own, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	st, err := c.open(ctx, o.Now)
	if err != nil {
		return nil, err
	}
	defer st.Close()
	err = st.Update(func(tx *inventory.Tx) error {
		_, err := tx.Add(cert, inventory.Signed, o.Now)
		return err
	})
	if err != nil {
		return nil, withRoom(err)
	}
	return certs.Append([]*x509.Certificate{cert}, c.chain), nil
}

// encodedName is the subject that a CA of that name gets.
func encodedName(cn string) []byte {
	der, err := asn1.Marshal(pkix.Name{CommonName: cn}.ToRDNSequence())
	if err != nil {
		return nil // what cannot be encoded equals nothing, and create says so
	}
	return der
}

// write stores a new CA. Half a CA is worse than none, because the next Init
// refuses it: where the certificate cannot be written, the key goes too.
func write(dir string, key crypto.Signer, passphrase []byte, chain []*x509.Certificate) error {
	data, err := encodeKey(key, passphrase)
	if err != nil {
		return err
	}
	certFile, keyFile := filepath.Join(dir, layouts[0][0]), filepath.Join(dir, layouts[0][1])
	if err := atomicfile.Write(keyFile, data, 0o600); err != nil {
		return err
	}
	if err := atomicfile.Write(certFile, certs.EncodeChain(chain), 0o644); err != nil {
		return errors.Join(err, atomicfile.Remove(keyFile))
	}
	return nil
}

// exists names the first file in dir that a new CA would overwrite, or "".
func exists(dir string) string {
	for _, name := range slices.Concat(layouts[0][:], layouts[1][:], layouts[2][:]) {
		file := filepath.Join(dir, name)
		if _, err := os.Lstat(file); err == nil {
			return file
		}
	}
	return ""
}
