package jitr

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/netpath"
	"github.com/jitr-agent/jitr-agent/pkg/identity"
	"github.com/jitr-agent/jitr-agent/pkg/mqtt"
)

// FuzzClassify: whatever is seen, there is one cause for it, one of those that
// are written down, with a schedule and a state.
func FuzzClassify(f *testing.F) {
	f.Add(uint8(6), uint8(0), uint8(0x87), false, false, 0, int64(0), "")
	f.Add(uint8(7), uint8(1), uint8(0x8E), true, false, 0, int64(0), "taken over")
	f.Add(uint8(5), uint8(2), uint8(42), true, true, 0, int64(0), "")
	f.Add(uint8(6), uint8(3), uint8(0), true, false, 5, int64(15*time.Minute), "")
	phases := []Phase{PhaseClock, PhaseIdentity, PhaseDNS, PhaseTCP, PhaseProxy, PhaseTLS, PhaseConnack, PhaseSession, ""}
	f.Fuzz(func(t *testing.T, phase, kind, code uint8, accepted, expired bool, closed int, since int64, text string) {
		certificate := &x509.Certificate{NotBefore: time.Unix(since, 0), NotAfter: time.Unix(int64(closed), 0)}
		kinds := []error{
			&mqtt.Refused{Code: code, Reason: text}, &mqtt.Disconnected{Code: code, Reason: text}, alert(code),
			io.EOF, io.ErrUnexpectedEOF, context.DeadlineExceeded, os.ErrDeadlineExceeded, net.ErrClosed,
			syscall.Errno(code), &net.OpError{Op: text, Err: syscall.Errno(code)}, errors.New(text), nil,
			&net.DNSError{Err: text, IsTimeout: accepted}, tls.RecordHeaderError{Msg: text}, tls.AlertError(code),
			&tls.CertificateVerificationError{UnverifiedCertificates: []*x509.Certificate{certificate}, Err: x509.CertificateInvalidError{Cert: certificate, Reason: x509.InvalidReason(code % 12)}},
			&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, &tls.CertificateVerificationError{},
			mqtt.ErrKeepAlive, mqtt.ErrFrame, mqtt.ErrClosed, identity.ErrNoKey, identity.ErrTPMFailing,
		}
		e := Evidence{
			Phase: phases[int(phase)%len(phases)], Err: kinds[int(kind)%len(kinds)], Now: time.Unix(since, 0),
			Accepted: accepted, Expired: expired, ClosedInARow: closed, ClosedFor: time.Duration(since),
		}
		if code%3 == 0 && e.Err != nil {
			e.Err = fmt.Errorf("dial: %w", &netpath.Error{Phase: netpath.Phase(e.Phase), Peer: text, Err: e.Err})
		}
		cause := Classify(e)
		if again := Classify(e); again != cause {
			t.Errorf("%+v is %s, and then %s", e, cause, again)
		}
		if !slices.Contains(allCauses, cause) {
			t.Errorf("%+v is %q, which is no cause", e, cause)
		}
		if cause == Pending && accepted {
			t.Errorf("%+v: a certificate that was accepted is never pending", e)
		}
		if StateFor(cause, accepted) == Online {
			t.Errorf("%+v is online", e)
		}
	})
}
