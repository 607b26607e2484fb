package seglog

import (
	"errors"
	"syscall"
)

var (
	// ErrFull: all segments that MaxSize allows hold messages that are not
	// acknowledged.
	ErrFull = errors.New("the buffer is full")
	// ErrNoSpace: a new segment would leave less than KeepFree on the file
	// system. Where the file system itself is full, the error is its ENOSPC.
	ErrNoSpace = errors.New("the file system has no space to spare")
	// ErrNoInodes: the file system has no inode left for a new segment.
	ErrNoInodes = errors.New("the file system has no inodes left")
	// ErrTooLarge: a payload is longer than MaxPayload, or than a segment.
	ErrTooLarge = errors.New("the message is too large")
	// ErrClosed is the answer of a log after Close.
	ErrClosed = errors.New("the log is closed")
)

// State is how the log stands.
type State int

// The states; each heals by itself when its reason has gone.
const (
	OK       State = iota
	Full           // ErrFull
	DiskFull       // no space, no inodes or no quota on the file system
	ReadOnly       // the file system takes no writes
	Damaged        // reading or writing failed, or there are bad pieces in what is stored
)

func (s State) String() string {
	return [...]string{"ok", "full", "disk-full", "read-only", "damaged"}[s]
}

// stateOf is the state that an error of writing puts the log into.
func stateOf(err error) State {
	switch {
	case err == nil:
		return OK
	case errors.Is(err, ErrFull):
		return Full
	case errors.Is(err, ErrNoSpace), errors.Is(err, ErrNoInodes), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return DiskFull
	case errors.Is(err, syscall.EROFS):
		return ReadOnly
	default:
		return Damaged
	}
}
