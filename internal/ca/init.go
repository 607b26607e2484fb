package ca

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/atomicfile"
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
	Days       int       // validity, such as DefaultDays
	Now        time.Time // the time of signing
}

// Init makes a self-signed CA in dir, which it creates where there is none.
// It overwrites nothing: where there is a CA already, or half of one, the
// error wraps ErrExists and names the file.
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
		return nil, err
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
	ski, err := keyID(key.Public())
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: o.CommonName},
		NotBefore:             o.Now.Add(-backdate),
		NotAfter:              end,
		BasicConstraintsValid: true,
		IsCA:                  true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		SubjectKeyId:          ski,
		AuthorityKeyId:        ski,
	}
	own, err := create(template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	if err := write(dir, key, own); err != nil {
		return nil, err
	}
	return &CA{dir: dir, keyFile: filepath.Join(dir, layouts[0][1]), chain: []*x509.Certificate{own}}, nil
}

// write stores a new CA. Half a CA is worse than none, because the next Init
// refuses it: where the certificate cannot be written, the key goes too.
func write(dir string, key crypto.Signer, own *x509.Certificate) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	certFile, keyFile := filepath.Join(dir, layouts[0][0]), filepath.Join(dir, layouts[0][1])
	if err := atomicfile.Write(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		return err
	}
	if err := atomicfile.Write(certFile, certs.EncodeChain([]*x509.Certificate{own}), 0o644); err != nil {
		return errors.Join(err, atomicfile.Remove(keyFile))
	}
	return nil
}

// exists names the first file in dir that a new CA would overwrite, or "".
func exists(dir string) string {
	for _, name := range slices.Concat(layouts[0][:], layouts[1][:]) {
		file := filepath.Join(dir, name)
		if _, err := os.Lstat(file); err == nil {
			return file
		}
	}
	return ""
}

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
