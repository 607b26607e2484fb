package jitr

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/state"
	"github.com/jitr-agent/jitr-agent/pkg/mqtt"
)

// errReplaced: key, certificate or endpoint were exchanged under a session.
var errReplaced = errors.New("the identity or the endpoint was replaced")

// ended is how a session ended: with an error, or because the session of a
// candidate took its place.
type ended struct {
	err     error
	session *mqtt.Session
	link    *Link
}

// serve stays with a session until it ends. It sends the init where one is
// due, notes acceptance and success, and tries a candidate when it is due.
func (l *Loop) serve(ctx context.Context, session *mqtt.Session) ended {
	id := l.snap.Identity
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
	var (
		acks  = make(chan ack, 1)
		asked bool // an init waits for its PUBACK
	)
	sendInit := func() {
		message := l.cfg.Init(id)
		asked = true
		work.Go(func() {
			// Not inner: its end must not hide a PUBACK that came. The session's
			// end, for which serve always cares, is enough.
			code, err := session.Publish(context.WithoutCancel(ctx), message)
			acks <- ack{code, err}
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
	candidate := time.NewTimer(0)
	defer candidate.Stop()

	acked := func(a ack) {
		asked = false
		switch {
		case a.err != nil: // the session is ending
			return
		case a.code < 0x80:
			l.accepted(func(h *state.History) { h.InitAt = time.Now() })
			l.initPace.Forget()
			l.succeeded()
			l.save() // before all else: who is killed before it sends the init again
			l.proved(ctx)
			l.enter(Online, "", nil)
		default:
			again.Reset(l.initPace.Failed(Evidence{Phase: PhaseSession, Err: &mqtt.Refused{Code: 0x87}, Accepted: true}, l.cfg.Boot()).Wait)
			l.accepted(nil)
			l.proved(ctx)
			l.enter(Initializing, initCause(a.code), fmt.Errorf("PUBACK 0x%02X (%s) to the init message", a.code, mqtt.CodeName(a.code)))
		}
		l.save()
		startServing()
	}
	// A PUBACK may come together with the end; forgotten, the init would be sent
	// twice. Where a candidate took over, nobody asks for this init any more.
	defer func() {
		if asked && l.snap.Identity == id {
			acked(<-acks)
		}
	}()

	for {
		l.pulse.Beat(l.cfg.Boot())
		select {
		case <-session.Done():
			return ended{err: session.Err()}
		case <-ctx.Done():
			session.Close()
			return ended{err: ctx.Err()}
		case a := <-acks:
			acked(a)
		case <-again.C:
			sendInit()
		case <-lasted.C:
			l.accepted(nil)
			l.succeeded()
			l.proved(ctx)
			l.enter(l.snap.State, l.snap.Cause, l.snap.Err)
			l.save()
			startServing()
		case <-l.wake:
			l.candidate.due = 0
			look.Reset(lookAround)
			if l.replaced() {
				session.Close()
				return ended{err: errReplaced}
			}
			candidate.Reset(l.untilCandidate(ctx))
		case <-look.C:
			if l.replaced() {
				session.Close()
				return ended{err: errReplaced}
			}
			candidate.Reset(l.untilCandidate(ctx))
		case <-candidate.C:
			if l.candidate.isDue(l.cfg.Boot()) {
				if next, link := l.tryCandidate(ctx); next != nil {
					session.Close() // the server has ended it already: one client id, one session
					return ended{session: next, link: link}
				}
			}
			candidate.Reset(l.untilCandidate(ctx))
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
