package netpath

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"testing"
	"time"
)

// A server that refuses every client certificate sends alert 42, and with
// TLS 1.3 only the first read sees it.
func TestRemoteAlert(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client, server := net.Pipe()
		go func() {
			conn := tls.Server(server, &tls.Config{
				Certificates:     []tls.Certificate{selfSigned(t)},
				ClientAuth:       tls.RequireAnyClientCert,
				MinVersion:       version,
				MaxVersion:       version,
				VerifyConnection: func(tls.ConnectionState) error { return errors.New("refused") },
			})
			_ = conn.HandshakeContext(t.Context()) // it fails, which is what the client is to see
			server.Close()
		}()
		own := selfSigned(t)
		conn := tls.Client(client, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{own}})
		err := conn.HandshakeContext(t.Context())
		if err == nil {
			_, err = conn.Read(make([]byte, 1))
		}
		if alert, ok := RemoteAlert(err); !ok || alert != 42 {
			t.Errorf("TLS %x: RemoteAlert(%v) = %d, %v; want 42, true", version, err, alert, ok)
		}
		client.Close()
	}
	if _, ok := RemoteAlert(io.EOF); ok {
		t.Error("io.EOF is no alert")
	}
}

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
