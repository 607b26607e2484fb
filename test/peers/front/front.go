// Package front is what AWS IoT Core does to a pending certificate, put in
// front of a real broker: it ends the TLS, reads the client's CONNECT, and
// closes; from the activation on it hands everything to the broker.
//
// It judges, so it shares no code with the programs that it judges: it imports
// the standard library only, and reads the TLS records and the CONNECT itself.
package front

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Close is the way in which a pending connection ends.
type Close string

// The ways.
const (
	FIN     Close = "fin"          // after the CONNECT, without a word
	RST     Close = "rst"          // the same, with a reset
	Alert   Close = "alert"        // alert 46, certificate_unknown, in the handshake of TLS 1.2
	CONNACK Close = "connack-0x87" // not authorized
)

// Never is an activation that does not come.
const Never time.Duration = -1

// Config is a front. All of it is needed.
type Config struct {
	Certificate tls.Certificate // for the name localhost
	Broker      string          // host:port of the broker's plain listener
	Close       Close
	// ActivateAfter is the time from the first connection that presents a
	// certificate to the activation.
	ActivateAfter time.Duration
}

// Attempt is one connection, as it came over the wire.
type Attempt struct {
	At           time.Time // TCP accept
	Hello        Hello
	Certificates [][]byte // DER, out of the client's Certificate message
	Connect      *Connect // nil: none came
	LetIn        bool
	Err          error // why it ended before
}

// Front is a running front. Its methods are safe for concurrent use.
type Front struct {
	cfg      Config
	listener net.Listener
	stop     context.CancelFunc
	running  sync.WaitGroup

	mu        sync.Mutex
	attempts  []*Attempt
	activated time.Time // zero: nobody presented a certificate yet
}

// Start listens on a free port of the loopback interface. Close ends it, and so
// does the context.
func Start(ctx context.Context, cfg Config) (*Front, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	f := &Front{cfg: cfg, listener: l, stop: stop}
	f.running.Go(func() {
		defer context.AfterFunc(ctx, func() { l.Close() })()
		f.accept(ctx)
	})
	return f, nil
}

// Port is where it listens.
func (f *Front) Port() string {
	_, port, _ := net.SplitHostPort(f.listener.Addr().String())
	return port
}

// Close ends all connections and waits for them.
func (f *Front) Close() {
	f.stop()
	f.listener.Close()
	f.running.Wait()
}

// Attempts are copies of all connections so far.
func (f *Front) Attempts() []Attempt {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []Attempt
	for _, a := range f.attempts {
		all = append(all, *a)
	}
	return all
}

// Activated is the time of the activation, which may lie ahead. It is zero
// while nobody has presented a certificate, and where it never comes.
func (f *Front) Activated() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.activated
}

func (f *Front) accept(ctx context.Context) {
	for {
		conn, err := f.listener.Accept()
		if err != nil {
			return // closed
		}
		a := &Attempt{At: time.Now()}
		f.mu.Lock()
		f.attempts = append(f.attempts, a)
		f.mu.Unlock()
		f.running.Go(func() {
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			defer conn.Close()
			err := f.serve(ctx, conn.(*net.TCPConn), a)
			f.change(func() { a.Err = err })
		})
	}
}

func (f *Front) change(c func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c()
}

var errPending = errors.New("closed: the certificate is pending")

// serve is one connection.
func (f *Front) serve(ctx context.Context, raw *net.TCPConn, a *Attempt) error {
	tap := &tap{Conn: raw}
	cfg := &tls.Config{
		Certificates: []tls.Certificate{f.cfg.Certificate},
		MinVersion:   tls.VersionTLS12,
		MaxVersion:   tls.VersionTLS12, // in TLS 1.3 the client's certificates are encrypted
		ClientAuth:   tls.RequireAnyClientCert,
		// Here the client's first flight is in, and nothing of it is encrypted.
		VerifyPeerCertificate: func([][]byte, [][]*x509.Certificate) error {
			certificates, err := tap.certificates()
			if err != nil {
				return err
			}
			f.change(func() { a.Certificates = certificates })
			if f.pending() && f.cfg.Close == Alert {
				return tap.alert(46)
			}
			return nil
		},
	}
	conn := tls.Server(tap, cfg)
	err := conn.HandshakeContext(ctx)
	hello, helloErr := tap.hello()
	f.change(func() { a.Hello = hello })
	if err := errors.Join(err, helloErr); err != nil {
		// To close with something unread is a reset, which would overtake the
		// alert.
		_ = raw.CloseWrite()
		_, _ = io.Copy(io.Discard, raw)
		return fmt.Errorf("handshake: %w", err)
	}
	connect, packet, err := readConnect(conn)
	if err != nil {
		return fmt.Errorf("read the CONNECT: %w", err)
	}
	f.change(func() { a.Connect = connect })
	if f.pending() {
		return f.refuse(raw, conn)
	}
	f.change(func() { a.LetIn = true })
	return f.pipe(ctx, conn, packet)
}

// pending says whether the activation has still to come. The first question
// starts the time to it.
func (f *Front) pending() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cfg.ActivateAfter == Never {
		return true
	}
	if f.activated.IsZero() {
		f.activated = time.Now().Add(f.cfg.ActivateAfter)
	}
	return time.Now().Before(f.activated)
}

func (f *Front) refuse(raw *net.TCPConn, conn *tls.Conn) error {
	switch f.cfg.Close {
	case FIN, Alert: // there is nothing more to say; accept closes
	case RST:
		// Closed with a linger of 0, it is a reset.
		if err := raw.SetLinger(0); err != nil {
			return err
		}
	case CONNACK:
		// CONNACK, 3 bytes: no session, not authorized, no properties.
		if _, err := conn.Write([]byte{0x20, 3, 0, 0x87, 0}); err != nil {
			return err
		}
		if err := conn.CloseWrite(); err != nil {
			return err
		}
		// Until the client has read it and closes.
		_, _ = io.Copy(io.Discard, conn)
	}
	return errPending
}

// pipe is the session: all bytes both ways, as they are.
func (f *Front) pipe(ctx context.Context, client *tls.Conn, connect []byte) error {
	broker, err := new(net.Dialer).DialContext(ctx, "tcp", f.cfg.Broker)
	if err != nil {
		return err
	}
	defer broker.Close()
	if _, err := broker.Write(connect); err != nil {
		return err
	}
	done := make(chan error, 2)
	copy := func(to, from net.Conn) {
		_, err := io.Copy(to, from)
		// Each way's end ends the other one.
		to.Close()
		from.Close()
		done <- err
	}
	go copy(broker, client)
	go copy(client, broker)
	return errors.Join(<-done, <-done)
}

// Gaps are the times between connections.
func Gaps(attempts []Attempt) []time.Duration {
	var gaps []time.Duration
	for i, a := range attempts {
		if i > 0 {
			gaps = append(gaps, a.At.Sub(attempts[i-1].At))
		}
	}
	return gaps
}
