package ca

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/atomicfile"
	"github.com/jitr-agent/jitr-agent/internal/certs"
	"github.com/jitr-agent/jitr-agent/internal/filelock"
)

// DefaultDeviceDays is how long a device certificate lives: five years. AWS
// IoT takes a certificate out of service by its status, not by its end; the
// end is what silences a gateway that nobody can reach. Five years leave room
// for a renewal and fit into the CA's ten.
const DefaultDeviceDays = 1825

// SignOptions says how to sign a request.
type SignOptions struct {
	Name  string    // replaces the request's common name; empty: keep it
	Days  int       // validity, such as DefaultDeviceDays; it ends with the CA's at the latest
	Renew bool      // make a new certificate though there is one for this request
	Now   time.Time // the time of signing
}

// Issued is a signed certificate.
type Issued struct {
	Chain  []*x509.Certificate // the device certificate, then the CA's chain
	Again  bool                // it was made before, and this is that one
	Capped bool                // it ends earlier than asked for, with the CA
}

// Sign makes a device certificate for the request, which ParseRequest has
// checked. The same request, that is the same key under the same subject,
// gives the same certificate again, byte for byte: a command that was cut off
// can be repeated, and the certificateId stays the one that AWS knows. Where
// that certificate has expired, or another CA was in the directory then, the
// error wraps ErrIssuedBefore.
//
// Of the request only key and subject are used. What it asks for by
// extensions (other names, CA:TRUE) is not granted.
func (c *CA) Sign(ctx context.Context, csr *x509.CertificateRequest, o SignOptions) (*Issued, error) {
	end, err := endOf(o.Now, o.Days)
	if err != nil {
		return nil, err
	}
	subject, err := subjectOf(csr, o.Name)
	if err != nil {
		return nil, err
	}
	key, err := c.signer(o.Now)
	if err != nil {
		return nil, err
	}

	held, err := filelock.Wait(ctx, filepath.Join(c.dir, "lock"))
	if err != nil {
		return nil, err
	}
	defer held.Unlock()
	file := c.issuedFile(csr, subject)
	before, err := readIssued(file)
	if err != nil {
		return nil, err
	}
	if len(before) > 0 && !o.Renew {
		if err := c.checkIssued(before[0], o.Now); err != nil {
			return nil, err
		}
		return &Issued{Chain: certs.Append(before[:1:1], c.chain), Again: true}, nil
	}

	template, err := c.leafTemplate(csr.PublicKey, o.Now, end)
	if err != nil {
		return nil, err
	}
	template.RawSubject = subject
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	leaf, err := create(template, c.Certificate(), csr.PublicKey, key)
	if err != nil {
		return nil, err
	}
	chain := certs.Append([]*x509.Certificate{leaf}, c.chain)
	if err := certs.CheckChain(chain); err != nil {
		return nil, err // ca.crt holds a chain that does not hold together
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
	all := append([]*x509.Certificate{leaf}, before...)
	if err := atomicfile.Write(file, certs.EncodeChain(all), 0o644); err != nil {
		return nil, err
	}
	return &Issued{Chain: chain, Capped: leaf.NotAfter.Before(end.Truncate(time.Second))}, nil
}

// issuedFile is where the certificates for a request are kept. Its name is
// made of the key and the subject, not of the request as a whole: a gateway
// that is asked twice makes two requests that differ in their signature only.
func (c *CA) issuedFile(csr *x509.CertificateRequest, subject []byte) string {
	h := sha256.New()
	h.Write(csr.RawSubjectPublicKeyInfo) // DER says its own length, so no two pairs run together alike
	h.Write(subject)
	return filepath.Join(c.dir, "issued", hex.EncodeToString(h.Sum(nil))+".crt")
}

// readIssued reads all certificates for a request, the newest first; none
// where there is no file.
func readIssued(file string) ([]*x509.Certificate, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all, err := certs.ParseChain(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; restore it, or move it away to have a new certificate made", file, err)
	}
	return all, nil
}

// checkIssued says why a certificate made earlier must not be handed out.
func (c *CA) checkIssued(leaf *x509.Certificate, now time.Time) error {
	if now.After(leaf.NotAfter) {
		return fmt.Errorf("%w: it expired at %s; make a new one with --renew", ErrIssuedBefore, stamp(leaf.NotAfter))
	}
	if err := certs.CheckChain(certs.Append([]*x509.Certificate{leaf}, c.chain)); err != nil {
		return fmt.Errorf("%w: another CA, %q, signed it; make a new one with --renew", ErrIssuedBefore, leaf.Issuer.String())
	}
	return nil
}
