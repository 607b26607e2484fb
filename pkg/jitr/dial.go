package jitr

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"io"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/netpath"
	"github.com/jitr-agent/jitr-agent/internal/state"
	"github.com/jitr-agent/jitr-agent/pkg/identity"
	"github.com/jitr-agent/jitr-agent/pkg/mqtt"
)

// climb tells the ladder what came of a dial.
func (l *Loop) climb(session bool, e Evidence) {
	switch {
	case session, e.Phase == PhaseConnack:
		l.ladder.Reached()
	case e.Phase == PhaseTCP, e.Phase == PhaseTLS && Classify(e) == Network:
		l.ladder.Blocked()
	case e.Phase == PhaseTLS:
		l.ladder.Reached()
	}
	host := ""
	if l.ladder.On443() {
		host = l.snap.Endpoint.Host
	}
	l.cfg.Store.Change(func(f *state.File) { f.Port443Host = host })
}

// chooseRung is the port for the dial that follows. An endpoint with a port of
// its own has no other one.
func (l *Loop) chooseRung() {
	e := &l.snap.Endpoint
	if !e.Fallback || e.Port != 8883 {
		return
	}
	e.Port443 = l.ladder.Port443(l.cfg.Boot())
}

// gap waits until another CONNECT may be sent, and another handshake made:
// somebody who sends SIGUSR1 in a loop is no reason to hammer the server.
func (l *Loop) gap(ctx context.Context) {
	timer := time.NewTimer(max(l.snap.Dialled, l.began) + MinGap - l.cfg.Boot())
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// open dials and sends the CONNECT. Without a session it says what it met; when
// ctx has ended it gives neither.
func (l *Loop) open(ctx context.Context, id *identity.Identity) (*mqtt.Session, *Link, Evidence) {
	l.began = l.cfg.Boot()
	endpoint := l.snap.Endpoint
	failed := func(phase Phase, err error) (*mqtt.Session, *Link, Evidence) {
		return nil, nil, Evidence{Phase: phase, Err: err}
	}
	certificate := *id.TLSCertificate()
	signer := &watchedSigner{Signer: certificate.PrivateKey.(crypto.Signer)}
	certificate.PrivateKey = signer
	conn, err := l.cfg.Dialer.Dial(ctx, netpath.Target{
		Host: endpoint.Host, Port: endpoint.Port, Port443: endpoint.Port443, Proxy: endpoint.Proxy,
		Roots: endpoint.Roots, MaxTLS: maxTLS(endpoint.MaxTLS, &certificate), Certificate: &certificate, Stall: endpoint.Stall,
	})
	switch {
	case signer.err != nil:
		if err == nil {
			conn.Close()
		}
		return failed(PhaseIdentity, signer.err)
	case err != nil:
		phase := PhaseTLS
		if dial := new(netpath.Error); errors.As(err, &dial) {
			phase = Phase(dial.Phase)
		}
		return failed(phase, err)
	}
	l.raiseFloor(conn.ServerNotBefore)

	// The observer writes it down first: whoever is killed now is started again,
	// and must keep its distance from this CONNECT.
	l.snap.Dialled = l.cfg.Boot()
	l.cfg.Observer.Observe(l.snap)
	session, err := mqtt.Connect(ctx, conn, mqtt.Config{
		ClientID: id.ThingName, KeepAlive: endpoint.KeepAlive, Stall: endpoint.Stall, OnMessage: l.cfg.OnMessage,
	})
	if err != nil {
		return failed(PhaseConnack, err)
	}
	return session, &Link{
		Port: conn.Port, ALPN: conn.ALPN, TLSVersion: conn.TLSVersion(),
		ConnectedAt: time.Now(), Connected: l.cfg.Boot(), ReceiveMaximum: session.ReceiveMaximum(),
	}, Evidence{}
}

func (l *Loop) raiseFloor(serverNotBefore time.Time) {
	l.cfg.Store.Change(func(f *state.File) {
		if serverNotBefore.After(f.ServerNotBefore) {
			f.ServerNotBefore = serverNotBefore
		}
	})
}

// maxTLS keeps a key out of TLS 1.3 that cannot sign there: an RSA key in a TPM
// has no PSS signatures, and TLS 1.3 no others for RSA.
func maxTLS(configured uint16, c *tls.Certificate) uint16 {
	if len(c.SupportedSignatureAlgorithms) == 1 && c.SupportedSignatureAlgorithms[0] == tls.PKCS1WithSHA256 {
		return min(configured, tls.VersionTLS12)
	}
	return configured
}

// watchedSigner keeps the error of a signature: crypto/tls reports a failed
// handshake without it.
type watchedSigner struct {
	crypto.Signer
	err error
}

func (s *watchedSigner) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	signature, err := s.Signer.Sign(rand, digest, opts)
	s.err = err
	return signature, err
}
