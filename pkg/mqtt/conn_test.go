package mqtt

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

// secured is both ends of a TLS connection over a pipe. Nothing is buffered in
// between: what is not read blocks the writer.
func secured(t *testing.T) (client, server *tls.Conn) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	server = tls.Server(far, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MaxVersion: tls.VersionTLS12})
	client = tls.Client(near, &tls.Config{InsecureSkipVerify: true})
	shaken := make(chan error, 1)
	go func() { shaken <- server.HandshakeContext(t.Context()) }()
	if err := client.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		near.Close()
		far.Close()
	})
	return client, server
}

// A peer that does not read holds up a Close for a second, whether a packet is
// in its way or only what TLS says at the end: a service has 5 s to stop. The
// time is real: synctest's stands still while somebody waits for a mutex.
func TestCloseDoesNotWaitForThePeer(t *testing.T) {
	t.Parallel()
	for name, blocked := range map[string]bool{"a blocked packet": true, "the end of TLS": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, server := secured(t)
			go func() {
				b := &broker{t, server}
				b.accept(10)
				if !blocked {
					b.read() // the DISCONNECT, and no more
				}
			}()
			s, err := Connect(t.Context(), client, Config{ClientID: "gw-1", KeepAlive: time.Hour, Stall: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			s.Close()
			if took := time.Since(start); took > 3*farewell {
				t.Errorf("Close took %v", took)
			}
		})
	}
}

// Nor does a frame that is refused wait until the peer has heard of it.
func TestRefusedFrameEndsAtOnce(t *testing.T) {
	t.Parallel()
	client, server := secured(t)
	go func() {
		b := &broker{t, server}
		b.accept(10)
		_, _ = server.Write([]byte{packets.PUBLISH << 4, 0xff, 0xff, 0xff, 0x7f})
	}()
	s, err := Connect(t.Context(), client, Config{ClientID: "gw-1", KeepAlive: time.Hour, Stall: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	_ = s.Err() // its text is another test's
	if took := time.Since(start); took > 3*farewell {
		t.Errorf("the end took %v", took)
	}
}
