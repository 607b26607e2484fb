package tpm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// maxPCR is the last register of the PC Client profile.
const maxPCR = 23

// wrapKeySize in bytes: AES-256. The key itself is too long to be sealed: a
// TPM takes 128 bytes (MAX_SYM_DATA of the reference implementation).
const wrapKeySize = 32

// Seal encrypts a software key so that only this TPM can unlock it, and, where
// pcrs are given, only while these registers of the SHA-256 bank have the
// values that they have now. Nothing is stored in the TPM.
func (t *TPM) Seal(ctx context.Context, key crypto.Signer, pcrs []int) (*Sealed, error) {
	plain, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("seal the device key: %w", err)
	}
	pub, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("seal the device key: %w", err)
	}
	wrap := make([]byte, wrapKeySize)
	_, _ = rand.Read(wrap) // never fails
	header := sealedHeader{Version: sealedVersion, PCRs: slices.Sorted(slices.Values(pcrs)), Key: pub}
	err = t.do(ctx, "seal the device key", func(c channel) error {
		p, err := choose(c)
		if err != nil {
			return err
		}
		defer p.close(c)
		public, private, err := p.seal(c, wrap, header.PCRs)
		if err != nil {
			return err
		}
		header.Parent, header.ParentName = int64(p.inFile), p.key.Name.Buffer
		header.Public, header.Private = tpm2.Marshal(public), tpm2.Marshal(private)
		return nil
	})
	if err != nil {
		return nil, err
	}
	der, err := header.encode()
	if err != nil {
		return nil, fmt.Errorf("seal the device key: %w", err)
	}
	s := &Sealed{header: header, associated: associated(der)}
	aead, err := gcm(wrap)
	if err != nil {
		return nil, fmt.Errorf("seal the device key: %w", err)
	}
	s.encrypted = aead.Seal(nil, nil, plain, s.associated)
	return s, s.judge()
}

// gcm is AES-GCM with a random nonce before the ciphertext. Each key encrypts
// once.
func gcm(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// seal makes a data object of the secret under the parent. Like the resident
// key it has noDA, see Algorithm.template.
func (p *parent) seal(c channel, secret []byte, pcrs []int) (tpm2.TPM2BPublic, tpm2.TPM2BPrivate, error) {
	template := tpm2.TPMTPublic{
		Type:    tpm2.TPMAlgKeyedHash,
		NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, NoDA: true, UserWithAuth: len(pcrs) == 0,
		},
	}
	if len(pcrs) > 0 {
		policy, err := policyDigest(c, pcrs)
		if err != nil {
			return tpm2.TPM2BPublic{}, tpm2.TPM2BPrivate{}, err
		}
		template.AuthPolicy = policy
	}
	rsp, err := tpm2.Create{
		ParentHandle: p.key,
		InPublic:     tpm2.New2B(template),
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			Data: tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: secret}),
		}},
	}.Execute(c, tpm2.HMAC(tpm2.TPMAlgSHA256, nonceSize, confidential(p, tpm2.AESEncryption(128, tpm2.EncryptIn))...))
	if err != nil {
		return tpm2.TPM2BPublic{}, tpm2.TPM2BPrivate{}, err
	}
	return rsp.OutPublic, rsp.OutPrivate, nil
}

// Unseal unlocks a sealed key. What it returns is in memory only and needs the
// TPM no more. Errors wrap the sentinels of this package: other values in the
// PCRs are ErrMeasured; for the rest see Load.
func (t *TPM) Unseal(ctx context.Context, s *Sealed) (crypto.Signer, error) {
	var wrap []byte
	err := t.do(ctx, "unseal the device key", func(c channel) error {
		p, err := open(c, s.parent)
		if err != nil {
			return err
		}
		defer p.close(c)
		wrap, err = p.unseal(c, s)
		return err
	})
	if err != nil {
		return nil, err
	}
	key, err := s.decrypt(wrap)
	if err != nil {
		return nil, fmt.Errorf("%w: %w; %s", ErrCorrupt, err, remedyCorrupt)
	}
	return key, nil
}

func (p *parent) unseal(c channel, s *Sealed) ([]byte, error) {
	object, err := p.load(c, s.private, s.public, s.header.ParentName)
	if err != nil {
		return nil, err
	}
	defer func() { _, _ = tpm2.FlushContext{FlushHandle: object.Handle}.Execute(c) }() // as in parent.close
	// The session below is salted to p.public. Only if that is what the file
	// names as the parent is it the TPM's own, and not one that somebody on
	// the bus has put there to read along.
	name, err := tpm2.ObjectName(&p.public)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(name.Buffer, s.header.ParentName) {
		return nil, fmt.Errorf("%w: it names another parent; %s", ErrCorrupt, remedyCorrupt)
	}
	options := confidential(p, tpm2.AESEncryption(128, tpm2.EncryptOut))
	auth := tpm2.HMAC(tpm2.TPMAlgSHA256, nonceSize, options...)
	if pcrs := s.header.PCRs; len(pcrs) > 0 {
		auth = tpm2.Policy(tpm2.TPMAlgSHA256, nonceSize, func(t transport.TPM, session tpm2.TPMISHPolicy, _ tpm2.TPM2BNonce) error {
			_, err := tpm2.PolicyPCR{PolicySession: session, Pcrs: selection(pcrs)}.Execute(t)
			return err
		}, options...)
	}
	rsp, err := tpm2.Unseal{ItemHandle: tpm2.AuthHandle{Handle: object.Handle, Name: object.Name, Auth: auth}}.Execute(c)
	if errors.Is(err, tpm2.TPMRCPolicyFail) || errors.Is(err, tpm2.TPMRCPCRChanged) {
		return nil, fmt.Errorf("%w, PCR %s changed: %w; start the firmware and system that were there, or set device.key and device.crt aside and enrol this gateway anew with jitr-agent csr",
			ErrMeasured, list(s.header.PCRs), err)
	}
	if err != nil {
		return nil, err
	}
	return rsp.OutData.Buffer, nil
}

// decrypt takes the key out of the envelope.
func (s *Sealed) decrypt(wrap []byte) (crypto.Signer, error) {
	aead, err := gcm(wrap)
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, nil, s.encrypted, s.associated)
	if err != nil {
		return nil, errors.New("it was changed since it was written")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(plain)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("it holds a %T, which cannot sign", parsed)
	}
	if public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(s.pub) {
		return nil, errors.New("its public key is that of another key")
	}
	return key, nil
}

// selection names registers of the SHA-256 bank.
func selection(pcrs []int) tpm2.TPMLPCRSelection {
	of := make([]uint, len(pcrs))
	for i, pcr := range pcrs {
		of[i] = uint(pcr) //nolint:gosec // 0 to maxPCR
	}
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
		{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(of...)},
	}}
}

// policyDigest has the TPM compute the policy for what the registers hold now.
func policyDigest(c channel, pcrs []int) (policy tpm2.TPM2BDigest, err error) {
	if err := bankHas(c, pcrs); err != nil {
		return policy, err
	}
	session, end, err := tpm2.PolicySession(c, tpm2.TPMAlgSHA256, nonceSize, tpm2.Trial())
	if err != nil {
		return policy, err
	}
	defer func() { err = errors.Join(err, end()) }()
	if _, err := (tpm2.PolicyPCR{PolicySession: session.Handle(), Pcrs: selection(pcrs)}).Execute(c); err != nil {
		return policy, err
	}
	rsp, err := tpm2.PolicyGetDigest{PolicySession: session.Handle()}.Execute(c)
	if err != nil {
		return policy, err
	}
	return rsp.PolicyDigest, nil
}

// bankHas says whether the TPM keeps these registers with SHA-256. It would
// pass over those that it does not keep, and the key would be bound to
// nothing.
func bankHas(c channel, pcrs []int) error {
	rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapPCRs, PropertyCount: 1}.Execute(c)
	if err != nil {
		return err
	}
	banks, err := rsp.CapabilityData.Data.AssignedPCR()
	if err != nil {
		return err
	}
	for _, pcr := range pcrs {
		kept := slices.ContainsFunc(banks.PCRSelections, func(bank tpm2.TPMSPCRSelection) bool {
			return bank.Hash == tpm2.TPMAlgSHA256 && pcr/8 < len(bank.PCRSelect) && bank.PCRSelect[pcr/8]&(1<<(pcr%8)) != 0
		})
		if !kept {
			return fmt.Errorf("%w: it does not keep PCR %d with SHA-256; switch that bank on in the firmware, or correct [identity] pcrs", ErrFailing, pcr)
		}
	}
	return nil
}

func list(pcrs []int) string {
	words := make([]string, len(pcrs))
	for i, pcr := range pcrs {
		words[i] = strconv.Itoa(pcr)
	}
	return strings.Join(words, ", ")
}
