package ca

import (
	"errors"
	"fmt"
	"syscall"
)

// Errors of this package. What is returned wraps one of them, or one of
// packages certs and inventory, and is a sentence that says what to do; the
// caller adds the operation and the file.
var (
	ErrExists        = errors.New("it exists already")
	ErrNoCA          = errors.New("it holds no CA")
	ErrKeyMismatch   = errors.New("the CA's key does not belong to its certificate")
	ErrNoPassphrase  = errors.New("the key is encrypted, and nobody gave its passphrase")
	ErrPassphrase    = errors.New("the passphrase is wrong")
	ErrNoRequest     = errors.New("it holds no PEM certificate request")
	ErrBadSignature  = errors.New("the request's signature is wrong")
	ErrWeakSignature = errors.New("the request is signed in a way that is unsafe or unknown")
	ErrBadName       = errors.New("the common name cannot be a thing name")
	ErrKeyReused     = errors.New("the key is another gateway's")
	ErrCompromised   = errors.New("the key was revoked as compromised")
	ErrNameTwice     = errors.New("the name is given twice")
	ErrNoCABelow     = errors.New("its certificate allows no CA below it")
	ErrForeign       = errors.New("the certificate was not signed by this CA")
	ErrIssuedBefore  = errors.New("an earlier certificate for this request is of no use now")
	ErrBadCode       = errors.New("it is no registration code")
	ErrBadAlgorithm  = errors.New("the key algorithm is unknown")
	ErrBadValidity   = errors.New("the number of days is impossible")
	ErrBadManifest   = errors.New("the manifest is wrong")
	ErrNoRequests    = errors.New("there is no request in it")
	ErrAmbiguous     = errors.New("more than one certificate answers to that")
)

// withRoom adds the remedy to a full disk, where it is the reason.
func withRoom(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w; make room and run the same command again: what is signed stays as it is", err)
	}
	return err
}
