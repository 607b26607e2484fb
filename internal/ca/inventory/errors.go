package inventory

import "errors"

// Errors of this package. What is returned wraps one of them, and says what
// to do; the caller adds the operation.
var (
	ErrDamaged   = errors.New("the inventory is damaged")
	ErrNewer     = errors.New("a newer jitrctl made the inventory")
	ErrTaken     = errors.New("the serial number is another certificate's")
	ErrUnknown   = errors.New("the inventory has no such certificate")
	ErrBadReason = errors.New("the reason is unknown")
	ErrBadSerial = errors.New("it is no serial number")
)
