package jitr

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/state"
	"github.com/jitr-agent/jitr-agent/pkg/identity"
	"github.com/jitr-agent/jitr-agent/pkg/mqtt"
)

// errReplaced: key, certificate or endpoint were exchanged under a session.
var errReplaced = errors.New("the identity or the endpoint was replaced")

// serve stays with a session until it ends, and returns why it did. It sends
// the init where one is due, and notes acceptance and success.
func (l *Loop) serve(ctx context.Context, session *mqtt.Session, id *identity.Identity) error {
	inner, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	startServing := sync.OnceFunc(func() {
		work.Go(func() { l.cfg.Serve(inner, session, id) })
	})

	type ack struct {
		code byte
		err  error
	}
	acks := make(chan ack)
	sendInit := func() {
		message := l.cfg.Init(id)
		work.Go(func() {
			code, err := session.Publish(inner, message)
			select {
			case acks <- ack{code, err}:
			case <-inner.Done():
			}
		})
	}
	again := time.NewTimer(0)
	again.Stop()
	defer again.Stop()

	if l.snap.History.InitAt.IsZero() {
		l.enter(Initializing, "", nil)
		sendInit()
	} else {
		l.enter(Online, "", nil)
		startServing()
	}
	lasted := time.NewTimer(LongSession)
	defer lasted.Stop()
	look := time.NewTicker(lookAround)
	defer look.Stop()

	for {
		select {
		case <-session.Done():
			return session.Err()
		case <-ctx.Done():
			session.Close()
			return ctx.Err()
		case a := <-acks:
			if a.err != nil {
				continue // the session is ending
			}
			if a.code < 0x80 {
				l.accepted(func(h *state.History) { h.InitAt = time.Now() })
				l.initSteps.reset()
				l.succeeded()
				l.enter(Online, "", nil)
			} else {
				wait := l.initSteps.at(rowFor(NotAuthorized, false), 0).NextBackOff()
				again.Reset(wait)
				l.accepted(nil)
				l.enter(Initializing, initCause(a.code), fmt.Errorf("PUBACK 0x%02X (%s) to the init message", a.code, mqtt.CodeName(a.code)))
			}
			l.save()
			startServing()
		case <-again.C:
			sendInit()
		case <-lasted.C:
			l.accepted(nil)
			l.succeeded()
			l.enter(l.snap.State, l.snap.Cause, l.snap.Err)
			l.save()
			startServing()
		case <-l.wake:
			if l.replaced() {
				session.Close()
				return errReplaced
			}
		case <-look.C:
			if l.replaced() {
				session.Close()
				return errReplaced
			}
		}
	}
}

// initCause is the cause that a refused init gives the state: a policy that
// denies the topic has one, anything else has only its sentence.
func initCause(code byte) Cause {
	if code == 0x87 {
		return NotAuthorized
	}
	return ""
}

func (l *Loop) replaced() bool {
	return l.cfg.Identities.Stamp() != l.stamp || l.cfg.Endpoint().Host != l.snap.Endpoint.Host
}
