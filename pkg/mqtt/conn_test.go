package mqtt

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

// selfSigned is a server's configuration, of TLS 1.2 as AWS IoT has it.
func selfSigned(t testing.TB) *tls.Config {
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
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MaxVersion: tls.VersionTLS12}
}

// secured is both ends of a TLS connection over a pipe. Nothing is buffered in
// between: what is not read blocks the writer.
func secured(t *testing.T) (client, server *tls.Conn) {
	t.Helper()
	near, far := net.Pipe()
	server = tls.Server(far, selfSigned(t))
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
// in its way, so many that no more are taken, or only what TLS says at the end:
// a service has 5 s to stop. The time is real: synctest's stands still while
// somebody waits for a mutex.
func TestCloseDoesNotWaitForThePeer(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		reads int // packets behind the CONNECT
		sent  int // messages of 32 KiB
	}{
		"a blocked packet": {0, 0},
		"a full buffer":    {0, 10},
		"the end of TLS":   {1, 0}, // behind the DISCONNECT
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, server := secured(t)
			go func() {
				b := &broker{t, server}
				b.accept(20)
				for range tt.reads {
					b.read()
				}
			}()
			s, err := Connect(t.Context(), client, Config{ClientID: "gw-1", KeepAlive: time.Hour, Stall: 5 * farewell})
			if err != nil {
				t.Fatal(err)
			}
			var senders sync.WaitGroup
			for range tt.sent {
				senders.Go(func() {
					_ = s.Send(t.Context(), Message{Topic: "t", Payload: make([]byte, 32<<10)}, func(byte, error) {})
				})
			}
			if tt.sent > 0 {
				waitFor(t, func() bool {
					s.conn.mu.Lock()
					defer s.conn.mu.Unlock()
					return s.conn.room != nil
				})
			}
			start := time.Now()
			s.Close()
			if took := time.Since(start); took > 3*farewell {
				t.Errorf("Close took %v", took)
			}
			senders.Wait()
		})
	}
}

// waitFor yields until condition holds.
func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	for !condition() {
		if t.Context().Err() != nil {
			t.Fatal("waited in vain")
		}
		runtime.Gosched()
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
