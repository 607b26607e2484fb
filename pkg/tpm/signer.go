package tpm

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"syscall"

	"github.com/google/go-tpm/tpm2"
)

// Signer signs with a key that is loaded in the TPM: ECDSA P-256 with SHA-256,
// or RSA PKCS #1 v1.5 with SHA-256. It implements crypto.Signer and is safe
// for concurrent use.
type Signer struct {
	tpm *TPM
	key *Key

	handle tpm2.NamedHandle // guarded by the TPM's turn; zero: not loaded
	closed bool
}

// Public returns the public key.
func (s *Signer) Public() crypto.PublicKey { return s.key.pub }

// Key returns the key as it stands in its file.
func (s *Signer) Key() *Key { return s.key }

var errClosed = errors.New("the key was closed")

// Sign signs a SHA-256 digest with one TPM command. Other hashes and
// *rsa.PSSOptions are refused: TPMs differ in the length of a PSS salt, so a
// peer may refuse what comes out. The random source is the TPM's own.
//
// A key that is no longer loaded (the TPM was reset, the software TPM
// restarted) is loaded again once. Each signature is verified before it is
// returned, because a handle that survived a reset may name another key.
func (s *Signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if _, pss := opts.(*rsa.PSSOptions); pss {
		return nil, errors.New("sign with the TPM: RSA-PSS is not supported; use PKCS #1 v1.5 with TLS 1.2, or an ECDSA key")
	}
	if opts == nil || opts.HashFunc() != crypto.SHA256 {
		return nil, errors.New("sign with the TPM: only SHA-256 digests can be signed")
	}
	if len(digest) != crypto.SHA256.Size() {
		return nil, fmt.Errorf("sign with the TPM: a SHA-256 digest has %d bytes, not %d", crypto.SHA256.Size(), len(digest))
	}
	var sig []byte
	err := s.tpm.do(context.Background(), "sign", func(c channel) (err error) {
		if s.closed {
			return errClosed
		}
		sig, err = s.sign(c, digest)
		if !stale(err) {
			return err
		}
		s.handle = tpm2.NamedHandle{} // whatever it names now is not ours to flush
		if err := s.load(c); err != nil {
			return err
		}
		sig, err = s.sign(c, digest)
		return err
	})
	if err != nil {
		return nil, err
	}
	return sig, nil
}

// errForeign: the signature is not by our key.
var errForeign = errors.New("the TPM's signature does not verify")

// stale says whether the handle does not name our key any more. EINVAL is how
// the kernel's resource manager answers to a handle that it does not know.
func stale(err error) bool {
	return errors.Is(err, tpm2.TPMRCReferenceH0) || errors.Is(err, tpm2.TPMRCHandle) ||
		errors.Is(err, syscall.EINVAL) || errors.Is(err, errForeign)
}

func (s *Signer) load(c channel) (err error) {
	s.handle, err = load(c, s.key)
	return err
}

func (s *Signer) sign(c channel, digest []byte) ([]byte, error) {
	if s.handle.Handle == 0 { // an earlier reload failed
		return nil, tpm2.TPMRCReferenceH0
	}
	scheme := tpm2.TPMAlgECDSA
	if _, isRSA := s.key.pub.(*rsa.PublicKey); isRSA {
		scheme = tpm2.TPMAlgRSASSA
	}
	rsp, err := tpm2.Sign{
		KeyHandle: s.handle,
		Digest:    tpm2.TPM2BDigest{Buffer: digest},
		InScheme: tpm2.TPMTSigScheme{
			Scheme:  scheme,
			Details: tpm2.NewTPMUSigScheme(scheme, &tpm2.TPMSSchemeHash{HashAlg: tpm2.TPMAlgSHA256}),
		},
		Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull},
	}.Execute(c)
	if wrongAuth(err) && s.key.saysPassword {
		return nil, fmt.Errorf("%w: the key has a password, which is not supported: %w; make the key without one", ErrCorrupt, err)
	}
	if wrongAuth(err) {
		return nil, fmt.Errorf("%w: the loaded key wants a password", errForeign)
	}
	if err != nil {
		return nil, err
	}
	return encode(s.key.pub, digest, &rsp.Signature)
}

// encode brings a TPM's signature into the form of crypto.Signer, and verifies
// it.
func encode(pub crypto.PublicKey, digest []byte, sig *tpm2.TPMTSignature) ([]byte, error) {
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		ecc, err := sig.Signature.ECDSA()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errForeign, err)
		}
		der, err := asn1.Marshal(struct{ R, S *big.Int }{
			new(big.Int).SetBytes(ecc.SignatureR.Buffer), new(big.Int).SetBytes(ecc.SignatureS.Buffer),
		})
		if err != nil {
			return nil, err
		}
		if !ecdsa.VerifyASN1(pub, digest, der) {
			return nil, errForeign
		}
		return der, nil
	case *rsa.PublicKey:
		ssa, err := sig.Signature.RSASSA()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errForeign, err)
		}
		if rsa.VerifyPKCS1v15(pub, crypto.SHA256, digest, ssa.Sig.Buffer) != nil {
			return nil, errForeign
		}
		return ssa.Sig.Buffer, nil
	}
	return nil, fmt.Errorf("a %T cannot sign", pub)
}

// Close unloads the key. The TPM itself stays open. A second Close does
// nothing.
func (s *Signer) Close() error {
	return s.tpm.do(context.Background(), "unload the device key", func(c channel) error {
		loaded := !s.closed && s.handle.Handle != 0
		s.closed = true
		if !loaded {
			return nil
		}
		_, err := tpm2.FlushContext{FlushHandle: s.handle.Handle}.Execute(c)
		if errors.Is(err, tpm2.TPMRCHandle) || errors.Is(err, tpm2.TPMRCReferenceH0) {
			return nil // gone already: the TPM was reset
		}
		return err
	})
}
