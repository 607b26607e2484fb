package buffer

import (
	"errors"
	"fmt"
)

var (
	// ErrFull: there is no room for the message and none will come by waiting.
	ErrFull = errors.New("the buffer is full")
	// ErrTooLarge: the message is longer than MaxMessage.
	ErrTooLarge = errors.New("the message is too large")
	// ErrExpired: the message expired before it was safe, and could not be
	// counted.
	ErrExpired = errors.New("the message has expired")
	// ErrClosed: the buffer has stopped, or did before the message was safe.
	ErrClosed = errors.New("the buffer is closed")
)

// Refused is what becomes of a message that the server will never take, with
// the reason code of its PUBACK. It is among the dead letters then.
type Refused struct{ Code byte } //nolint:errname // as in mqtt: errors.As reads well with the name of what happened

func (r *Refused) Error() string {
	return fmt.Sprintf("the server refused the message with reason code 0x%02X", r.Code)
}
