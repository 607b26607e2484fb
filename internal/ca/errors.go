package ca

import "errors"

// Errors of this package. What is returned wraps one of them, or one of
// package certs, and is a sentence that says what to do; the caller adds the
// operation and the file.
var (
	ErrExists        = errors.New("it exists already")
	ErrNoCA          = errors.New("it holds no CA")
	ErrKeyMismatch   = errors.New("the CA's key does not belong to its certificate")
	ErrNoRequest     = errors.New("it holds no PEM certificate request")
	ErrBadSignature  = errors.New("the request's signature is wrong")
	ErrWeakSignature = errors.New("the request is signed in a way that is unsafe or unknown")
	ErrBadName       = errors.New("the common name cannot be a thing name")
	ErrForeign       = errors.New("the certificate was not signed by this CA")
	ErrIssuedBefore  = errors.New("an earlier certificate for this request is of no use now")
	ErrBadCode       = errors.New("it is no registration code")
	ErrBadAlgorithm  = errors.New("the key algorithm is unknown")
	ErrBadValidity   = errors.New("the number of days is impossible")
)
