package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/clock"
)

// Schema is the version of Status. Within it keys are only added.
const Schema = 1

// StatusFile is its name in the run-time directory.
const StatusFile = "status.json"

// Status is status.json and what status --json prints. Every key is always
// there; what is not known is null.
type Status struct {
	Schema        int     `json:"schema"`
	Running       bool    `json:"running"`
	WrittenAt     *Time   `json:"written_at"`
	WrittenBootMS *int64  `json:"written_boot_ms"` // CLOCK_BOOTTIME at written_at: ages are counted on from it
	DialledBootMS *int64  `json:"dialled_boot_ms"` // CLOCK_BOOTTIME of the last CONNECT, of whichever run
	StartedAt     *Time   `json:"started_at"`
	PID           *int    `json:"pid"`
	PIDStart      *string `json:"pid_start"` // the process's start time as /proc/PID/stat has it
	BootID        *string `json:"boot_id"`
	Version       *string `json:"version"`
	Stopped       *Stop   `json:"stopped"`

	State        *string `json:"state"`
	StateSinceAt *Time   `json:"state_since_at"`
	StateForMS   *int64  `json:"state_for_ms"`
	Cause        *string `json:"cause"`
	Event        *string `json:"event"`
	Message      *string `json:"message"`
	Remedy       *string `json:"remedy"`
	Next         *Next   `json:"next"`

	Attempts Attempts `json:"attempts"`
	Identity Identity `json:"identity"`
	Cloud    Cloud    `json:"cloud"`
	Clock    Clock    `json:"clock"`
	TPM      TPM      `json:"tpm"`
	Buffer   Buffer   `json:"buffer"`
	Counters Counters `json:"counters"`
	Shadow   Shadow   `json:"shadow"`

	Overrides []Override `json:"overrides"`
	Local     Local      `json:"local"`
}

// Stop is how the last run ended.
type Stop struct {
	At       *Time   `json:"at"`
	Reason   string  `json:"reason"` // signal, error, config, unknown
	ExitCode *int    `json:"exit_code"`
	Message  *string `json:"message"`
}

// Next is what the agent will do by itself.
type Next struct {
	Action string `json:"action"`
	At     Time   `json:"at"`
	InMS   int64  `json:"in_ms"`
}

// Attempts counts connection attempts since the last success.
type Attempts struct {
	Count     int     `json:"count"`
	FirstAt   *Time   `json:"first_at"`
	LastAt    *Time   `json:"last_at"`
	LastPhase *string `json:"last_phase"`
}

// Identity is who this gateway is.
type Identity struct {
	ThingName       *string       `json:"thing_name"`
	ClientID        *string       `json:"client_id"`
	Provider        *string       `json:"provider"`
	Algorithm       *string       `json:"algorithm"`
	CertificateID   *string       `json:"certificate_id"`
	CACertificateID *string       `json:"ca_certificate_id"`
	NotBeforeAt     *Time         `json:"not_before_at"`
	NotAfterAt      *Time         `json:"not_after_at"`
	Accepted        *bool         `json:"accepted"`
	AcceptedAt      *Time         `json:"accepted_at"`
	InitAt          *Time         `json:"init_at"`
	Next            *NextIdentity `json:"next"`
}

// NextIdentity is a certificate that is installed but not proved yet.
type NextIdentity struct {
	CertificateID string `json:"certificate_id"`
	NotAfterAt    Time   `json:"not_after_at"`
}

// Cloud is the connection.
type Cloud struct {
	Endpoint       *string `json:"endpoint"`
	Port           *int    `json:"port"`
	ALPN           *string `json:"alpn"`
	Proxy          *string `json:"proxy"`
	TLSVersion     *string `json:"tls_version"`
	ConnectedAt    *Time   `json:"connected_at"`
	SessionForMS   *int64  `json:"session_for_ms"`
	ReceiveMaximum *int    `json:"receive_maximum"`
}

// Clock is what is known about the wall clock.
type Clock struct {
	OK           *bool `json:"ok"`
	FloorAt      *Time `json:"floor_at"`
	Synchronized *bool `json:"synchronized"`
}

// TPM is the state of the chip, "unused" where the key is a file.
type TPM struct {
	State  *string `json:"state"`
	Device *string `json:"device"`
}

// Buffer is what waits to be sent.
type Buffer struct {
	State          *string `json:"state"`
	Messages       *int64  `json:"messages"`
	Bytes          *int64  `json:"bytes"`
	MaxBytes       *int64  `json:"max_bytes"`
	OldestAt       *Time   `json:"oldest_at"`
	MemoryMessages *int64  `json:"memory_messages"`
	InFlight       *int64  `json:"in_flight"`
	PausedForMS    *int64  `json:"paused_for_ms"`
}

// Counters count since the start; Dropped, Gaps and DeadLetters since
// installation.
type Counters struct {
	Connects      *int64 `json:"connects"`
	Acked         *int64 `json:"acked"`
	RefusedLocal  *int64 `json:"refused_local"`
	Dropped       *int64 `json:"dropped"`
	Gaps          *int64 `json:"gaps"`
	DeadLetters   *int64 `json:"dead_letters"`
	BytesSent     *int64 `json:"bytes_sent"`
	BytesReceived *int64 `json:"bytes_received"`
	TPMCommands   *int64 `json:"tpm_commands"`
}

// Shadow is the state of the device shadow.
type Shadow struct {
	State   *string `json:"state"`
	Version *int64  `json:"version"`
}

// Override is a setting that did not come from agent.toml.
type Override struct {
	Key   string `json:"key"`
	Value string `json:"value"`
	From  string `json:"from"`
}

// Local is the acceptor for the gateway's own programs.
type Local struct {
	State   *string `json:"state"`
	Socket  *string `json:"socket"`
	Listen  *string `json:"listen"`
	Clients *int64  `json:"clients"`
}

// Time is RFC 3339 in UTC with milliseconds.
type Time time.Time

const timeFormat = "2006-01-02T15:04:05.000Z"

func (t Time) String() string { return time.Time(t).UTC().Format(timeFormat) }

// MarshalText is String.
func (t Time) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText takes RFC 3339, in any zone and precision.
func (t *Time) UnmarshalText(text []byte) error {
	parsed, err := time.Parse(time.RFC3339, string(text))
	*t = Time(parsed)
	return err
}

// At is nil for the zero time.
func At(t time.Time) *Time {
	if t.IsZero() {
		return nil
	}
	stamp := Time(t)
	return &stamp
}

// text is nil for the empty string.
func text[S ~string](s S) *string {
	if s == "" {
		return nil
	}
	plain := string(s)
	return &plain
}

// Encode writes s as JSON for people: indented, and with < and > as they are.
func (s Status) Encode(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(s)
}

// ReadStatus is the status of the service whose run-time directory is dir,
// brought up to now: whether that process still runs, and all ages. A missing
// file is a service that does not run.
func ReadStatus(dir string) (Status, error) {
	var s Status
	path := filepath.Join(dir, StatusFile)
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Status{Schema: Schema, Overrides: []Override{}}, nil
	case err != nil:
		return s, err
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("%s is damaged: %w", path, err)
	}
	if s.Schema > Schema {
		return s, fmt.Errorf("%s has schema %d, and this program knows up to %d", path, s.Schema, Schema)
	}
	s.bringUpToNow()
	return s, nil
}

func (s *Status) bringUpToNow() {
	sameBoot := s.BootID != nil && *s.BootID == clock.BootID()
	s.Running = sameBoot && s.Stopped == nil && s.PID != nil && s.PIDStart != nil && processStart(*s.PID) == *s.PIDStart
	if !s.Running {
		if s.Stopped == nil {
			s.Stopped = &Stop{Reason: "unknown", Message: text("the process ended without a word: it was killed, or the power was cut")}
		}
		s.Next = nil
		return
	}
	if s.WrittenBootMS == nil {
		return
	}
	age := clock.Boot().Milliseconds() - *s.WrittenBootMS
	for _, ms := range []*int64{s.StateForMS, s.Cloud.SessionForMS} {
		if ms != nil {
			*ms += age
		}
	}
	if s.Next != nil {
		s.Next.InMS = max(0, s.Next.InMS-age)
	}
}

// processStart identifies a process for as long as the machine is up: its
// start time in clock ticks since boot, field 22 of /proc/PID/stat. It is ""
// where there is no such process.
func processStart(pid int) string {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	// The second field is the command in parentheses and may hold anything.
	end := strings.LastIndex(string(data), ") ")
	if end < 0 {
		return ""
	}
	fields := strings.Fields(string(data)[end+2:]) // from field 3 on
	if len(fields) < 20 {
		return ""
	}
	return fields[19]
}
