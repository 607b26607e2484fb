package jitr

import (
	"time"

	"github.com/jitr-agent/jitr-agent/internal/state"
	"github.com/jitr-agent/jitr-agent/pkg/identity"
)

// Snapshot is everything the loop knows at one moment. Times since boot are
// CLOCK_BOOTTIME; a zero time.Time is "not yet".
type Snapshot struct {
	State State
	Cause Cause
	Err   error // what is behind Cause, nil without one

	Since   time.Duration // since boot: when State began
	SinceAt time.Time

	// Next is when the next attempt is due, since boot, and 0 where none is.
	// Step is the longest that this wait could have been: it grows from step to
	// step of the schedule and has no jitter in it.
	Next, Step time.Duration

	// Dialled is when the last CONNECT was sent, since boot, also one of an
	// earlier run. Not above 0: none since boot.
	Dialled time.Duration

	Attempts  Attempts
	Recovered *Attempts // in the first snapshot after a success: what it took

	Endpoint Endpoint
	Identity *identity.Identity // nil while there is none; do not close it
	History  state.History      // of Identity at Endpoint
	Link     *Link              // nil without a connection

	ClockOK bool
	Floor   time.Time
}

// Attempts counts connection attempts since the last success.
type Attempts struct {
	Count           int
	FirstAt, LastAt time.Time
	LastPhase       Phase
	For             time.Duration // since the first one, by a clock that does not step
}

// Link is a connection that got its CONNACK.
type Link struct {
	Port           int
	ALPN           string
	TLSVersion     string
	ConnectedAt    time.Time
	Connected      time.Duration // since boot
	ReceiveMaximum int
}

// Observer is told what happens. It is called from the loop and must not
// block for long.
type Observer interface {
	// Observe gets a snapshot at each change, attempt and step.
	Observe(Snapshot)
	// NotSaved: state.json could not be written; it is tried again at the next
	// change.
	NotSaved(error)
	// Candidate tells of the identity that is to replace the present one.
	Candidate(News)
}
