package tpm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/google/go-tpm/tpm2"
)

// What can be wrong with a TPM or with a key that lives in one. Every error of
// this package wraps one of them, but for misuse of a Signer and for a context
// that ended; the text around it names the operation and says what to do.
var (
	ErrAbsent  = errors.New("there is no TPM")
	ErrDenied  = errors.New("this user may not use the TPM")
	ErrChanged = errors.New("this is not the TPM that made the key, or it was cleared since")
	// ErrMeasured: the PCRs that a sealed key is bound to have other values.
	ErrMeasured = errors.New("this gateway did not start with the software that its key is sealed to")
	ErrLocked   = errors.New("the TPM is locked after failed authorizations")
	ErrFailing  = errors.New("the TPM does not work as it should")
	ErrCorrupt  = errors.New("the key file cannot be used")
)

// faults says what a low-level error means and what to do. The first row that
// matches counts.
//
//nolint:gochecknoglobals // a table, never written
var faults = []struct {
	cause  error
	means  error
	remedy string
}{
	{os.ErrNotExist, ErrAbsent, "check the wiring and the device tree overlay, and [identity] tpm_device"},
	{syscall.ECONNREFUSED, ErrAbsent, "start the software TPM, or check [identity] tpm_device"},
	{syscall.ENODEV, ErrAbsent, "check the wiring and the device tree overlay"},
	{syscall.ENXIO, ErrAbsent, "check the wiring and the device tree overlay"},
	{os.ErrPermission, ErrDenied, "run as root, or add this user to the group tss"},
	{syscall.EBUSY, ErrFailing, "another program holds the device; use /dev/tpmrm0, which many can share"},
	{tpm2.TPMRCLockout, ErrLocked, "wait for the TPM's recovery time, or run tpm2_dictionarylockout --clear-lockout"},
	{tpm2.TPMRCHierarchy, ErrFailing, "its owner hierarchy is disabled; enable it in the firmware's set-up"},
	{tpm2.TPMRCBadAuth, ErrFailing, ownerPassword},
	{tpm2.TPMRCAuthFail, ErrFailing, ownerPassword},
	{tpm2.TPMRCObjectMemory, ErrFailing, "other programs left objects loaded; restart the jitr-agent service, which flushes those of a software TPM"},
	{errNotDevice, ErrFailing, "correct [identity] tpm_device"},
	{errNoAnswer, ErrFailing, "power the gateway off and on; if it stays so, the TPM is defective"},
}

const ownerPassword = "its owner hierarchy has a password; give it as the systemd credential tpm-owner-auth, or make a persistent SRK at 0x81000001"

// explain makes the sentence for a failed operation. An error that has been
// explained already passes through.
func explain(op string, err error) error {
	for _, known := range []error{ErrAbsent, ErrDenied, ErrChanged, ErrMeasured, ErrLocked, ErrFailing, ErrCorrupt} {
		if errors.Is(err, known) {
			return fmt.Errorf("%s: %w", op, err)
		}
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", op, err)
	}
	for _, f := range faults {
		if errors.Is(err, f.cause) {
			return fmt.Errorf("%s: %w: %w; %s", op, f.means, err, f.remedy)
		}
	}
	return fmt.Errorf("%s: %w: %w; power the gateway off and on", op, ErrFailing, err)
}
