package report

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/netpath"
	"github.com/jitr-agent/jitr-agent/pkg/jitr"
	"github.com/jitr-agent/jitr-agent/pkg/mqtt"
)

// alert has the kind of crypto/tls's own type.
type alert uint8

func (a alert) Error() string { return "tls: an alert" }

func TestWords(t *testing.T) {
	dialled := func(phase netpath.Phase, err error) error {
		return fmt.Errorf("dial: %w", &netpath.Error{Phase: phase, Peer: "10.0.0.1:8883", Err: err})
	}
	handshake := func(err error) error {
		return dialled(netpath.TLS, &tls.CertificateVerificationError{Err: err})
	}
	expired := &x509.Certificate{
		NotBefore: time.Date(2025, 1, 2, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC),
	}
	for _, c := range []struct {
		phase jitr.Phase
		err   error
		want  string
	}{
		{jitr.PhaseTCP, nil, ""},
		{jitr.PhaseDNS, dialled(netpath.DNS, &net.DNSError{Name: "ep.example", IsNotFound: true}), `the name service knows no host "ep.example"`},
		{jitr.PhaseDNS, dialled(netpath.DNS, &net.DNSError{Name: "ep.example", IsTimeout: true}), "the name service does not answer"},
		{jitr.PhaseDNS, dialled(netpath.DNS, &net.DNSError{Err: "server misbehaving"}), "server misbehaving"},
		{jitr.PhaseTCP, dialled(netpath.TCP, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}), "connection refused"},
		{jitr.PhaseTCP, dialled(netpath.TCP, os.NewSyscallError("connect", syscall.EHOSTUNREACH)), "no route to host"},
		{jitr.PhaseTCP, dialled(netpath.TCP, &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}), "no answer in time while connecting"},
		{jitr.PhaseProxy, dialled(netpath.Proxy, errors.New(`it refused CONNECT x with "407 y"`)), `it refused CONNECT x with "407 y"`},
		{jitr.PhaseProxy, dialled(netpath.Proxy, fmt.Errorf("no answer to CONNECT: %w", os.ErrDeadlineExceeded)), "no answer in time at the proxy"},
		{jitr.PhaseTLS, dialled(netpath.TLS, fmt.Errorf("no TLS handshake within 20s: %w", context.DeadlineExceeded)), "TCP connects, but the TLS handshake does not come through: larger packets are lost on the way (an MTU hole), or a firewall looks into TLS"},
		{jitr.PhaseTLS, dialled(netpath.TLS, tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}), "the answer is not TLS"},
		{jitr.PhaseTLS, dialled(netpath.TLS, tls.RecordHeaderError{RecordHeader: [5]byte([]byte("HTTP/"))}), `the answer is not TLS, it begins with "HTTP/"`},
		{jitr.PhaseTLS, handshake(x509.UnknownAuthorityError{}), "its certificate is signed by an authority that this gateway does not trust"},
		{jitr.PhaseTLS, handshake(x509.HostnameError{Certificate: &x509.Certificate{DNSNames: []string{"a"}}, Host: "b"}), `its certificate is for "a", so a captive portal or another server answers in the place of b`},
		{jitr.PhaseTLS, handshake(x509.HostnameError{Certificate: &x509.Certificate{
			DNSNames: []string{"a", "b"}, IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1), net.IPv4(10, 0, 0, 2)},
		}, Host: "c"}), `its certificate is for "a", "b", 10.0.0.1 and 1 more, so a captive portal or another server answers in the place of c`},
		{jitr.PhaseTLS, handshake(x509.HostnameError{Certificate: &x509.Certificate{Subject: pkix.Name{CommonName: "fritz.box"}}, Host: "b"}), `its certificate is for "fritz.box", so a captive portal or another server answers in the place of b`},
		{jitr.PhaseTLS, handshake(x509.HostnameError{Certificate: &x509.Certificate{}, Host: "b"}), "its certificate is for no host, so a captive portal or another server answers in the place of b"},
		{jitr.PhaseTLS, handshake(x509.CertificateInvalidError{Cert: expired, Reason: x509.Expired}), "its certificate is valid from 2025-01-02 to 2026-01-02, and this gateway's clock says …"},
		{jitr.PhaseConnack, &net.OpError{Op: "remote error", Err: alert(42)}, "the server answered with TLS alert 42 (bad certificate)"},
		{jitr.PhaseTLS, dialled(netpath.TLS, &net.OpError{Op: "remote error", Err: alert(70)}), "the server answered with TLS alert 70 (protocol version not supported), it speaks no TLS version that cloud.tls_max allows"},
		{jitr.PhaseConnack, &net.OpError{Op: "remote error", Err: alert(199)}, "the server answered with TLS alert 199 (alert(199))"},
		{jitr.PhaseConnack, fmt.Errorf("read: %w", io.EOF), "the server closed the connection after the TLS handshake, before its CONNACK"},
		{jitr.PhaseConnack, &net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, "the server reset the connection after the TLS handshake, before its CONNACK"},
		{jitr.PhaseConnack, &mqtt.Refused{Code: 0x87}, "CONNACK 0x87 (not authorized)"},
		{jitr.PhaseSession, &mqtt.Disconnected{Code: 0x8E, Reason: "x"}, `DISCONNECT 0x8E (session taken over), "x"`},
		{jitr.PhaseSession, io.ErrUnexpectedEOF, "the server closed the connection in mid-session"},
		{jitr.PhaseSession, os.NewSyscallError("write", syscall.ETIMEDOUT), "nothing that was sent is acknowledged any more"},
		{jitr.PhaseSession, os.NewSyscallError("write", syscall.EPIPE), "the server reset the connection in mid-session"},
		{jitr.PhaseSession, fmt.Errorf("%w within 60s", mqtt.ErrKeepAlive), "the server did not answer a ping within 60s"},
		{jitr.PhaseSession, fmt.Errorf("%w: %w", mqtt.ErrFrame, io.EOF), "malformed or oversize MQTT frame: EOF"},
		{jitr.PhaseIdentity, errors.New("/dev/tpmrm0: permission denied; add the user to group tss"), "/dev/tpmrm0: permission denied"},
		{jitr.PhaseClock, errors.New("the clock says 1970"), "the clock says 1970"},
	} {
		got := words(c.err, c.phase)
		if start, ok := strings.CutSuffix(c.want, "…"); got != c.want && (!ok || !strings.HasPrefix(got, start)) {
			t.Errorf("%s, %v: %q; want %q", c.phase, c.err, got, c.want)
		}
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                              "0.0 s",
		1234 * time.Millisecond:        "1.2 s",
		12_900 * time.Millisecond:      "12 s",
		time.Minute - time.Millisecond: "59 s",
		time.Minute:                    "1 min 0 s",
		90 * time.Second:               "1 min 30 s",
		time.Hour:                      "1 h 0 min",
		47*time.Hour + 59*time.Minute:  "47 h 59 min",
		48 * time.Hour:                 "2 days",
		400 * 24 * time.Hour:           "400 days",
	} {
		if got := Span(d); got != want {
			t.Errorf("%v: %q; want %q", d, got, want)
		}
	}
}
