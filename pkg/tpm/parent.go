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

// open returns the parent that a key file names.
func open(c channel, inFile tpm2.TPMHandle) (*parent, error) {
	if inFile == owner {
		return transient(c)
	}
	return persistent(c, inFile)
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
	return &parent{key: tpm2.NamedHandle{Handle: h, Name: rsp.Name}, inFile: h}, nil
}

func transient(c channel) (*parent, error) {
	rsp, err := tpm2.CreatePrimary{PrimaryHandle: owner, InPublic: tpm2.New2B(srkTemplate())}.Execute(c)
	if err != nil {
		return nil, err
	}
	return &parent{
		key:       tpm2.NamedHandle{Handle: rsp.ObjectHandle, Name: rsp.Name},
		inFile:    owner,
		transient: true,
	}, nil
}

// close gives the parent's slot back. A failure costs a slot until the next
// FlushLeftovers, and must not hide the result of the operation.
func (p *parent) close(c channel) {
	if p.transient {
		_, _ = tpm2.FlushContext{FlushHandle: p.key.Handle}.Execute(c)
	}
}
