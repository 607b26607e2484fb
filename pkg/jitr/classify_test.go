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

// alertError is a server's alert as crypto/tls reports it.
type alertError uint8

func (a alertError) Error() string { return tls.AlertError(a).Error() }

func alert(n uint8) error { return &net.OpError{Op: "remote error", Err: alertError(n)} }

func reset() error {
	return &net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}
}

func refused(code byte) error { return &mqtt.Refused{Code: code} }

func disconnected(code byte) error { return &mqtt.Disconnected{Code: code} }

func dialError(phase netpath.Phase, err error) error {
	return &netpath.Error{Phase: phase, Peer: "h:8883", Err: err}
}

// TestClassify is the table of contract §5: what was seen, and what it means
// for a certificate that was never accepted and for one that was.
func TestClassify(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	expired := &x509.Certificate{NotBefore: now.AddDate(-2, 0, 0), NotAfter: now.AddDate(-1, 0, 0)}
	future := &x509.Certificate{NotBefore: now.AddDate(1, 0, 0), NotAfter: now.AddDate(2, 0, 0)}
	invalid := func(c *x509.Certificate) error {
		return dialError(netpath.TLS, &tls.CertificateVerificationError{
			UnverifiedCertificates: []*x509.Certificate{c}, Err: x509.CertificateInvalidError{Cert: c, Reason: x509.Expired},
		})
	}
	tests := []struct {
		seen            string
		phase           Phase
		err             error
		first, accepted Cause
	}{
		{"the JITR cut", PhaseConnack, io.EOF, Pending, ServerClosed},
		{"the JITR cut by RST", PhaseConnack, reset(), Pending, ServerClosed},
		{"CONNACK 0x87", PhaseConnack, refused(0x87), Pending, NotAuthorized},
		{"alert 42 in the handshake", PhaseTLS, dialError(netpath.TLS, alert(42)), Pending, ClientCertRefused},
		{"alert 46 in the handshake", PhaseTLS, dialError(netpath.TLS, alert(46)), Pending, ClientCertRefused},
		{"alert 48 in the handshake", PhaseTLS, dialError(netpath.TLS, alert(48)), Pending, ClientCertRefused},
		{"alert 42 after it (TLS 1.3)", PhaseConnack, alert(42), Pending, ClientCertRefused},
		{"alert 43", PhaseTLS, alert(43), ClientCertRefused, ClientCertRefused},
		{"alert 44", PhaseTLS, alert(44), ClientCertRefused, ClientCertRefused},
		{"alert 45", PhaseTLS, alert(45), ClientCertRefused, ClientCertRefused},
		{"alert 49", PhaseTLS, alert(49), ClientCertRefused, ClientCertRefused},
		{"alert 116", PhaseConnack, alert(116), ClientCertRefused, ClientCertRefused},
		{"alert 40", PhaseTLS, alert(40), TLS, TLS},
		{"alert 70", PhaseTLS, alert(70), TLS, TLS},
		{"alert 71", PhaseTLS, alert(71), TLS, TLS},
		{"alert 80", PhaseTLS, alert(80), TLS, TLS},
		{"alert 120", PhaseTLS, alert(120), TLS, TLS},
		{"a handshake that this side gives up", PhaseTLS, dialError(netpath.TLS, errors.New("tls: no common cipher")), TLS, TLS},
		{"not TLS", PhaseTLS, dialError(netpath.TLS, tls.RecordHeaderError{}), Protocol, Protocol},
		{"malformed frame", PhaseConnack, fmt.Errorf("%w: x", mqtt.ErrFrame), Protocol, Protocol},
		{"CONNACK 0x84", PhaseConnack, refused(0x84), Protocol, Protocol},
		{"DISCONNECT 0x82", PhaseSession, disconnected(0x82), Protocol, Protocol},
		{"DISCONNECT 0x93", PhaseSession, disconnected(0x93), Protocol, Protocol},
		{"DISCONNECT 0x95", PhaseSession, disconnected(0x95), Protocol, Protocol},
		{"DISCONNECT 0x8E", PhaseSession, disconnected(0x8E), DuplicateClientID, DuplicateClientID},
		{"CONNACK 0x97", PhaseConnack, refused(0x97), Throttled, Throttled},
		{"CONNACK 0x9F", PhaseConnack, refused(0x9F), Throttled, Throttled},
		{"DISCONNECT 0x96", PhaseSession, disconnected(0x96), Throttled, Throttled},
		{"CONNACK 0x88", PhaseConnack, refused(0x88), ServerBusy, ServerBusy},
		{"CONNACK 0x89", PhaseConnack, refused(0x89), ServerBusy, ServerBusy},
		{"DISCONNECT 0x8B", PhaseSession, disconnected(0x8B), ServerBusy, ServerBusy},
		{"no PINGRESP", PhaseSession, mqtt.ErrKeepAlive, KeepAlive, KeepAlive},
		{"unknown host", PhaseDNS, dialError(netpath.DNS, &net.DNSError{IsNotFound: true}), DNS, DNS},
		{"refused", PhaseTCP, dialError(netpath.TCP, syscall.ECONNREFUSED), Network, Network},
		{"proxy", PhaseProxy, dialError(netpath.Proxy, errors.New("407")), Proxy, Proxy},
		{"reset in the handshake", PhaseTLS, dialError(netpath.TLS, reset()), Network, Network},
		{"silence in the handshake", PhaseTLS, dialError(netpath.TLS, context.DeadlineExceeded), Network, Network},
		{"no CONNACK", PhaseConnack, context.DeadlineExceeded, Network, Network},
		{"data no longer acknowledged", PhaseSession, &net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ETIMEDOUT)}, Network, Network},
		{"foreign root", PhaseTLS, dialError(netpath.TLS, &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}), ServerUntrusted, ServerUntrusted},
		{"server certificate expired", PhaseTLS, invalid(expired), ServerUntrusted, ServerUntrusted},
		{"server certificate not yet valid", PhaseTLS, invalid(future), Clock, Clock},
		{"below the floor", PhaseClock, errors.New("1970"), Clock, Clock},
		{"no key", PhaseIdentity, fmt.Errorf("x: %w", identity.ErrNoKey), NoKey, NoKey},
		{"the TPM fails in a handshake", PhaseIdentity, fmt.Errorf("x: %w", identity.ErrTPMFailing), TPMFailing, TPMFailing},
	}
	for _, tt := range tests {
		if got := Classify(Evidence{Phase: tt.phase, Err: tt.err, Now: now}); got != tt.first {
			t.Errorf("%s, never accepted: %s; want %s", tt.seen, got, tt.first)
		}
		if got := Classify(Evidence{Phase: tt.phase, Err: tt.err, Now: now, Accepted: true}); got != tt.accepted {
			t.Errorf("%s, accepted before: %s; want %s", tt.seen, got, tt.accepted)
		}
	}
}

// Closings without a word count as a refusal only when both the time and the
// number are reached.
func TestClosedBecomesNotAuthorized(t *testing.T) {
	for _, tt := range []struct {
		count int
		since time.Duration
		phase Phase
		want  Cause
	}{
		{4, time.Hour, PhaseConnack, ServerClosed},
		{100, 15*time.Minute - 1, PhaseConnack, ServerClosed},
		{5, 15 * time.Minute, PhaseConnack, NotAuthorized},
		{5, 15 * time.Minute, PhaseSession, ServerClosed},
	} {
		e := Evidence{Phase: tt.phase, Err: io.EOF, Accepted: true, ClosedInARow: tt.count, ClosedFor: tt.since}
		if got := Classify(e); got != tt.want {
			t.Errorf("%d times in %v: %s; want %s", tt.count, tt.since, got, tt.want)
		}
	}
}

func TestExpiredCertificateIsNamed(t *testing.T) {
	for _, accepted := range []bool{false, true} {
		for _, err := range []error{io.EOF, refused(0x87), alert(45), alert(42)} {
			if got := Classify(Evidence{Phase: PhaseConnack, Err: err, Accepted: accepted, Expired: true}); got != CertExpired {
				t.Errorf("accepted %v, %v: %s; want %s", accepted, err, got, CertExpired)
			}
		}
		if got := Classify(Evidence{Phase: PhaseDNS, Err: io.EOF, Accepted: accepted, Expired: true}); got != DNS {
			t.Errorf("a dead name service is %s; want %s, expired or not", got, DNS)
		}
	}
}

// allCauses is every cause there is; the compiler cannot tell, so the tests
// of the tables share this list.
var allCauses = []Cause{
	NoKey, NoCertificate, KeyMismatch, KeyCorrupt, TPMAbsent, TPMDenied, TPMChanged, TPMLocked, TPMFailing,
	Clock, DNS, Network, Proxy, ServerUntrusted, TLS, Protocol, Throttled, ServerBusy, ServerClosed, KeepAlive,
	DuplicateClientID, Pending, NotAuthorized, ClientCertRefused, CertExpired,
}

// Each cause has exactly one schedule row for each history, and the states
// that contract §5 gives it.
func TestEveryCauseHasItsRowAndState(t *testing.T) {
	states := map[State][]Cause{
		WaitingForIdentity: {NoKey, NoCertificate, KeyMismatch, KeyCorrupt, TPMAbsent, TPMDenied, TPMChanged, TPMLocked, TPMFailing},
		WaitingForClock:    {Clock},
		PendingActivation:  {Pending},
		Rejected:           {NotAuthorized, ClientCertRefused, CertExpired},
	}
	for _, cause := range allCauses {
		for _, long := range []bool{false, true} {
			n := 0
			for _, r := range schedules {
				if slices.Contains(r.causes, cause) && r.long == long {
					n++
				}
			}
			switch {
			case !long && n != 1:
				t.Errorf("%s has %d rows; want 1", cause, n)
			case long && n > 1:
				t.Errorf("%s has %d rows after a long session; want at most 1", cause, n)
			}
		}
		want := map[bool]State{false: Connecting, true: Offline}
		for s, causes := range states {
			if slices.Contains(causes, cause) {
				want[false], want[true] = s, s
			}
		}
		for accepted, s := range want {
			if got := StateFor(cause, accepted); got != s {
				t.Errorf("StateFor(%s, %v) = %s; want %s", cause, accepted, got, s)
			}
		}
	}
}
