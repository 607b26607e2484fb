package netpath

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"testing"
	"time"
)

// authority is a CA of a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{}
	made := issue(t, name, nil, nil)
	a.key = made.PrivateKey.(*ecdsa.PrivateKey)
	a.cert = made.Leaf
	return a
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// issue makes a certificate for the DNS names, with the CA's behind it; a CA's
// own where by is nil.
func issue(t *testing.T, cn string, names []string, by *authority) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: cn}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, IsCA: by == nil,
	}
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	made := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
	if by != nil {
		made.Certificate = append(made.Certificate, by.cert.Raw)
	}
	return made
}

// listen serves connections until the test ends, and returns where.
func listen(t *testing.T, serve func(net.Conn)) (host string, port int) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer conn.Close()
				stop := context.AfterFunc(t.Context(), func() { conn.Close() }) // before the cleanups run
				defer stop()
				serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		work.Wait()
	})
	address := l.Addr().(*net.TCPAddr)
	return address.IP.String(), address.Port
}

// endpoint is a TLS server as AWS IoT Core is one, and what it saw.
type endpoint struct {
	ca     *authority
	device tls.Certificate
	host   string // a name in the certificate, and one that resolves
	port   int
	seen   chan tls.ConnectionState // one for each handshake that succeeded
}

// newEndpoint serves with cfg, which may leave everything out.
func newEndpoint(t *testing.T, cfg *tls.Config) *endpoint {
	t.Helper()
	e := &endpoint{
		ca: newAuthority(t, "server CA"), device: issue(t, "gw-1", nil, newAuthority(t, "device CA")),
		host: "localhost", seen: make(chan tls.ConnectionState, 10),
	}
	cfg.Certificates = []tls.Certificate{issue(t, "endpoint", []string{e.host}, e.ca)}
	cfg.ClientAuth = tls.RequireAnyClientCert
	_, e.port = listen(t, func(conn net.Conn) {
		server := tls.Server(conn, cfg)
		if server.HandshakeContext(t.Context()) != nil {
			return
		}
		e.seen <- server.ConnectionState()
		_, _ = io.Copy(server, server) // an echo, until the client has enough
	})
	return e
}

func (e *endpoint) target() Target {
	return Target{
		Host: e.host, Port: e.port, Roots: e.ca.pool(), MaxTLS: tls.VersionTLS12,
		Certificate: &e.device, Stall: 20 * time.Second,
	}
}

// proxy answers CONNECT, and says what it was asked.
type proxy struct {
	*url.URL
	asked chan *http.Request
}

// newProxy sends answer; after one of "200" it tunnels to the port of to.
func newProxy(t *testing.T, answer string, to *endpoint) *proxy {
	t.Helper()
	p := &proxy{asked: make(chan *http.Request, 10)}
	host, port := listen(t, func(conn net.Conn) {
		reader := bufio.NewReader(conn)
		request, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		p.asked <- request
		if _, err := io.WriteString(conn, answer); err != nil || to == nil {
			_, _ = io.Copy(io.Discard, conn) // silence
			return
		}
		far, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", "127.0.0.1:"+strconv.Itoa(to.port))
		if err != nil {
			t.Error(err)
			return
		}
		defer far.Close()
		var back sync.WaitGroup
		back.Go(func() {
			_, _ = io.Copy(conn, far)
			conn.Close()
		})
		_, _ = io.Copy(far, reader)
		far.Close()
		back.Wait()
	})
	p.URL = &url.URL{Scheme: "http", Host: net.JoinHostPort(host, strconv.Itoa(port))}
	return p
}
