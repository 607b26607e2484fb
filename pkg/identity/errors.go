package identity

import (
	"errors"

	"github.com/jitr-agent/jitr-agent/pkg/tpm"
)

// Why this gateway has no identity. Each is one cause of the state
// waiting-for-identity, but ErrNoThingName, which is a wrong configuration.
var (
	ErrNoKey         = errors.New("there is no device key")
	ErrNoCertificate = errors.New("there is no device certificate")
	ErrKeyMismatch   = errors.New("the certificate is not for this gateway's key")
	ErrKeyCorrupt    = tpm.ErrCorrupt // of a file key as well
	ErrTPMAbsent     = tpm.ErrAbsent
	ErrTPMDenied     = tpm.ErrDenied
	ErrTPMChanged    = tpm.ErrChanged
	ErrTPMLocked     = tpm.ErrLocked
	ErrTPMFailing    = tpm.ErrFailing
	// ErrTPMMeasured is the cause tpm-changed too: the TPM is the same, and no
	// longer gives the key out.
	ErrTPMMeasured = tpm.ErrMeasured

	ErrNoThingName = errors.New("device.crt has no usable common name; set cloud.thing_name")
)

// causes are the names that status, journal and doctor use.
//
//nolint:gochecknoglobals // a table, never written
var causes = []struct {
	err  error
	name string
}{
	{ErrNoKey, "no-key"},
	{ErrNoCertificate, "no-certificate"},
	{ErrKeyMismatch, "key-mismatch"},
	{ErrKeyCorrupt, "key-corrupt"},
	{ErrTPMAbsent, "tpm-absent"},
	{ErrTPMDenied, "tpm-denied"},
	{ErrTPMChanged, "tpm-changed"},
	{ErrTPMMeasured, "tpm-changed"},
	{ErrTPMLocked, "tpm-locked"},
	{ErrTPMFailing, "tpm-failing"},
}

// Cause returns the cause that err stands for; "" for an error that is none of
// this package's causes, and for nil.
func Cause(err error) string {
	for _, c := range causes {
		if errors.Is(err, c.err) {
			return c.name
		}
	}
	return ""
}
