package tpm

import (
	"errors"

	"github.com/google/go-tpm/tpm2"
)

// nonceSize in bytes of our side of a session: at least 16, and no more than
// the session's hash has (TPM2_StartAuthSession, TPM 2.0 Part 3).
const nonceSize = 16

// confidential are the options of a session that encrypts a secret on its way
// over the bus. It is salted to the parent: the key of a plain session follows
// from what crosses the bus in clear. AES-128 is what every TPM of the PC
// Client profile has.
func confidential(p *parent, way tpm2.AuthOption) []tpm2.AuthOption {
	return []tpm2.AuthOption{tpm2.Salted(p.key.Handle, p.public), way}
}

// sessionsFull says whether no session can be started because of those that
// killed processes left.
func sessionsFull(err error) bool {
	return errors.Is(err, tpm2.TPMRCSessionMemory) || errors.Is(err, tpm2.TPMRCSessionHandles)
}
