package report

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
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
	if phase == jitr.PhaseIdentity {
		why, _, _ := strings.Cut(err.Error(), "; ") // what to do is in the event
		return why
	}
	var (
		dial    *netpath.Error
		dns     *net.DNSError
		verify  *tls.CertificateVerificationError
		invalid x509.CertificateInvalidError
		name    x509.HostnameError
		unknown x509.UnknownAuthorityError
		record  tls.RecordHeaderError
		errno   syscall.Errno
	)
	if alert, ok := netpath.RemoteAlert(err); ok {
		return alertWords(alert)
	}
	switch {
	case errors.As(err, &dns):
		switch {
		case dns.IsNotFound:
			return fmt.Sprintf("the name service knows no host %q", dns.Name)
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
		case errors.As(err, &name):
			return fmt.Sprintf("its certificate is for %s, so a captive portal or another server answers in the place of %s",
				certificateNames(name.Certificate), name.Host)
		}
		return strings.TrimPrefix(verify.Err.Error(), "x509: ")
	case errors.As(err, &record):
		return notTLS(record)
	case errors.Is(err, mqtt.ErrKeepAlive), errors.Is(err, mqtt.ErrFrame):
		return err.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the server closed the connection " + during(phase)
	case errors.Is(err, context.DeadlineExceeded) && phase == jitr.PhaseTLS:
		// The first packets of a handshake are the first large ones.
		return "TCP connects, but the TLS handshake does not come through: larger packets are lost on the way (an MTU hole), or a firewall looks into TLS"
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
		default:
			return errno.Error()
		}
	case errors.As(err, &dial):
		if timeout := net.Error(nil); errors.As(dial.Err, &timeout) && timeout.Timeout() {
			return "no answer in time " + during(phase)
		}
		return dial.Err.Error()
	}
	return err.Error()
}

// alertWords names a TLS alert of the server. Where one setting decides, it
// names that too.
func alertWords(alert uint8) string {
	const versionAlert = 70 // protocol_version (RFC 8446, section 6)
	s := fmt.Sprintf("the server answered with TLS alert %d (%s)", alert, strings.TrimPrefix(tls.AlertError(alert).Error(), "tls: "))
	if alert == versionAlert {
		s += ", it speaks no TLS version that cloud.tls_max allows"
	}
	return s
}

// certificateNames are the hosts that a certificate was made for, as many as a
// sentence holds.
func certificateNames(c *x509.Certificate) string {
	const most = 3
	names := make([]string, 0, most)
	for _, name := range c.DNSNames {
		names = append(names, fmt.Sprintf("%.100q", name))
	}
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	switch {
	case len(names) == 0 && c.Subject.CommonName != "": // as a device's own web page has it
		return fmt.Sprintf("%.100q", c.Subject.CommonName)
	case len(names) == 0:
		return "no host"
	case len(names) > most:
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// notTLS shows how the answer begins: "HTTP/" or "SSH-2" say who is there.
func notTLS(record tls.RecordHeaderError) string {
	start := bytes.TrimRight(record.RecordHeader[:], "\x00")
	if len(start) == 0 {
		return "the answer is not TLS"
	}
	return fmt.Sprintf("the answer is not TLS, it begins with %q", start)
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
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%d days", int(d.Hours())/24)
	}
}

// Count is "1 attempt", "2 attempts".
func Count(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
