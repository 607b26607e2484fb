package jitr

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/clock"
	"github.com/jitr-agent/jitr-agent/internal/netpath"
	"github.com/jitr-agent/jitr-agent/internal/state"
	"github.com/jitr-agent/jitr-agent/pkg/identity"
	"github.com/jitr-agent/jitr-agent/pkg/mqtt"
)

const (
	// lookAround is how often the agent sees whether its key or certificate was
	// exchanged while it has one that loads.
	lookAround = time.Minute
	// reloadAfter is how often an identity that does not load is tried again
	// although its files are as they were: a TPM can come back by itself.
	reloadAfter = 10 * time.Second
	// linkJitter spreads the attempts of a site whose link came up.
	linkJitter = 2 * time.Second
	// saveEvery bounds the writes of state.json between changes of state, and
	// so does a share of the time that the agent waits already: what a restart
	// forgets of it stays below 5 %, and a long outage does not wear the card (a
	// write a minute is 0.15 GB a day).
	saveEvery = time.Minute
	saveShare = 20
)

// Endpoint is where to connect, and how.
type Endpoint struct {
	Host      string // empty: nothing is configured yet
	Port      int
	Port443   bool // use port 443 with ALPN instead of Port
	Fallback  bool // and do so where Port is blocked
	Proxy     *url.URL
	Roots     *x509.CertPool // nil: the system's store
	MaxTLS    uint16
	KeepAlive time.Duration
	Stall     time.Duration
}

// Identities finds the device key and certificate.
type Identities interface {
	// Load opens them. The caller closes the identity.
	Load(context.Context) (*identity.Identity, error)
	// Stamp is cheap, and differs when the files behind the identity do.
	Stamp() string

	// LoadNext opens the identity that is to replace the present one when it
	// has been proved, nil where there is none. NextStamp is its Stamp.
	LoadNext(context.Context) (*identity.Identity, error)
	NextStamp() string
	// Promote puts the next identity in the place of the present one.
	Promote(ctx context.Context, next *identity.Identity) error
}

// Dialer opens a TLS connection; *netpath.Dialer does.
type Dialer interface {
	Dial(context.Context, netpath.Target) (*netpath.Conn, error)
}

// Config is what a Loop needs. All fields are required but those that say
// otherwise.
type Config struct {
	Endpoint   func() Endpoint // asked before each attempt
	Identities Identities
	Dialer     Dialer
	Store      *state.Store
	Observer   Observer
	Built      time.Time // when this program was built, part of the clock floor

	// Init makes the message that is sent once for each certificate and
	// endpoint.
	Init func(*identity.Identity) mqtt.Message
	// OnMessage takes the server's publishes and must not block. Optional.
	OnMessage func(topic string, payload []byte)
	// Serve uses the session until ctx ends, which it does with the session. It
	// runs from the init's outcome on, at once where no init is due.
	Serve func(ctx context.Context, s *mqtt.Session, id *identity.Identity)

	// NotBefore is the time since boot before which nothing is dialled: an
	// earlier run may have sent a CONNECT just now. Optional.
	NotBefore time.Duration
	// Boot is the time since boot; clock.Boot where nil.
	Boot func() time.Duration
}

// Loop gets in and stays in. Make one with New, then call Run once.
type Loop struct {
	cfg      Config
	wake     chan struct{}
	linkUp   chan struct{}
	clockSet chan struct{}
	pulse    clock.Pulse

	// All below belongs to Run's goroutine.
	snap     Snapshot
	pacer    *Pacer
	initPace *Pacer // of an init that the policy denies

	stamp       string        // of the identity that is loaded, or failed to
	loaded      time.Duration // when that was
	identErr    error
	certificate string // the certificateId that was loaded last

	ladder netpath.Ladder
	began  time.Duration // the last dial
	saved  time.Duration // the last write of state.json

	due       time.Duration // the next attempt with the present identity
	candidate candidate
}

// New makes a loop that goes on where the stored state ended.
func New(cfg Config) *Loop {
	if cfg.Boot == nil {
		cfg.Boot = clock.Boot
	}
	l := &Loop{cfg: cfg, wake: make(chan struct{}, 1), linkUp: make(chan struct{}, 1), clockSet: make(chan struct{}, 1)}
	now, stored := cfg.Boot(), cfg.Store.Get()
	l.pacer = NewPacer(Memory{Steps: stored.Steps, Waiting: time.Duration(stored.WaitingMS) * time.Millisecond}, now, nil)
	l.initPace = NewPacer(Memory{}, now, nil)
	l.pulse.Beat(now)
	l.began = now - MinGap
	if host := stored.Port443Host; host != "" && host == cfg.Endpoint().Host {
		l.ladder.Remember(now)
	}
	l.snap = Snapshot{State: Starting, Since: now, SinceAt: time.Now(), Dialled: cfg.NotBefore - MinGap}
	return l
}

// Wake makes the loop look at configuration and identity and try now, though
// never with more than one CONNECT a second. It is safe for concurrent use.
func (l *Loop) Wake() { tell(l.wake) }

// LinkUp tells that an interface got its carrier, an address or a route. A loop
// that waits because it could not reach anything tries within two seconds. It
// is safe for concurrent use.
func (l *Loop) LinkUp() { tell(l.linkUp) }

// ClockSet tells that somebody set the wall clock. A loop that waits for that
// looks at once. It is safe for concurrent use.
func (l *Loop) ClockSet() { tell(l.clockSet) }

// tell leaves a token where there is none.
func tell(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Idle is the time since the loop last came round: two minutes and a half at
// most, whatever the network does. It is safe for concurrent use.
func (l *Loop) Idle() time.Duration { return l.pulse.Age(l.cfg.Boot()) }

// Run tries until ctx ends, and returns when everything it started has ended.
func (l *Loop) Run(ctx context.Context) {
	defer l.dropIdentity()
	defer l.candidate.drop()
	l.cfg.Observer.Observe(l.snap)
	for ctx.Err() == nil {
		l.round(ctx)
		l.sleep(ctx)
	}
}

// round is one attempt, or one look at what hinders it. It leaves in due when
// the next one is.
func (l *Loop) round(ctx context.Context) {
	endpoint := l.cfg.Endpoint()
	if endpoint.Host != l.snap.Endpoint.Host && l.snap.Endpoint.Host != "" {
		l.pacer.Forget() // what another server said does not count here
		l.snap.Attempts = Attempts{}
		l.ladder = netpath.Ladder{}
	}
	l.snap.Endpoint = endpoint
	l.snap.Endpoint.Port443 = endpoint.Port443 || endpoint.Fallback && l.ladder.On443()
	if endpoint.Host == "" {
		l.unconfigured()
		return
	}
	if err := l.loadIdentity(ctx); err != nil {
		l.failed(Evidence{Phase: PhaseIdentity, Err: err})
		return
	}
	if err := l.checkClock(); err != nil {
		l.failed(Evidence{Phase: PhaseClock, Err: err})
		return
	}
	l.lookForCandidate(ctx)
	if l.candidate.isDue(l.cfg.Boot()) {
		if session, link := l.tryCandidate(ctx); session != nil {
			l.stay(ctx, session, link)
			return
		}
	}
	if l.cfg.Boot() >= l.due && ctx.Err() == nil {
		l.attempt(ctx)
	}
}

// unconfigured waits for an endpoint; whoever sets it wakes the loop.
func (l *Loop) unconfigured() {
	l.due = l.cfg.Boot() + lookAround
	if l.snap.State != WaitingForConfiguration {
		l.enter(WaitingForConfiguration, "", nil)
	}
}

// loadIdentity makes sure that the identity in hand is that of the files.
func (l *Loop) loadIdentity(ctx context.Context) error {
	stamp, now := l.cfg.Identities.Stamp(), l.cfg.Boot()
	if stamp == l.stamp && (l.snap.Identity != nil || l.identErr != nil && now-l.loaded < reloadAfter) {
		return l.identErr
	}
	l.dropIdentity()
	l.stamp, l.loaded = stamp, now
	id, err := l.cfg.Identities.Load(ctx)
	l.identErr = err
	if err != nil {
		return err
	}
	if l.certificate != "" && l.certificate != id.CertificateID() {
		l.pacer.Forget() // what was said of another certificate does not count here
		l.snap.Attempts = Attempts{}
	}
	l.snap.Identity, l.certificate = id, id.CertificateID()
	return nil
}

func (l *Loop) dropIdentity() {
	if l.snap.Identity != nil {
		l.snap.Identity.Close() // the key is loaded anew; an error here has no further consequence
	}
	l.snap.Identity, l.identErr, l.stamp = nil, nil, ""
}

// checkClock compares the wall clock with the floor.
func (l *Loop) checkClock() error {
	floor := clock.Floor(l.cfg.Built, l.snap.Identity.Leaf().NotBefore, l.cfg.Store.Get().ServerNotBefore)
	now := time.Now()
	l.snap.Floor, l.snap.ClockOK = floor, !now.Before(floor)
	if !l.snap.ClockOK {
		return fmt.Errorf("the clock says %s, and it cannot be before %s", now.UTC().Format(time.RFC3339), floor.UTC().Format(time.RFC3339))
	}
	return nil
}

// attempt dials with the present identity, and stays as long as the session
// does.
func (l *Loop) attempt(ctx context.Context) {
	if l.gap(ctx); ctx.Err() != nil {
		return
	}
	l.begin()
	session, link, e := l.open(ctx, l.snap.Identity)
	l.climb(session != nil, e)
	switch {
	case ctx.Err() != nil:
	case session != nil:
		l.stay(ctx, session, link)
	default:
		if e.Phase == PhaseIdentity {
			// The TPM is opened anew, though not at once: each try costs a handshake.
			l.dropIdentity()
			l.stamp, l.loaded, l.identErr = l.cfg.Identities.Stamp(), l.cfg.Boot(), e.Err
		}
		e.Accepted = !l.snap.History.AcceptedAt.IsZero()
		l.failed(e)
	}
}

// stay serves a session to its end, and those that take its place.
func (l *Loop) stay(ctx context.Context, session *mqtt.Session, link *Link) {
	l.snap.Attempts.For = l.pacer.Memory(link.Connected).Waiting // what it took to get in
	for {
		l.snap.Link = link
		end := l.serve(ctx, session)
		l.snap.Link = nil
		if end.session != nil {
			session, link = end.session, end.link
			continue
		}
		proving := l.withdrawCandidate(end.err)
		if ctx.Err() != nil || errors.Is(end.err, errReplaced) || proving {
			l.due = 0
			return
		}
		l.pacer.SessionEnded(l.cfg.Boot() - link.Connected)
		l.failed(Evidence{Phase: PhaseSession, Err: end.err, Accepted: true})
		return
	}
}

// begin counts an attempt.
func (l *Loop) begin() {
	l.pacer.Begin(l.cfg.Boot())
	l.chooseRung()
	select {
	case <-l.linkUp: // this attempt is the answer to it
	default:
	}
	at := time.Now()
	a := &l.snap.Attempts
	if a.Count == 0 {
		a.FirstAt = at
	}
	a.Count++
	a.LastAt = at
	l.snap.Next, l.snap.Step, l.snap.Recovered = 0, 0, nil
	l.recall()
	l.cfg.Observer.Observe(l.snap)
}

// recall reads what this endpoint thinks of the identity in hand.
func (l *Loop) recall() {
	l.snap.History = l.cfg.Store.Get().Histories[state.Key(l.snap.Identity.CertificateID(), l.snap.Endpoint.Host)]
}

// failed turns evidence into a state, and says when to try again.
func (l *Loop) failed(e Evidence) {
	now := l.cfg.Boot()
	e.Now = time.Now()
	if id := l.snap.Identity; id != nil && e.Phase != PhaseClock {
		e.Expired = e.Now.After(id.Leaf().NotAfter)
	}
	v := l.pacer.Failed(e, now)
	l.due = now + v.Wait
	l.snap.Next, l.snap.Step = l.due, v.Step
	l.snap.Attempts.LastPhase, l.snap.Attempts.For = e.Phase, v.For
	l.enter(StateFor(v.Cause, !l.snap.History.AcceptedAt.IsZero()), v.Cause, e.Err)
}

// succeeded starts the schedules anew: the init was acknowledged, or the
// session has lasted.
func (l *Loop) succeeded() {
	took := l.pacer.Succeeded(l.cfg.Boot())
	if l.snap.Attempts.Count > 0 {
		done := l.snap.Attempts
		done.For = took
		l.snap.Recovered = &done
	}
	l.snap.Attempts = Attempts{}
}

// accepted notes that this endpoint takes this certificate.
func (l *Loop) accepted(edit func(*state.History)) {
	if l.snap.History.AcceptedAt.IsZero() {
		l.snap.History.AcceptedAt = time.Now()
	}
	if edit != nil {
		edit(&l.snap.History)
	}
	key := state.Key(l.snap.Identity.CertificateID(), l.snap.Endpoint.Host)
	l.cfg.Store.Change(func(f *state.File) {
		if f.Histories == nil {
			f.Histories = map[string]state.History{}
		}
		f.Histories[key] = l.snap.History
	})
}

// enter tells the observer, and saves what must survive: at once when the
// state changed, else now and then while the agent is not online.
func (l *Loop) enter(s State, cause Cause, err error) {
	now := l.cfg.Boot()
	changed := s != l.snap.State
	if changed {
		l.snap.Since, l.snap.SinceAt = now, time.Now()
	}
	l.snap.State, l.snap.Cause, l.snap.Err = s, cause, err
	if s == Online || s == Initializing || s == WaitingForConfiguration {
		l.snap.Next, l.snap.Step = 0, 0
	}
	l.cfg.Observer.Observe(l.snap)
	l.snap.Recovered = nil
	if changed || s != Online && now-l.saved >= max(saveEvery, l.pacer.Memory(now).Waiting/saveShare) {
		l.save()
	}
}

func (l *Loop) save() {
	now := l.cfg.Boot()
	l.saved = now
	m := l.pacer.Memory(now)
	l.cfg.Store.Change(func(f *state.File) { f.Steps, f.WaitingMS = m.Steps, m.Waiting.Milliseconds() })
	if err := l.cfg.Store.Save(); err != nil {
		l.cfg.Observer.NotSaved(err)
	}
}

// sleep waits until the next attempt is due, somebody wakes the loop, or the
// identity was exchanged. Whoever wakes it wants an attempt now.
func (l *Loop) sleep(ctx context.Context) {
	for {
		now := l.cfg.Boot()
		l.pulse.Beat(now)
		left := l.due - now
		if c := &l.candidate; c.id != nil {
			left = min(left, c.due-now)
		}
		if left <= 0 || ctx.Err() != nil {
			return
		}
		timer := time.NewTimer(min(left, lookAround))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-l.wake:
			timer.Stop()
			l.due, l.candidate.due = 0, 0
			l.loaded = l.cfg.Boot() - reloadAfter // an identity that did not load too
			return
		case <-l.linkUp:
			timer.Stop()
			if rowFor(l.snap.Cause, false).name == "link" {
				// A whole site comes back at once when its switch does.
				l.due = min(l.due, l.cfg.Boot()+time.Duration(rand.Float64()*float64(linkJitter)))
			}
		case <-l.clockSet:
			timer.Stop()
			if l.snap.Cause == Clock {
				l.due = 0
				return
			}
		case <-timer.C:
			if l.snap.Identity != nil && l.cfg.Identities.Stamp() != l.stamp {
				l.due = 0
				return
			}
			l.lookForCandidate(ctx)
		}
	}
}
