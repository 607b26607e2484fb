package shadow

import "errors"

// What Options.Trouble is told wraps one of these.
var (
	ErrDenied   = errors.New("the shadow's messages cannot be received") // report-only from now on
	ErrDesired  = errors.New("a desired value is not possible")          // and is not applied
	ErrApply    = errors.New("a desired value could not be applied")
	ErrRejected = errors.New("the shadow service rejected a request")
	ErrPublish  = errors.New("a shadow message could not be sent")
	ErrMessage  = errors.New("a shadow message is malformed")
)
