package jitr

import (
	"context"
	"errors"
	"time"

	"github.com/jitr-agent/jitr-agent/pkg/identity"
	"github.com/jitr-agent/jitr-agent/pkg/mqtt"
)

// candidate is an identity that is installed beside the present one. It is
// proved before it takes that one's place: tried with the same client id, since
// policies are bound to it, while the present session stays up. A server that
// lets it in ends that session by itself.
type candidate struct {
	stamp   string
	id      *identity.Identity // nil: there is none, or it does not load
	pacer   *Pacer
	due     time.Duration      // since boot: the next trial
	present *identity.Identity // the one in use before, while a session of the candidate's runs
}

// News is what there is to say about a candidate.
type News struct {
	Identity *identity.Identity // nil where it does not load
	Cause    Cause              // why it was not let in
	Err      error
	Next     time.Duration // since boot: the next trial
	For      time.Duration // since the first one
	Replaced string        // it was proved, and took the place of this certificate
}

func (c *candidate) isDue(now time.Duration) bool {
	return c.id != nil && c.present == nil && now >= c.due
}

func (c *candidate) drop() {
	if c.id != nil {
		c.id.Close() // nothing was written with it
	}
	*c = candidate{}
}

// lookForCandidate loads what is installed beside the present identity, when
// its files have changed.
func (l *Loop) lookForCandidate(ctx context.Context) {
	c := &l.candidate
	stamp := l.cfg.Identities.NextStamp()
	if stamp == c.stamp || c.present != nil {
		return
	}
	c.drop()
	c.stamp, c.pacer = stamp, NewPacer(Memory{}, l.cfg.Boot(), nil)
	id, err := l.cfg.Identities.LoadNext(ctx)
	if err != nil {
		l.cfg.Observer.Candidate(News{Err: err})
		return
	}
	c.id = id
}

// never is a wait for what only a change can end.
const never = time.Duration(1<<63 - 1)

// untilCandidate is how long until a trial is due.
func (l *Loop) untilCandidate(ctx context.Context) time.Duration {
	l.lookForCandidate(ctx)
	if l.candidate.id == nil || l.candidate.present != nil {
		return never
	}
	return max(0, l.candidate.due-l.cfg.Boot())
}

// tryCandidate makes one attempt with it. When it is let in, it is the identity
// in hand from then on, until proved or withdrawCandidate.
func (l *Loop) tryCandidate(ctx context.Context) (*mqtt.Session, *Link) {
	c := &l.candidate
	if l.gap(ctx); ctx.Err() != nil {
		return nil, nil
	}
	c.pacer.Begin(l.cfg.Boot())
	session, link, e := l.open(ctx, c.id)
	switch {
	case ctx.Err() != nil:
		if session != nil {
			session.Close()
		}
		return nil, nil
	case session == nil:
		l.candidateFailed(e)
		return nil, nil
	}
	c.present, l.snap.Identity = l.snap.Identity, c.id
	l.recall()
	return session, link
}

func (l *Loop) candidateFailed(e Evidence) {
	c := &l.candidate
	now := l.cfg.Boot()
	e.Now = time.Now()
	e.Expired = e.Now.After(c.id.Leaf().NotAfter)
	v := c.pacer.Failed(e, now)
	c.due = now + v.Wait
	l.cfg.Observer.Candidate(News{Identity: c.id, Cause: v.Cause, Err: e.Err, Next: c.due, For: v.For})
}

// proved makes the candidate whose session runs the identity: it was accepted.
func (l *Loop) proved(ctx context.Context) {
	c := &l.candidate
	if c.present == nil {
		return
	}
	if err := l.cfg.Identities.Promote(ctx, c.id); err != nil {
		// It stays in use, and beside the old one on disk; a restart proves it
		// again.
		l.cfg.Observer.Candidate(News{Identity: c.id, Err: err})
	} else {
		l.cfg.Observer.Candidate(News{Identity: c.id, Replaced: c.present.CertificateID()})
	}
	c.present.Close() // its key is not used any more
	*c = candidate{stamp: l.cfg.Identities.NextStamp()}
	l.stamp = l.cfg.Identities.Stamp()
}

// withdrawCandidate goes back to the present identity when the session of a
// candidate ended before it was proved, and reports whether that was so.
func (l *Loop) withdrawCandidate(err error) bool {
	c := &l.candidate
	if c.present == nil {
		return false
	}
	l.snap.Identity, c.present = c.present, nil
	l.recall()
	if errors.Is(err, context.Canceled) || errors.Is(err, errReplaced) {
		return true // we ended it ourselves
	}
	l.candidateFailed(Evidence{Phase: PhaseSession, Err: err, Accepted: true})
	return true
}
