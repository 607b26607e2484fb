package tpm

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// persistentSRK is where the storage root key stands if the gateway has been
// provisioned (TCG TPM 2.0 Provisioning Guidance 1.0, 7.8, table 2). It needs
// no owner password, where the transient one does.
const persistentSRK tpm2.TPMHandle = 0x81000001

// owner as the parent in a key file means the transient storage root key of
// the owner hierarchy (ASN.1 Specification for TPM 2.0 Key Files, 3.1.8).
const owner = tpm2.TPMRHOwner

// srkTemplate is the ECC P-256 storage root key that key files with the parent
// "owner" hang under. Its unique field is empty (template H-2 of the TCG EK
// profile), as OpenSSL's provider and tpm2-tools have it; with go-tpm's
// ECCSRKTemplate, which fills it with zeros, it would be another key.
func srkTemplate() tpm2.TPMTPublic {
	t := tpm2.ECCSRKTemplate
	t.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{})
	return t
}

// parent is a storage key that is loaded for the length of one operation.
type parent struct {
	key       tpm2.NamedHandle
	public    tpm2.TPMTPublic
	inFile    tpm2.TPMHandle // what the key file says
	transient bool
}

// choose returns the parent for a new key: the persistent storage root key
// where there is a suitable one, else the transient one.
func choose(c channel) (*parent, error) {
	p, err := persistent(c, persistentSRK)
	switch {
	case err == nil:
		return p, nil
	case errors.Is(err, errNoParent):
		return transient(c)
	}
	return nil, err
}

// open returns the parent that a key file names. That there is none is
// ErrChanged.
func open(c channel, inFile tpm2.TPMHandle) (*parent, error) {
	if inFile == owner {
		return transient(c)
	}
	p, err := persistent(c, inFile)
	if errors.Is(err, errNoParent) {
		return nil, fmt.Errorf("%w: %w; %s", ErrChanged, err, remedyChanged)
	}
	return p, err
}

// errNoParent: no storage key that we can use stands at the handle.
var errNoParent = errors.New("no usable storage key")

func persistent(c channel, h tpm2.TPMHandle) (*parent, error) {
	rsp, err := tpm2.ReadPublic{ObjectHandle: h}.Execute(c)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return nil, fmt.Errorf("%w at %#x: %w", errNoParent, uint32(h), err)
	}
	if err != nil {
		return nil, err
	}
	pub, err := rsp.OutPublic.Contents()
	if err != nil {
		return nil, err
	}
	// A parent without noDA counts power cuts as failed guesses, even when
	// the key has it.
	if a := pub.ObjectAttributes; !a.Restricted || !a.Decrypt || !a.UserWithAuth || !a.NoDA {
		return nil, fmt.Errorf("%w at %#x: its attributes do not fit", errNoParent, uint32(h))
	}
	return &parent{key: tpm2.NamedHandle{Handle: h, Name: rsp.Name}, public: *pub, inFile: h}, nil
}

func transient(c channel) (*parent, error) {
	rsp, err := tpm2.CreatePrimary{PrimaryHandle: c.ownerHandle(), InPublic: tpm2.New2B(srkTemplate())}.Execute(c)
	switch {
	case c.t.ownerAuth.isSet() && wrongAuth(err):
		return nil, fmt.Errorf("%w: its owner hierarchy has another password than the one that was given: %w; correct the credential tpm-owner-auth, or make a persistent SRK at 0x81000001", ErrFailing, err)
	case err != nil:
		return nil, err
	}
	pub, err := rsp.OutPublic.Contents()
	if err != nil {
		return nil, err
	}
	return &parent{
		key:       tpm2.NamedHandle{Handle: rsp.ObjectHandle, Name: rsp.Name},
		public:    *pub,
		inFile:    owner,
		transient: true,
	}, nil
}

// ownerHandle is the owner hierarchy with its authorization. A password goes
// into an HMAC session, so that it never crosses the bus itself; without one
// the empty password costs no session.
func (c channel) ownerHandle() tpm2.AuthHandle {
	h := tpm2.AuthHandle{Handle: owner, Auth: tpm2.PasswordAuth(nil)}
	if c.t.ownerAuth.isSet() {
		h.Auth = tpm2.HMAC(tpm2.TPMAlgSHA256, nonceSize, tpm2.Auth(c.t.ownerAuth.value))
	}
	return h
}

// wrongAuth says whether a password was wrong or missing.
func wrongAuth(err error) bool {
	return errors.Is(err, tpm2.TPMRCBadAuth) || errors.Is(err, tpm2.TPMRCAuthFail)
}

// close gives the parent's slot back. A failure costs a slot until the next
// FlushLeftovers, and must not hide the result of the operation.
func (p *parent) close(c channel) {
	if p.transient {
		_, _ = tpm2.FlushContext{FlushHandle: p.key.Handle}.Execute(c)
	}
}
