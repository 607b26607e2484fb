package jitr

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"slices"
	"syscall"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/netpath"
	"github.com/jitr-agent/jitr-agent/pkg/identity"
	"github.com/jitr-agent/jitr-agent/pkg/mqtt"
)

// Evidence is what is known about the end of one attempt.
type Evidence struct {
	Phase Phase // how far it got
	Err   error // what it saw there
	Now   time.Time

	// Accepted: this certificate was accepted at this endpoint before, or a
	// CONNACK 0 came in this very attempt.
	Accepted bool
	// Expired: by this gateway's clock, which is not below the floor, the
	// device certificate has expired.
	Expired bool
	// ClosedInARow and ClosedFor count the attempts that the server closed
	// without a word and nothing else between, this one included, and the time
	// since the first of them.
	ClosedInARow int
	ClosedFor    time.Duration
}

// An account that is throttled and a node that is drained close connections
// just as a missing permission does, and a storm of 100,000 gateways needs 5
// minutes to drain at AWS's 500 CONNECT a second. Only what lasts longer and
// repeats counts as a refusal.
const (
	closedMeansRefusedAfter    = 15 * time.Minute
	closedMeansRefusedAttempts = 5
)

// Classify names the cause behind the evidence. It has no opinion on what to
// do about it.
func Classify(e Evidence) Cause {
	cause := classify(e)
	if e.Expired {
		switch cause {
		case Pending, ServerClosed, NotAuthorized, ClientCertRefused:
			return CertExpired
		default:
		}
	}
	if cause == ServerClosed && e.Phase == PhaseConnack &&
		e.ClosedInARow >= closedMeansRefusedAttempts && e.ClosedFor >= closedMeansRefusedAfter {
		return NotAuthorized
	}
	return cause
}

func classify(e Evidence) Cause {
	if cause := identity.Cause(e.Err); cause != "" {
		return Cause(cause)
	}
	var (
		refused      *mqtt.Refused
		disconnected *mqtt.Disconnected
	)
	switch {
	case errors.As(e.Err, &refused):
		return codeCause(refused.Code, e.Accepted)
	case errors.As(e.Err, &disconnected):
		return codeCause(disconnected.Code, e.Accepted)
	case errors.Is(e.Err, mqtt.ErrKeepAlive):
		return KeepAlive
	case errors.Is(e.Err, mqtt.ErrFrame):
		return Protocol
	}
	// With TLS 1.3 the server judges our certificate after the handshake, so
	// its alert comes in the CONNACK phase.
	if alert, ok := netpath.RemoteAlert(e.Err); ok {
		return alertCause(alert, e.Accepted)
	}
	switch e.Phase {
	case PhaseClock:
		return Clock
	case PhaseDNS:
		return DNS
	case PhaseTCP:
		return Network
	case PhaseProxy:
		return Proxy
	case PhaseTLS:
		return handshakeCause(e.Err, e.Now)
	default:
	}
	if timedOut(e.Err) {
		return Network
	}
	if e.Phase == PhaseConnack && !e.Accepted {
		return Pending // the server hung up on a certificate that it does not take yet
	}
	return ServerClosed
}

// alertCause judges a TLS alert of the server by its number (RFC 8446,
// section 6).
func alertCause(alert uint8, accepted bool) Cause {
	switch alert {
	case 42, 46, 48: // bad_certificate, certificate_unknown, unknown_ca: also what AWS used to say while pending
		if accepted {
			return ClientCertRefused
		}
		return Pending
	case 43, 44, 45, 49, 116: // unsupported_, revoked_, expired_certificate, access_denied, certificate_required
		return ClientCertRefused
	case 0, 90: // close_notify, user_canceled
		return ServerClosed
	default: // 40 handshake_failure, 70 protocol_version, 71, 80, 120 no_application_protocol, …
		return TLS
	}
}

// codeCause judges the reason code of a CONNACK or DISCONNECT.
func codeCause(code byte, accepted bool) Cause {
	switch code {
	case 0x87:
		if accepted {
			return NotAuthorized
		}
		return Pending
	case 0x86, 0x8A: // bad user name or password, banned: AWS does not use them, other brokers mean a refusal
		return NotAuthorized
	case 0x8E:
		return DuplicateClientID
	case 0x96, 0x97, 0x9F:
		return Throttled
	case 0x88, 0x89, 0x8B:
		return ServerBusy
	case 0x8D:
		return KeepAlive
	case 0x81, 0x82, 0x84, 0x85, 0x93, 0x94, 0x95, 0x9B, 0xA1, 0xA2:
		return Protocol
	default:
		return ServerClosed
	}
}

// handshakeCause judges a handshake that this side gave up, or that the
// network broke.
func handshakeCause(err error, now time.Time) Cause {
	var (
		verify  *tls.CertificateVerificationError
		invalid x509.CertificateInvalidError
		record  tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &verify):
		// Go reports "not yet valid" and "expired" as the same reason.
		future := func(c *x509.Certificate) bool { return now.Before(c.NotBefore) }
		if errors.As(err, &invalid) && invalid.Reason == x509.Expired && slices.ContainsFunc(verify.UnverifiedCertificates, future) {
			return Clock
		}
		return ServerUntrusted
	case errors.As(err, &record):
		return Protocol
	case timedOut(err), broken(err):
		return Network
	}
	return TLS
}

func timedOut(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, syscall.ETIMEDOUT) ||
		errors.As(err, &timeout) && timeout.Timeout()
}

// broken: the stream ended or was reset below TLS.
func broken(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNABORTED) ||
		errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.ENETDOWN)
}
