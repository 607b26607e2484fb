// Package event is the table of everything the agent ever says at info or
// above: the sentence for the technician, its journal MESSAGE_ID, how serious
// it is and from when on, what it means, and what to do. Journal, console,
// systemctl status, status and the documentation all read it here.
package event

import (
	"slices"
	"strings"
	"time"

	"github.com/jitr-agent/jitr-agent/pkg/jitr"
)

// Level is how serious an event is.
type Level int

// The levels, in their order.
const (
	Info Level = iota
	Warning
	Error
)

func (l Level) String() string {
	switch l {
	case Info:
		return "info"
	case Warning:
		return "warning"
	default:
		return "error"
	}
}

// Event is one row of the table. Sentence and the remedies may hold {fields},
// see Fields.
type Event struct {
	// ID is kebab-case; the event of a cause has the cause's name.
	ID string
	// MessageID was made once with systemd-id128 new. It is never changed and
	// never used for anything else; a retired event keeps its row.
	MessageID string
	Level     Level
	// WarnAfter: an info event that lasts this long becomes a warning. 0: it
	// does not.
	WarnAfter time.Duration
	Sentence  string
	// Meaning explains it to somebody who meets it the first time.
	Meaning string
	// Remedy is what to do, "" where nothing is to be done. LateRemedy takes
	// its place once WarnAfter has passed.
	Remedy, LateRemedy string
}

// Fields fill the braces in the sentences; the keys are those of the
// constants below.
type Fields map[string]string

// The fields.
const (
	CertificateID = "certificate_id"
	CACertificate = "ca_certificate_id"
	Thing         = "thing"
	Endpoint      = "endpoint" // host:port
	Why           = "why"      // what the network, the TPM or the server said
	Attempt       = "attempt"
	For           = "for"  // how long it has lasted
	Next          = "next" // "in 12 s (14:02:10)"
	Object        = "object"
	Value         = "value"
	Version       = "version"
)

// ForCause is the event of a cause. Every cause has one.
func ForCause(c jitr.Cause) Event { return ByID(string(c)) }

// ByID finds an event; an unknown id is a mistake of ours and panics.
func ByID(id string) Event {
	i := slices.IndexFunc(table, func(e Event) bool { return e.ID == id })
	if i < 0 {
		panic("no event " + id)
	}
	return table[i]
}

// All is the table in its order.
func All() []Event { return slices.Clone(table) }

// LevelAfter is the event's level when it has lasted d.
func (e Event) LevelAfter(d time.Duration) Level {
	if e.Level == Info && e.late(d) {
		return Warning
	}
	return e.Level
}

func (e Event) late(d time.Duration) bool { return e.WarnAfter > 0 && d >= e.WarnAfter }

// Message is the sentence with its fields filled in.
func (e Event) Message(f Fields) string { return expand(e.Sentence, f) }

// Todo is what to do when the event has lasted d, "" for nothing.
func (e Event) Todo(f Fields, d time.Duration) string {
	if e.LateRemedy != "" && e.late(d) {
		return expand(e.LateRemedy, f)
	}
	return expand(e.Remedy, f)
}

// Line joins sentence and remedy as all lines of the program do.
func Line(message, remedy string) string {
	if remedy == "" {
		return message
	}
	return message + "; " + remedy
}

func expand(s string, f Fields) string {
	if !strings.Contains(s, "{") {
		return s
	}
	pairs := make([]string, 0, 2*len(f))
	for k, v := range f {
		pairs = append(pairs, "{"+k+"}", v)
	}
	return strings.NewReplacer(pairs...).Replace(s)
}
