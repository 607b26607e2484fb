package inventory

import (
	"bufio"
	"bytes"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// ErrBadIndex: a file is not what 'openssl ca' keeps as index.txt.
var ErrBadIndex = errors.New("it is no index.txt of openssl")

// The columns of index.txt, with tabs between them (openssl ca(1), and
// apps/include/apps.h of OpenSSL).
const (
	colStatus = iota // V, R or E
	colExpires
	colRevoked // time, and behind a comma the reason
	colSerial
	colFile // "unknown"
	colSubject
	columns
)

// ParseIndex reads openssl's index.txt: what its CA has signed and revoked.
// The certificates are not in it. Errors wrap ErrBadIndex and name the line.
func ParseIndex(data []byte, now time.Time) ([]*Entry, error) {
	var entries []*Entry
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		if lines.Text() == "" {
			continue
		}
		e, err := parseLine(lines.Text())
		if err != nil {
			return nil, fmt.Errorf("line %d: %w: %w", n, ErrBadIndex, err)
		}
		e.Origin, e.AddedAt = Imported, now.UTC().Truncate(time.Second)
		entries = append(entries, e)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadIndex, err)
	}
	return entries, nil
}

func parseLine(line string) (*Entry, error) {
	col := strings.Split(line, "\t")
	if len(col) != columns {
		return nil, fmt.Errorf("it has %d columns, where openssl writes %d", len(col), columns)
	}
	serial, err := ParseSerial(col[colSerial])
	if err != nil {
		return nil, err
	}
	expires, err := parseTime(col[colExpires])
	if err != nil {
		return nil, err
	}
	e := &Entry{Serial: serial, Subject: col[colSubject], Name: commonName(col[colSubject]), NotAfter: expires}
	switch col[colStatus] {
	case "V", "E":
		return e, nil
	case "R":
	default:
		return nil, fmt.Errorf("the status is %q, where openssl writes V, R or E", col[colStatus])
	}
	when, why, _ := strings.Cut(col[colRevoked], ",")
	why, _, _ = strings.Cut(why, ",") // openssl adds when a key was compromised, or a hold's instruction
	at, err := parseTime(when)
	if err != nil {
		return nil, err
	}
	switch why {
	case "keyTime":
		why = KeyCompromise.String()
	case "CAkeyTime":
		why = "CACompromise"
	case "holdInstruction":
		why = hold.String()
	}
	if e.Reason, err = parseReason(why); err != nil {
		return nil, fmt.Errorf("%w: %q", err, why)
	}
	e.RevokedAt = &at
	return e, nil
}

// WriteIndex writes an entry as a line of openssl's index.txt.
func WriteIndex(w io.Writer, e *Entry, now time.Time) error {
	status, revoked := "V", ""
	switch e.State(now) {
	case Valid:
	case Expired:
		status = "E"
	case Revoked:
		status, revoked = "R", formatTime(*e.RevokedAt)
		if e.Reason != Unspecified {
			revoked += "," + e.Reason.String()
		}
	}
	_, err := fmt.Fprintf(w, "%s\t%s\t%s\t%s\tunknown\t%s\n", status, formatTime(e.NotAfter), revoked, e.Serial, e.Subject)
	return err
}

// The times of ASN.1: two digits of the year from 1950 to 2049, else four.
const (
	utcTime         = "060102150405Z"
	generalizedTime = "20060102150405Z"
)

func parseTime(s string) (time.Time, error) {
	layout := utcTime
	if len(s) == len(generalizedTime) {
		layout = generalizedTime
	}
	t, err := time.Parse(layout, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is no time as openssl writes it", s)
	}
	if layout == utcTime && t.Year() >= 2050 { // RFC 5280 §4.1.2.5.1
		t = t.AddDate(-100, 0, 0)
	}
	return t, nil
}

func formatTime(t time.Time) string {
	if y := t.UTC().Year(); y < 1950 || y >= 2050 {
		return t.UTC().Format(generalizedTime)
	}
	return t.UTC().Format(utcTime)
}

// shortNames are openssl's for the attributes that people use; others appear
// by number.
var shortNames = map[string]string{
	"2.5.4.3": "CN", "2.5.4.5": "serialNumber", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST",
	"2.5.4.9": "street", "2.5.4.10": "O", "2.5.4.11": "OU", "1.2.840.113549.1.9.1": "emailAddress",
	"0.9.2342.19200300.100.1.25": "DC", "0.9.2342.19200300.100.1.1": "UID",
}

// oneline is the subject as openssl's index has it.
func oneline(n pkix.Name) string {
	var b strings.Builder
	for _, a := range n.Names {
		name, ok := shortNames[a.Type.String()]
		if !ok {
			name = a.Type.String()
		}
		value := strings.Map(func(r rune) rune {
			if r < ' ' {
				return '?' // a tab or a line end would break the line
			}
			return r
		}, fmt.Sprint(a.Value))
		fmt.Fprintf(&b, "/%s=%s", name, value)
	}
	return b.String()
}

// commonName is the last common name in a subject that oneline could have
// written.
func commonName(subject string) string {
	i := strings.LastIndex(subject, "/CN=")
	if i < 0 {
		return ""
	}
	name, _, _ := strings.Cut(subject[i+len("/CN="):], "/")
	return name
}
