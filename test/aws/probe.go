package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// probe is one connection, byte by byte: how it ends is the point, and a
// client library would hide it.
type probe struct {
	device   *device
	clientID string // empty: the device's name
	v311     bool   // MQTT 3.1.1; else 5
	tls13    bool   // TLS 1.3; else 1.2, the agent's default
	leafOnly bool   // without the CA behind the certificate
	noSNI    bool   // without the server's name
	mute     bool   // no CONNECT
}

func (p probe) client() string {
	protocol, version := "MQTT 5", "TLS 1.2"
	if p.v311 {
		protocol = "MQTT 3.1.1"
	}
	if p.tls13 {
		version = "TLS 1.3"
	}
	if p.mute {
		protocol = "–"
	}
	return protocol + ", " + version
}

// outcome is how a connection ended, and how long after the CONNECT.
type outcome struct {
	how   string
	after time.Duration
}

// accepted is the outcome of CONNACK 0.
const accepted = "CONNACK 0"

func (o outcome) String() string { return fmt.Sprintf("%s, after %s", o.how, round(o.after)) }

func round(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return "less than 1 ms"
	case d >= time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%d ms", d.Milliseconds())
}

const (
	dialLimit = 20 * time.Second
	// silence is how long a server may say nothing until that is the outcome.
	silence = 20 * time.Second
)

// watched sees whether the peer ended the TCP connection, which TLS does not
// tell from its own end, close_notify.
type watched struct {
	net.Conn
	fin bool
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	w.fin = w.fin || errors.Is(err, io.EOF)
	return n, err
}

// dial makes the TLS connection of a probe. The error is an outcome as well.
func (a *account) dial(ctx context.Context, p probe) (*tls.Conn, *watched, error) {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	tcp, err := (&net.Dialer{}).DialContext(ctx, "tcp", a.endpoint)
	if err != nil {
		return nil, nil, err
	}
	w := &watched{Conn: tcp}
	c := tls.Client(w, a.tlsConfig(p))
	if err := c.HandshakeContext(ctx); err != nil {
		tcp.Close()
		return nil, w, err
	}
	return c, w, nil
}

func (a *account) tlsConfig(p probe) *tls.Config {
	chain := p.device.chain
	if p.leafOnly {
		chain = chain[:1]
	}
	host, _, err := net.SplitHostPort(a.endpoint)
	if err != nil {
		host = a.endpoint
	}
	c := &tls.Config{
		RootCAs: a.roots, ServerName: host, MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12,
		// Whatever CAs the server asks for.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &tls.Certificate{Certificate: chain, PrivateKey: p.device.key}, nil
		},
	}
	if p.tls13 {
		c.MinVersion, c.MaxVersion = tls.VersionTLS13, tls.VersionTLS13
	}
	if p.noSNI {
		// A server that is not told its name may show another one's
		// certificate. Nothing is sent that somebody could use.
		c.ServerName, c.InsecureSkipVerify = "", true
	}
	return c
}

// try makes a probe and tells how it ended. The error is the context's.
func (a *account) try(ctx context.Context, p probe) (outcome, error) {
	begin := time.Now()
	c, w, err := a.dial(ctx, p)
	if ctx.Err() != nil {
		return outcome{}, ctx.Err()
	}
	if err != nil {
		return outcome{ending(err, w) + " in the handshake", time.Since(begin)}, nil
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if p.mute {
		return outcome{"closed by us behind the handshake", time.Since(begin)}, nil
	}
	begin = time.Now()
	if err := c.SetDeadline(begin.Add(silence)); err != nil {
		return outcome{}, err
	}
	if _, err := c.Write(connectPacket(p)); err != nil {
		return outcome{ending(err, w), time.Since(begin)}, ctx.Err()
	}
	var said []string
	for r := bufio.NewReader(c); ; {
		kind, body, err := readPacket(r)
		if err != nil {
			return outcome{strings.Join(append(said, ending(err, w)), ", "), time.Since(begin)}, ctx.Err()
		}
		said = append(said, describe(kind, body))
		if said[len(said)-1] == accepted {
			return outcome{accepted, time.Since(begin)}, nil
		}
	}
}

// connectPacket is a CONNECT: clean, with a keep-alive of 60 s and nothing else
// (MQTT 3.1.1 and 5, section 3.1).
func connectPacket(p probe) []byte {
	id := p.clientID
	if id == "" {
		id = p.device.name
	}
	body := []byte{0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 60, 0}
	if p.v311 {
		body = []byte{0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60}
	}
	body = binary.BigEndian.AppendUint16(body, uint16(len(id)))
	body = append(body, id...)
	return append(binary.AppendUvarint([]byte{0x10}, uint64(len(body))), body...)
}

func readPacket(r *bufio.Reader) (kind byte, body []byte, err error) {
	if kind, err = r.ReadByte(); err != nil {
		return 0, nil, err
	}
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return 0, nil, err
	}
	body = make([]byte, min(n, 1<<16))
	_, err = io.ReadFull(r, body)
	return kind >> 4, body, err
}

// describe names a packet that a server can send to somebody who has only sent
// a CONNECT.
func describe(kind byte, body []byte) string {
	const connack, disconnect = 2, 14
	switch {
	case kind == connack && len(body) >= 2 && body[1] == 0:
		return accepted
	case kind == connack && len(body) >= 2:
		return fmt.Sprintf("CONNACK 0x%02x", body[1])
	case kind == disconnect && len(body) >= 1:
		return fmt.Sprintf("DISCONNECT 0x%02x", body[0])
	}
	return fmt.Sprintf("packet of type %d", kind)
}

// ending names how the connection ended. TLS alerts of the peer are no type of
// their own in crypto/tls.
func ending(err error, w *watched) string {
	op := (*net.OpError)(nil)
	switch {
	case errors.As(err, &op) && op.Op == "remote error":
		return "TLS alert: " + strings.TrimPrefix(op.Err.Error(), "tls: ")
	case errors.Is(err, io.EOF) && w != nil && !w.fin:
		return "close_notify"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "FIN"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "RST"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return "silence"
	}
	return err.Error()
}
