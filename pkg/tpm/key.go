package tpm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// Key is a device key as it stands in its file: wrapped by its parent, of use
// in one TPM only. It is immutable.
type Key struct {
	parent     tpm2.TPMHandle
	parentName []byte // nil where the file does not tell: another program made it
	public     tpm2.TPM2BPublic
	private    tpm2.TPM2BPrivate

	pub          crypto.PublicKey
	noDA         bool
	saysPassword bool // the file says so, which need not be true; see parseKey
}

// Public returns the public key, *ecdsa.PublicKey or *rsa.PublicKey. It needs
// no TPM.
func (k *Key) Public() crypto.PublicKey { return k.pub }

// NoDA says that the key is exempt from dictionary-attack protection. One that
// is not (another program made it) may lock itself after some power cuts.
func (k *Key) NoDA() bool { return k.noDA }

// newKey judges the public area: only what a Signer can use is a Key.
func newKey(handle tpm2.TPMHandle, name []byte, public tpm2.TPM2BPublic, private tpm2.TPM2BPrivate) (*Key, error) {
	area, err := public.Contents()
	if err != nil {
		return nil, fmt.Errorf("its public area: %w", err)
	}
	a := area.ObjectAttributes
	switch {
	case !a.SignEncrypt:
		return nil, errors.New("it is not a key that signs")
	case a.Restricted:
		return nil, errors.New("it is restricted to what the TPM itself makes, and cannot sign for TLS")
	case !a.UserWithAuth:
		return nil, errors.New("it is bound to a policy, which this version does not support")
	}
	pub, err := tpm2.Pub(*area)
	if err != nil {
		return nil, fmt.Errorf("its public area: %w", err)
	}
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		if pub.Curve != elliptic.P256() {
			return nil, fmt.Errorf("it is on curve %s, where only P-256 is supported", pub.Curve.Params().Name)
		}
		if _, err := pub.ECDH(); err != nil {
			return nil, fmt.Errorf("its public area: %w", err)
		}
	case *rsa.PublicKey:
		if pub.N.BitLen() < 2048 || pub.E < 3 {
			return nil, fmt.Errorf("it is RSA with %d bits, where at least 2048 are needed", pub.N.BitLen())
		}
	}
	return &Key{parent: handle, parentName: name, public: public, private: private, pub: pub, noDA: a.NoDA}, nil
}

// CreateKey makes a new key in the TPM. Nothing stays loaded, nothing is
// stored in the TPM: what is not written to a file is gone.
func (t *TPM) CreateKey(ctx context.Context, alg Algorithm) (*Key, error) {
	template, err := alg.template()
	if err != nil {
		return nil, err
	}
	var key *Key
	err = t.do(ctx, "create a device key", func(c channel) error {
		p, err := choose(c)
		if err != nil {
			return err
		}
		defer p.close(c)
		slow := c
		if alg == RSA2048 {
			slow.limit = max(c.limit, rsaLimit)
		}
		rsp, err := tpm2.Create{ParentHandle: p.key, InPublic: tpm2.New2B(template)}.Execute(slow)
		if err != nil {
			return err
		}
		key, err = newKey(p.inFile, p.key.Name.Buffer, rsp.OutPublic, rsp.OutPrivate)
		return err
	})
	if err != nil {
		return nil, err
	}
	return key, nil
}

// Load loads the key and returns its signer, which the caller closes. Errors
// wrap the sentinels of this package: a TPM that was cleared or replaced is
// ErrChanged, a key file that this TPM once made and no longer takes is
// ErrCorrupt.
func (t *TPM) Load(ctx context.Context, key *Key) (*Signer, error) {
	s := &Signer{tpm: t, key: key}
	if err := t.do(ctx, "load the device key", s.load); err != nil {
		return nil, err
	}
	return s, nil
}

// load loads the key under its parent and returns its handle.
func load(c channel, key *Key) (tpm2.NamedHandle, error) {
	p, err := open(c, key.parent)
	if err != nil {
		return tpm2.NamedHandle{}, err
	}
	defer p.close(c)
	return p.load(c, key.private, key.public, key.parentName)
}

// load loads an object under its parent; parentName is what its file says.
func (p *parent) load(c channel, private tpm2.TPM2BPrivate, public tpm2.TPM2BPublic, parentName []byte) (tpm2.NamedHandle, error) {
	rsp, err := tpm2.Load{ParentHandle: p.key, InPrivate: private, InPublic: public}.Execute(c)
	if err == nil {
		return tpm2.NamedHandle{Handle: rsp.ObjectHandle, Name: rsp.Name}, nil
	}
	if refused(err) {
		err = p.blame(parentName, err)
	}
	return tpm2.NamedHandle{}, err
}

// refused says whether the TPM does not accept the key file's content, rather
// than being unable to work. A key of another TPM and a damaged one both give
// TPM_RC_INTEGRITY as a rule; the others come from damaged lengths and fields.
func refused(err error) bool {
	for _, rc := range []tpm2.TPMRC{
		tpm2.TPMRCIntegrity, tpm2.TPMRCBinding, tpm2.TPMRCSize, tpm2.TPMRCValue, tpm2.TPMRCAttributes,
		tpm2.TPMRCHash, tpm2.TPMRCKey, tpm2.TPMRCType, tpm2.TPMRCScheme, tpm2.TPMRCSymmetric,
		tpm2.TPMRCInsufficient, tpm2.TPMRCSensitive, tpm2.TPMRCECCPoint, tpm2.TPMRCKeySize, tpm2.TPMRCReservedBits,
	} {
		if errors.Is(err, rc) {
			return true
		}
	}
	return false
}

const (
	remedyChanged = "put the TPM back, or set device.key and device.crt aside and enrol this gateway anew with jitr-agent csr"
	remedyCorrupt = "restore device.key from a backup, or set device.key and device.crt aside and enrol this gateway anew with jitr-agent csr"
)

// blame says whether the TPM or the file is to blame for a key that does not
// load: the parent's name is a hash of its public key, so under the parent
// that made the key only the file can be wrong.
func (p *parent) blame(parentName []byte, err error) error {
	switch {
	case parentName == nil:
		return fmt.Errorf("%w, or its file is damaged: %w; %s", ErrChanged, err, remedyChanged)
	case bytes.Equal(parentName, p.key.Name.Buffer):
		return fmt.Errorf("%w, it is damaged: %w; %s", ErrCorrupt, err, remedyCorrupt)
	default:
		return fmt.Errorf("%w: %w; %s", ErrChanged, err, remedyChanged)
	}
}
