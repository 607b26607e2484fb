package tpm

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// Adopt takes a software key into the TPM: from then on it works like one that
// the TPM made. It signs once with it before it returns, so that the software
// key can be given up. ECDSA P-256 and RSA 2048 can be taken in. Nothing is
// stored in the TPM, see CreateKey.
//
// The key is encrypted to the parent before it goes to the TPM. It does not
// get the attributes fixedTPM and fixedParent, which TPM2_Import refuses; that
// it cannot be duplicated out all the same follows from its empty policy.
func (t *TPM) Adopt(ctx context.Context, key crypto.Signer) (*Key, error) {
	public, sensitive, err := adoptable(key)
	if err != nil {
		return nil, fmt.Errorf("take a key into the TPM: %w", err)
	}
	var adopted *Key
	err = t.do(ctx, "take a key in", func(c channel) error {
		p, err := choose(c)
		if err != nil {
			return err
		}
		defer p.close(c)
		adopted, err = p.adopt(c, public, sensitive)
		return err
	})
	if err != nil {
		return nil, err
	}
	return adopted, nil
}

func (p *parent) adopt(c channel, public *tpm2.TPMTPublic, sensitive *tpm2.TPMTSensitive) (*Key, error) {
	name, err := tpm2.ObjectName(public)
	if err != nil {
		return nil, err
	}
	recipient, err := tpm2.ImportEncapsulationKey(&p.public)
	if err != nil {
		return nil, err
	}
	wrapped, seed, err := tpm2.CreateDuplicate(rand.Reader, recipient, name.Buffer, tpm2.Marshal(sensitive))
	if err != nil {
		return nil, err
	}
	rsp, err := tpm2.Import{
		ParentHandle: p.key,
		ObjectPublic: tpm2.New2B(*public),
		Duplicate:    tpm2.TPM2BPrivate{Buffer: wrapped},
		InSymSeed:    tpm2.TPM2BEncryptedSecret{Buffer: seed},
		Symmetric:    tpm2.TPMTSymDef{Algorithm: tpm2.TPMAlgNull},
	}.Execute(c)
	if err != nil {
		return nil, err
	}
	key, err := newKey(p.inFile, p.key.Name.Buffer, tpm2.New2B(*public), rsp.OutPrivate)
	if err != nil {
		return nil, err
	}
	s := &Signer{tpm: c.t, key: key}
	if s.handle, err = p.load(c, key.private, key.public, key.parentName); err != nil {
		return nil, err
	}
	digest := sha256.Sum256(name.Buffer)
	_, err = s.sign(c, digest[:])
	_, flushErr := tpm2.FlushContext{FlushHandle: s.handle.Handle}.Execute(c)
	return key, errors.Join(err, flushErr)
}

// adoptable brings a software key into the TPM's form.
func adoptable(key crypto.Signer) (*tpm2.TPMTPublic, *tpm2.TPMTSensitive, error) {
	const remedy = "make a key with jitr-agent csr, or set [identity] key to tpm-sealed, which takes any"
	var (
		alg       Algorithm
		unique    tpm2.TPMUPublicID
		sensitive tpm2.TPMTSensitive
	)
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		if key.Curve != elliptic.P256() {
			return nil, nil, fmt.Errorf("it is on curve %s, where only P-256 can be taken in; %s", key.Curve.Params().Name, remedy)
		}
		d, err := key.Bytes()
		if err != nil {
			return nil, nil, err
		}
		point, err := key.PublicKey.Bytes() // 0x04, X, Y
		if err != nil {
			return nil, nil, err
		}
		alg = ECDSAP256
		unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: point[1:33]}, Y: tpm2.TPM2BECCParameter{Buffer: point[33:]},
		})
		sensitive.SensitiveType = tpm2.TPMAlgECC
		sensitive.Sensitive = tpm2.NewTPMUSensitiveComposite(tpm2.TPMAlgECC, &tpm2.TPM2BECCParameter{Buffer: d})
	case *rsa.PrivateKey:
		// The template's exponent is 65537, and the TPM finds the second prime
		// by itself.
		if key.N.BitLen() != 2048 || key.E != 65537 || len(key.Primes) != 2 {
			return nil, nil, fmt.Errorf("it is RSA with %d bits, %d primes and exponent %d, where only 2048, 2 and 65537 can be taken in; %s",
				key.N.BitLen(), len(key.Primes), key.E, remedy)
		}
		alg = RSA2048
		unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: key.N.Bytes()})
		sensitive.SensitiveType = tpm2.TPMAlgRSA
		sensitive.Sensitive = tpm2.NewTPMUSensitiveComposite(tpm2.TPMAlgRSA, &tpm2.TPM2BPrivateKeyRSA{Buffer: key.Primes[0].Bytes()})
	default:
		return nil, nil, fmt.Errorf("it is a %T, where only ECDSA P-256 and RSA 2048 can be taken in; %s", key, remedy)
	}
	public, err := alg.template()
	if err != nil {
		return nil, nil, err
	}
	public.Unique = unique
	public.ObjectAttributes.FixedTPM = false
	public.ObjectAttributes.FixedParent = false
	public.ObjectAttributes.SensitiveDataOrigin = false
	return &public, &sensitive, nil
}
