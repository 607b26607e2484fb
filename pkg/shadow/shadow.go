package shadow

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Publisher sends a message with QoS 1 and returns after its PUBACK, or with
// an error.
type Publisher interface {
	Publish(ctx context.Context, topic string, payload []byte) error
}

// Subscriber subscribes with QoS 1 and returns the reason codes of the SUBACK,
// one for each filter, or an error where there was no SUBACK.
type Subscriber interface {
	Subscribe(ctx context.Context, filters []string) (reasonCodes []byte, err error)
}

// Session is one MQTT session.
type Session interface {
	Publisher
	Subscriber
}

// Options is what a Shadow needs; all of it.
type Options struct {
	ThingName string
	Interval  time.Duration // of telemetry, as configured

	// Apply makes an interval take effect: a desired one, or the configured one
	// when none is desired any more. It is called from Run.
	Apply func(ctx context.Context, interval time.Duration) error

	// Trouble is told what went wrong, once for each time that it begins; the
	// error wraps one of this package's. It is called from Run.
	Trouble func(error)
}

// State tells how far the shadow is to be trusted.
type State string

// The states. Off is for those who have no Shadow.
const (
	Off        State = "off"
	Synced     State = "synced"      // the cloud has the report, and we have the desired values
	Stale      State = "stale"       // no session, or an answer is missing yet
	ReportOnly State = "report-only" // subscribing is denied: reports go out, nothing comes in
)

// Shadow is the classic shadow of one thing, for as long as the process lives.
// Its methods are safe for concurrent use; Run is called once.
type Shadow struct {
	opts   Options
	topics topics

	inbox chan message
	full  atomic.Bool   // a message found no room in inbox
	wake  chan struct{} // next or configured is another; holds one

	mu         sync.Mutex
	state      State
	version    int64          // of the document; 0 is unknown
	next       *start         // the session that Run has not taken up yet
	configured time.Duration  // the interval of the settings
	override   *time.Duration // the interval that the shadow desires and that is in effect
}

// message is one that came in.
type message struct {
	topic   string
	payload []byte
}

// start is a session and its life.
type start struct {
	ctx     context.Context //nolint:containedctx // the session's life is half of what it is
	session Session
}

// inboxSize is how many messages may wait: a good deal more than AWS lets a
// thing have in flight (10). What finds no room is made good by a get.
const inboxSize = 32

// New makes a Shadow that does nothing until Run.
func New(opts Options) *Shadow {
	return &Shadow{
		opts:       opts,
		topics:     topicsOf(opts.ThingName),
		inbox:      make(chan message, inboxSize),
		wake:       make(chan struct{}, 1),
		state:      Stale,
		configured: opts.Interval,
	}
}

// Start tells of a new session, which lives until ctx ends. It does not block;
// Run subscribes, reports and asks. A session that was told before is over.
func (s *Shadow) Start(ctx context.Context, session Session) {
	s.mu.Lock()
	s.next = &start{ctx, session}
	s.mu.Unlock()
	s.poke()
}

// SetInterval tells of another configured interval. It takes effect, through
// Apply, unless the shadow desires one.
func (s *Shadow) SetInterval(d time.Duration) {
	s.mu.Lock()
	s.configured = d
	s.mu.Unlock()
	s.poke()
}

func (s *Shadow) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Handle takes a message that came in, and tells whether it is one of the
// shadow's. It does not block and keeps the payload, so that it can be called
// from the reader of the session.
func (s *Shadow) Handle(topic string, payload []byte) bool {
	if !strings.HasPrefix(topic, s.topics.get[:len(s.topics.get)-len("get")]) {
		return false
	}
	select {
	case s.inbox <- message{topic, payload}:
	default:
		s.full.Store(true)
		s.poke()
	}
	return true
}

// State is the present state.
func (s *Shadow) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// Version is the newest version of the document that is known, or nil.
func (s *Shadow) Version() *int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.version == 0 {
		return nil
	}
	v := s.version
	return &v
}

// Override is the interval that the shadow desires, where it is in effect.
func (s *Shadow) Override() (interval time.Duration, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.override == nil {
		return 0, false
	}
	return *s.override, true
}

// Run serves one session after the other until ctx ends.
func (s *Shadow) Run(ctx context.Context) {
	w := newWorker(s)
	defer w.close()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.ended():
			w.end()
		case <-s.wake:
			w.awake(ctx)
		case m := <-s.inbox:
			w.receive(ctx, m)
		case <-w.retry.C:
			w.armed = false
			w.again()
		}
		w.settle()
	}
}

// take gives what Start and SetInterval have told since.
func (s *Shadow) take() (next *start, configured time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next, s.next = s.next, nil
	return next, s.configured
}

func (s *Shadow) setState(state State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = state
}

func (s *Shadow) setVersion(v int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version = v
}

func (s *Shadow) setOverride(d *time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.override = d
}
