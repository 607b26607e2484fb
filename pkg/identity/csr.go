package identity

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/jitr-agent/jitr-agent/internal/atomicfile"
	"github.com/jitr-agent/jitr-agent/internal/certs"
)

// CSR is a certificate request for this gateway's key.
type CSR struct {
	PEM           []byte
	Subject       string // as in "CN=gw-1,O=Acme"
	SubjectSource string // where it comes from, in words: "--subject", "cloud.thing_name", …
	Provider      string
	KeyCreated    bool
	Warnings      []string // whole sentences
}

// MakeCSR makes a PKCS #10 request that the device key signs. It makes the key
// if there is none, and never replaces one. The subject is as ParseSubject
// takes it; "" means CN = cloud.thing_name, else DefaultName. Two at a time
// make one key. Errors of the key wrap the sentinels of this package.
//
// Where a new key would be gone after a restart it makes none, unless
// Options.AllowVolatile says that this is known.
func MakeCSR(ctx context.Context, opts Options, subject string) (CSR, error) {
	name, source, err := csrSubject(opts, subject)
	if err != nil {
		return CSR{}, err
	}
	volatile := Volatile(opts)
	if path := opts.path(KeyFile); volatile != nil && !opts.AllowVolatile && !exists(path) {
		return CSR{}, fmt.Errorf("%s: a key made there would be lost: %s; mount a file system that lasts, or say --force", path, volatile.Why)
	}
	unlock, err := lock(ctx, opts)
	if err != nil {
		return CSR{}, err
	}
	defer unlock()

	csr := CSR{Subject: name.String(), SubjectSource: source}
	var key *deviceKey
	if path := opts.path(KeyFile); exists(path) {
		key, err = readKey(path)
	} else {
		csr.KeyCreated = true
		key, csr.Warnings, err = makeKey(ctx, opts)
	}
	if err != nil {
		return CSR{}, err
	}
	csr.Provider = key.provider()
	if volatile != nil {
		csr.Warnings = append(csr.Warnings, volatile.String())
	}
	for _, w := range key.warnings(opts) {
		if w.ID != WarnFileKey { // makeKey has said it, once
			csr.Warnings = append(csr.Warnings, w.String())
		}
	}
	csr.Warnings = append(csr.Warnings, differs(opts, key)...)
	if cn := name.CommonName; opts.ThingName == "" && !certs.ValidThingName(cn) {
		csr.Warnings = append(csr.Warnings, fmt.Sprintf("the common name %q cannot be a thing's name ([a-zA-Z0-9:_-]{1,128}); set cloud.thing_name, or give another --subject", cn))
	}

	opened, err := key.open(ctx, opts)
	if err != nil {
		return CSR{}, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: name}, opened.signer)
	if err := errors.Join(err, opened.close()); err != nil {
		return CSR{}, fmt.Errorf("sign the request with %s: %w", key.path, err)
	}
	csr.PEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	return csr, nil
}

// csrSubject decides on the subject, and says where it comes from.
func csrSubject(opts Options, subject string) (pkix.Name, string, error) {
	switch {
	case subject != "":
		name, err := ParseSubject(subject)
		return name, "--subject", err
	case opts.ThingName != "":
		return pkix.Name{CommonName: opts.ThingName}, "cloud.thing_name", nil
	}
	cn, source, err := DefaultName(opts.Root)
	return pkix.Name{CommonName: cn}, source, err
}

// makeKey makes the device key and installs it. It reads it back, so that what
// follows rests on what is on the disk.
func makeKey(ctx context.Context, opts Options) (key *deviceKey, warnings []string, err error) {
	provider, warning, err := chooseProvider(opts)
	if err != nil {
		return nil, nil, err
	}
	if warning != "" {
		warnings = append(warnings, warning)
	}
	path := opts.path(KeyFile)
	data, err := createKey(ctx, opts, provider)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: cannot be made: %w", path, err)
	}
	if err := atomicfile.Write(path, data, 0o600); err != nil {
		return nil, nil, fmt.Errorf("%s: cannot be written: %w; look at the file system", path, reason(err))
	}
	key, err = readKey(path)
	return key, warnings, err
}

// differs warns where the existing key is not what the configuration would
// make now: an existing key stays.
func differs(opts Options, key *deviceKey) (warnings []string) {
	if opts.Key != "auto" && opts.Key != "" && opts.Key != key.provider() {
		warnings = append(warnings, fmt.Sprintf("%s is a %s key and stays, though [identity] key is %q; set it aside to make a new one", key.path, key.provider(), opts.Key))
	}
	if key.sealed != nil && !slices.Equal(key.sealed.PCRs(), slices.Sorted(slices.Values(opts.PCRs))) {
		warnings = append(warnings, fmt.Sprintf("%s is bound to PCRs %v and stays so, though [identity] pcrs is %v; set it aside to make a new one", key.path, key.sealed.PCRs(), opts.PCRs))
	}
	if alg := certs.Algorithm(key.public()); opts.Algorithm != "" && opts.Algorithm != alg {
		warnings = append(warnings, fmt.Sprintf("%s is %s and stays, though [identity] algorithm is %q; set it aside to make a new one", key.path, alg, opts.Algorithm))
	}
	return warnings
}

// exists says whether anything stands at path. What cannot be looked at is
// taken to be there, because a key is never replaced.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
