package identity

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/atomicfile"
	"github.com/jitr-agent/jitr-agent/internal/certs"
	"github.com/jitr-agent/jitr-agent/pkg/tpm"
)

// ImportFiles are the files that a person gives. Cert is needed; Chain and Key
// may be empty.
type ImportFiles struct {
	Cert  string // the device certificate, perhaps with its chain
	Chain string // its CA, and what is above it
	Key   string // the key, where it was not made by MakeCSR

	// IntoTPM moves the key into the TPM: resident, or sealed where that is
	// what Options.Key says. It moves one that is installed as a file already,
	// too. The file Key itself stays.
	IntoTPM bool
}

// Where Import puts a certificate.
const (
	InstalledDevice = "device" // device.crt: it is the identity
	InstalledNext   = "next"   // next.crt: the service proves it first
)

// ImportResult says what Import has done.
type ImportResult struct {
	CertificateID   string
	CACertificateID string
	ThingName       string
	Changed         bool   // false: all of it was installed already
	InstalledAs     string // InstalledDevice or InstalledNext
	Warnings        []string
}

// Import checks a certificate and installs it. Nothing is written before all
// checks have passed. accepted says that the installed certificate has been
// accepted by the cloud: another one is then put beside it, to be proved first.
//
// now is this gateway's clock and minTime a time that has certainly come; a
// clock that is behind it is known to be wrong. An expired certificate is an
// error, one that is not valid yet a warning, because a gateway without a
// battery starts in the past.
//
// Errors wrap ErrKeyMismatch, ErrNoKey, ErrKeyCorrupt, ErrNoThingName or those
// of internal/certs. The TPM is not needed, but for IntoTPM, whose errors wrap
// the sentinels of the TPM too.
func Import(ctx context.Context, opts Options, files ImportFiles, accepted bool, now, minTime time.Time) (ImportResult, error) {
	in, err := readImport(files)
	if err != nil {
		return ImportResult{}, err
	}
	warnings, err := in.check(now, minTime)
	if err != nil {
		return ImportResult{}, err
	}
	name, err := thingName(opts, in.chain[0])
	if err != nil {
		return ImportResult{}, fmt.Errorf("%s: %w", files.Cert, err)
	}
	unlock, err := lock(ctx, opts)
	if err != nil {
		return ImportResult{}, err
	}
	defer unlock()

	steps, as, err := in.plan(ctx, opts, accepted)
	if err != nil {
		return ImportResult{}, err
	}
	for _, step := range steps {
		if err := step.run(opts); err != nil {
			return ImportResult{}, fmt.Errorf("%s: cannot be written: %w; make room, or look at the file system, and run the same import again",
				opts.path(step.file), reason(err))
		}
	}
	warnings = append(warnings, in.leftBehind(opts)...)
	if volatile := Volatile(opts); volatile != nil {
		warnings = append(warnings, volatile.String())
	}
	return ImportResult{
		CertificateID:   certs.ID(in.chain[0]),
		CACertificateID: caID(in.chain),
		ThingName:       name,
		Changed:         len(steps) > 0,
		InstalledAs:     as,
		Warnings:        warnings,
	}, nil
}

// imported is what the files hold.
type imported struct {
	files ImportFiles
	chain []*x509.Certificate
	key   *deviceKey // nil without --key
}

func readImport(files ImportFiles) (*imported, error) {
	in := &imported{files: files}
	if files.IntoTPM && files.Key == "" {
		return nil, errors.New("no key is named that could move into the TPM; name it with --key")
	}
	for _, f := range []struct{ path, flag string }{{files.Cert, "--cert"}, {files.Chain, "--chain"}} {
		if f.path == "" && f.flag == "--chain" {
			continue
		}
		data, err := os.ReadFile(f.path)
		if err != nil {
			return nil, fmt.Errorf("%s: cannot be read: %w; give another file with %s", f.path, reason(err), f.flag)
		}
		more, err := certs.ParseChain(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w; give a PEM file with %s", f.path, err, f.flag)
		}
		in.chain = certs.Append(in.chain, more)
	}
	if files.Key == "" {
		return in, nil
	}
	data, err := os.ReadFile(files.Key)
	if err != nil {
		return nil, fmt.Errorf("%s: cannot be read: %w; give another file with --key", files.Key, reason(err))
	}
	if in.key, err = parseKey(files.Key, data); err != nil {
		return nil, fmt.Errorf("%s: %w; %s", files.Key, err, keyRemedy(err))
	}
	return in, nil
}

// keyData is the content of the key file to install.
func (in *imported) keyData(ctx context.Context, opts Options) ([]byte, error) {
	switch {
	case in.key.file == nil:
		return in.key.data, nil // it is in the TPM already
	case !in.files.IntoTPM:
		return encodeFileKey(in.key.file, opts.Root)
	}
	provider := ProviderTPM
	if opts.Key == ProviderSealed {
		provider = ProviderSealed
	}
	data, err := keepKey(ctx, opts, provider, in.key.file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", in.files.Key, err)
	}
	return data, nil
}

// leftBehind warns of the copies of a key that was moved into the TPM.
func (in *imported) leftBehind(opts Options) []string {
	if !in.files.IntoTPM || in.key.file == nil {
		return nil
	}
	data, err := os.ReadFile(in.files.Key)
	if err != nil || tpm.IsKey(data) || tpm.IsSealed(data) {
		return []string{"the key is in the TPM now, but it was in " + opts.path(KeyFile) + " in clear: an SD card may keep what was overwritten, and a backup may have a copy; where that matters make a new key with jitr-agent csr"}
	}
	return []string{in.files.Key + " still holds the key in clear: destroy it, and every copy of it (shred -u " + in.files.Key + ")"}
}

func keyRemedy(err error) string {
	switch {
	case errors.Is(err, certs.ErrEncrypted):
		return "the agent starts with nobody there to type a passphrase: remove it with openssl pkey -in FILE -out FILE2"
	case errors.Is(err, certs.ErrWeakKey):
		return "make one on this gateway with jitr-agent csr"
	}
	return "give a PEM key file with --key"
}

// check judges what needs no look into the state directory.
func (in *imported) check(now, minTime time.Time) (warnings []string, err error) {
	if err := certs.CheckChain(in.chain); err != nil {
		return nil, fmt.Errorf("%s: %w; %s", in.files.Cert, err, in.chainRemedy(err))
	}
	clockOK := !now.Before(minTime)
	for i, c := range in.chain {
		if err := certs.CheckKey(c.PublicKey); err != nil {
			return nil, fmt.Errorf("%s: certificate %d, %q: %w; have one made with an ECDSA P-256 or RSA 2048 key", in.files.Cert, i+1, certs.Name(c), err)
		}
		err := certs.CheckValidity(c, latest(now, minTime))
		switch {
		case errors.Is(err, certs.ErrExpired):
			return nil, fmt.Errorf("%s: certificate %d, %q: %w; have a new one made", in.files.Cert, i+1, certs.Name(c), err)
		case err != nil && clockOK:
			warnings = append(warnings, fmt.Sprintf("certificate %d, %q: %v; check the clock", i+1, certs.Name(c), err))
		case err != nil:
			warnings = append(warnings, fmt.Sprintf("certificate %d, %q, begins at %s, and this gateway's clock is wrong; set the clock",
				i+1, certs.Name(c), c.NotBefore.UTC().Format(time.RFC3339)))
		}
	}
	if leaf := in.chain[0]; bytes.Equal(leaf.RawSubject, leaf.RawIssuer) {
		warnings = append(warnings, "the device certificate has the same subject as its CA: AWS IoT takes it, OpenSSL takes it for self-signed, so brokers built on OpenSSL (mosquitto) refuse it; have one made with a subject of its own")
	}
	if in.key != nil && !certs.SameKey(in.key.public(), in.chain[0].PublicKey) {
		return nil, fmt.Errorf("%s: %w: %s is another key; give the key that the certificate was made for", in.files.Cert, ErrKeyMismatch, in.files.Key)
	}
	return warnings, nil
}

func (in *imported) chainRemedy(err error) string {
	switch {
	case errors.Is(err, certs.ErrNoIssuer) && in.files.Chain == "":
		return "add it with --chain"
	case errors.Is(err, certs.ErrNoIssuer):
		return "give the CA that signed it with --chain"
	case errors.Is(err, certs.ErrNotCA):
		return "have the CA certificate made with CA:TRUE, and register that one"
	case errors.Is(err, certs.ErrNoCertificate):
		return "give the device certificate with --cert, and the CA with --chain"
	}
	return "put the device certificate first, then the CA that signed it, then that CA's issuer"
}

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// step is one change in the state directory.
type step struct {
	file string
	data []byte // nil: remove
	mode os.FileMode
}

func (s step) run(opts Options) error {
	if s.data == nil {
		return atomicfile.Remove(opts.path(s.file))
	}
	return atomicfile.Write(opts.path(s.file), s.data, s.mode)
}

func (in *imported) certStep(file string) step {
	return step{file, certs.EncodeChain(in.chain), 0o644}
}

// plan decides what to write, and where. No steps means that all is installed.
// The steps are in an order in which every prefix of them leaves a state that
// the same Import finishes: a key before its certificate.
func (in *imported) plan(ctx context.Context, opts Options, accepted bool) (steps []step, as string, err error) {
	installed := installedChain(opts, CertFile)
	sameLeaf := len(installed) > 0 && installed[0].Equal(in.chain[0])
	if accepted && len(installed) > 0 && !sameLeaf {
		steps, err = in.planNext(ctx, opts)
		return steps, InstalledNext, err
	}
	steps, err = in.planDevice(ctx, opts, installed)
	return steps, InstalledDevice, err
}

// planDevice installs the identity itself.
func (in *imported) planDevice(ctx context.Context, opts Options, installed []*x509.Certificate) (steps []step, err error) {
	path := opts.path(KeyFile)
	install := true
	switch {
	case exists(path):
		key, err := readKey(path)
		if err != nil {
			return nil, err
		}
		if !certs.SameKey(key.public(), in.chain[0].PublicKey) {
			return nil, in.mismatch(path)
		}
		install = in.files.IntoTPM && key.file != nil // the same key moves
	case in.key == nil:
		return nil, in.noKey(path)
	}
	if install {
		data, err := in.keyData(ctx, opts)
		if err != nil {
			return nil, err
		}
		steps = append(steps, step{KeyFile, data, 0o600})
	}
	if !equal(installed, in.chain) {
		steps = append(steps, in.certStep(CertFile))
	}
	return steps, nil
}

func (in *imported) noKey(path string) error {
	return fmt.Errorf("%s: %w to go with %s; have the output of jitr-agent csr signed, or give the key with --key", path, ErrNoKey, in.files.Cert)
}

// mismatch is the error for a certificate of another key than the installed
// one.
func (in *imported) mismatch(path string) error {
	if in.key != nil {
		return fmt.Errorf("%s: %w: %s holds another key, which is never overwritten; set it aside if it is not needed, then import again",
			in.files.Cert, ErrKeyMismatch, path)
	}
	return fmt.Errorf("%s: %w: %s holds another key; have the output of jitr-agent csr signed, and import what comes back",
		in.files.Cert, ErrKeyMismatch, path)
}

// planNext puts a candidate beside the accepted identity. A candidate with a
// key of its own comes with next.key; one for device.key without.
func (in *imported) planNext(ctx context.Context, opts Options) (steps []step, err error) {
	forDevice, err := in.isFor(opts.path(KeyFile))
	if err != nil {
		return nil, err
	}
	forNext, err := in.isFor(opts.path(NextKeyFile))
	if err != nil && in.key == nil && !forDevice {
		return nil, err
	}
	sameCert := equal(installedChain(opts, NextCertFile), in.chain)
	clear := func() { // a candidate of another key is no longer whole
		if exists(opts.path(NextCertFile)) {
			steps = append(steps, step{file: NextCertFile})
		}
		sameCert = false
	}
	switch {
	case forDevice:
		if exists(opts.path(NextKeyFile)) {
			clear()
			steps = append(steps, step{file: NextKeyFile})
		}
	case forNext:
	case in.key != nil:
		data, err := in.keyData(ctx, opts)
		if err != nil {
			return nil, err
		}
		clear()
		steps = append(steps, step{NextKeyFile, data, 0o600})
	case !exists(opts.path(KeyFile)):
		return nil, in.noKey(opts.path(KeyFile))
	default:
		return nil, in.mismatch(opts.path(KeyFile))
	}
	if !sameCert {
		steps = append(steps, in.certStep(NextCertFile))
	}
	return steps, nil
}

// isFor says whether the certificate is for the key file at path. No file is
// no error.
func (in *imported) isFor(path string) (bool, error) {
	if !exists(path) {
		return false, nil
	}
	key, err := readKey(path)
	if err != nil {
		return false, err
	}
	return certs.SameKey(key.public(), in.chain[0].PublicKey), nil
}

// installedChain is the chain in a file of the state directory; nil where it
// is missing or unreadable, because Import replaces it then.
func installedChain(opts Options, file string) []*x509.Certificate {
	chain, err := readChain(opts.path(file))
	if err != nil {
		return nil
	}
	return chain
}

func equal(a, b []*x509.Certificate) bool {
	return slices.EqualFunc(a, b, (*x509.Certificate).Equal)
}
