package cloud

import "errors"

// Errors of this package that callers act on. What is returned wraps one of
// them, or an error of AWS, and is one sentence that says what to do.
var (
	ErrNoRegion      = errors.New("no Region is set; give --region, set AWS_REGION, or run 'aws configure'")
	ErrNoCredentials = errors.New("there are no AWS credentials")
	ErrForeign       = errors.New("it is not ours (it has no tag " + tagOwner + ")")
	ErrStack         = errors.New("a stack and jitrctl would undo each other's work")
	ErrUnsuitable    = errors.New("AWS IoT does not register this CA")
	ErrNoMode        = errors.New("without the CA's key there is no proof of it")
	ErrOtherMode     = errors.New("the CA is registered in the other mode")
	ErrNotRegistered = errors.New("the CA is not registered here")
	ErrNotDeployed   = errors.New("no CA is deployed here")
	ErrStillActive   = errors.New("device certificates are still ACTIVE")
	ErrBadID         = errors.New("it is no certificateId, which has 64 digits 0-9 a-f")
	ErrBadChoice     = errors.New("the choice is impossible")
	ErrRefused       = errors.New("the certificate was not activated")
)
