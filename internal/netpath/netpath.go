// Package netpath is one dial: from a host name to a TLS connection with AWS
// IoT Core on which both sides have proved who they are. Every error says in
// which phase it happened; what that means is for package jitr to judge.
package netpath

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"
)

// Phase is the part of a dial in which it failed; the names are those of
// attempts.last_phase in status.json.
type Phase string

// The phases, in their order.
const (
	DNS   Phase = "dns"
	TCP   Phase = "tcp"
	Proxy Phase = "proxy"
	TLS   Phase = "tls"
)

// Error is a failed dial. Peer is the address that was tried, as far as it
// got.
type Error struct {
	Phase Phase
	Peer  string
	Err   error
}

func (e *Error) Error() string { return string(e.Phase) + " " + e.Peer + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Time limits of the phases; the AWS CRT uses the same for TCP.
const (
	tcpTimeout = 10 * time.Second
	tlsTimeout = 20 * time.Second // a hardware TPM needs up to 0.6 s for its signature, a Pi Zero more for the rest
)

// alpn443 lets MQTT with a client certificate through on port 443 (AWS IoT
// developer guide, "Protocols, port mappings, and authentication").
const alpn443 = "x-amzn-mqtt-ca"

// Target is where to dial, and as whom.
type Target struct {
	Host string
	Port int
	// Port443 asks for ALPN x-amzn-mqtt-ca on port 443 instead of Port.
	Port443 bool
	Proxy   *url.URL       // an HTTP proxy that is asked to CONNECT; nil: straight
	Roots   *x509.CertPool // nil: the system's store
	MaxTLS  uint16         // tls.VersionTLS12 or tls.VersionTLS13
	// Certificate is required. It is presented whole: AWS registers a
	// certificate just in time only when the CA's comes with it.
	Certificate *tls.Certificate
	// Stall is how long sent data may stay unacknowledged by TCP before the
	// link counts as dead.
	Stall time.Duration
}

func (t Target) port() int {
	if t.Port443 {
		return 443
	}
	return t.Port
}

// Conn is the TLS connection of a successful dial.
type Conn struct {
	*tls.Conn
	Port int
	ALPN string
	// ServerNotBefore is the start of validity of the server's certificate,
	// which was verified: it cannot be earlier now than that.
	ServerNotBefore time.Time
}

// TLSVersion is "1.2" or "1.3".
func (c *Conn) TLSVersion() string {
	if c.ConnectionState().Version == tls.VersionTLS13 {
		return "1.3"
	}
	return "1.2"
}

// Traffic counts the bytes that went over the wire, handshakes included. It
// is safe for concurrent use, and the zero value is ready.
type Traffic struct{ Sent, Received atomic.Int64 }

// Dialer dials targets. It is safe for concurrent use.
type Dialer struct {
	Traffic Traffic
}

// Dial resolves, connects and shakes hands. An error is a *Error, or the
// context's.
func (d *Dialer) Dial(ctx context.Context, t Target) (*Conn, error) {
	raw, err := d.dialTCP(ctx, t)
	if err != nil {
		return nil, asked(ctx, err)
	}
	conn, err := d.handshake(ctx, raw, t)
	if err != nil {
		raw.Close()
		return nil, asked(ctx, err)
	}
	return conn, nil
}

// asked prefers the caller's own reason to stop to what that looked like in
// the network.
func asked(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func (d *Dialer) dialTCP(ctx context.Context, t Target) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, tcpTimeout)
	defer cancel()
	peer := net.JoinHostPort(t.Host, strconv.Itoa(t.port()))
	first := peer
	if t.Proxy != nil {
		first = proxyAddress(t.Proxy)
	}
	// Without TCP's own keep-alive probes: they cost as much as the pings of
	// MQTT do, and a ping that is not acknowledged ends a dead link as they would.
	dialer := net.Dialer{Control: userTimeout(t.Stall), KeepAlive: -1}
	raw, err := dialer.DialContext(ctx, "tcp", first)
	if err != nil {
		var dns *net.DNSError
		switch {
		case t.Proxy != nil: // its name too: what to look at is cloud.proxy, not the endpoint
			return nil, &Error{Proxy, first, err}
		case errors.As(err, &dns):
			return nil, &Error{DNS, first, dns}
		}
		return nil, &Error{TCP, first, err}
	}
	raw = &counted{Conn: raw, traffic: &d.Traffic}
	if t.Proxy != nil {
		if err := connectThrough(ctx, raw, t.Proxy, peer); err != nil {
			raw.Close()
			return nil, &Error{Proxy, first, err}
		}
	}
	return raw, nil
}

func (d *Dialer) handshake(ctx context.Context, raw net.Conn, t Target) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, tlsTimeout)
	defer cancel()
	conn := &Conn{Port: t.port()}
	cfg := &tls.Config{
		ServerName: t.Host,
		MinVersion: tls.VersionTLS12,
		MaxVersion: t.MaxTLS,
		RootCAs:    t.Roots,
		// With Certificates Go sends nothing when the server's request names
		// other CAs than ours; this callback always sends.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return t.Certificate, nil
		},
		VerifyConnection: func(s tls.ConnectionState) error {
			conn.ServerNotBefore = s.PeerCertificates[0].NotBefore
			return nil
		},
	}
	if t.Port443 {
		cfg.NextProtos = []string{alpn443}
	}
	conn.Conn = tls.Client(raw, cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("no TLS handshake within %v: %w", tlsTimeout, err)
		}
		return nil, &Error{TLS, raw.RemoteAddr().String(), err}
	}
	conn.ALPN = conn.ConnectionState().NegotiatedProtocol
	return conn, nil
}

// counted counts what goes through a connection.
type counted struct {
	net.Conn
	traffic *Traffic
}

// NetConn is the connection that is counted, as crypto/tls names it.
func (c *counted) NetConn() net.Conn { return c.Conn }

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.traffic.Received.Add(int64(n))
	return n, err
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.traffic.Sent.Add(int64(n))
	return n, err
}
