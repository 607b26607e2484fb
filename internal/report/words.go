package report

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/netpath"
	"github.com/jitr-agent/jitr-agent/pkg/jitr"
	"github.com/jitr-agent/jitr-agent/pkg/mqtt"
)

// words says what an error means to somebody who does not program.
func words(err error, phase jitr.Phase) string {
	if err == nil {
		return ""
	}
	var (
		dial    *netpath.Error
		dns     *net.DNSError
		verify  *tls.CertificateVerificationError
		invalid x509.CertificateInvalidError
		unknown x509.UnknownAuthorityError
		record  tls.RecordHeaderError
		errno   syscall.Errno
	)
	if alert, ok := netpath.RemoteAlert(err); ok {
		return fmt.Sprintf("the server answered with TLS alert %d (%s)", alert, tls.AlertError(alert).Error()[len("tls: "):])
	}
	switch {
	case errors.As(err, &dns):
		switch {
		case dns.IsNotFound:
			return "the name service knows no such host"
		case dns.IsTimeout:
			return "the name service does not answer"
		}
		return dns.Err
	case errors.As(err, &verify):
		switch {
		case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
			c := invalid.Cert
			return fmt.Sprintf("its certificate is valid from %s to %s, and this gateway's clock says %s",
				day(c.NotBefore), day(c.NotAfter), time.Now().UTC().Format(time.RFC3339))
		case errors.As(err, &unknown):
			return "its certificate is signed by an authority that this gateway does not trust"
		}
		return strings.TrimPrefix(verify.Err.Error(), "x509: ")
	case errors.As(err, &record):
		return "the answer is not TLS"
	case errors.Is(err, mqtt.ErrKeepAlive), errors.Is(err, mqtt.ErrFrame):
		return err.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the server closed the connection " + during(phase)
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time " + during(phase)
	case errors.As(err, &errno):
		switch errno {
		case syscall.ECONNREFUSED:
			return "connection refused"
		case syscall.ECONNRESET, syscall.EPIPE:
			return "the server reset the connection " + during(phase)
		case syscall.ETIMEDOUT:
			return "nothing that was sent is acknowledged any more"
		}
		return errno.Error()
	case errors.As(err, &dial):
		if timeout := net.Error(nil); errors.As(dial.Err, &timeout) && timeout.Timeout() {
			return "no answer in time " + during(phase)
		}
		return dial.Err.Error()
	}
	return err.Error()
}

// during names the part of an attempt.
func during(phase jitr.Phase) string {
	switch phase {
	case jitr.PhaseConnack:
		return "after the TLS handshake, before its CONNACK"
	case jitr.PhaseSession:
		return "in mid-session"
	case jitr.PhaseTLS:
		return "in the TLS handshake"
	case jitr.PhaseProxy:
		return "at the proxy"
	default:
		return "while connecting"
	}
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// Span is a duration as one says it: two units at most.
func Span(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%d days", int(d.Hours())/24)
	}
}

// count is "1 attempt", "2 attempts".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// Number is n as text.
func Number(n int64) string { return strconv.FormatInt(n, 10) }
