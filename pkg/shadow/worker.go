package shadow

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"
)

// A request without an answer is sent again after firstRetry, then after twice
// as long each time, at most lastRetry. AWS answers within a second; an answer
// that does not come is one that a policy does not let through.
const (
	firstRetry = 30 * time.Second
	lastRetry  = 10 * time.Minute
)

// worker is what Run's goroutine alone knows.
type worker struct {
	*Shadow
	interval   time.Duration // in effect
	text       string        // the interval as it is, or is to be, reported
	configured time.Duration // that was taken up last
	desired    bool          // the interval is the shadow's
	tokens     int
	tokenBase  string
	told       map[error]string // what Trouble was told last, of each kind

	retry *time.Timer
	armed bool
	delay time.Duration

	talk *talk // nil without a session
}

// talk is the state of one session.
type talk struct {
	ctx    context.Context //nolint:containedctx // ends with the session, or with Run
	cancel func()
	with   Session

	subscribed bool
	denied     bool   // not every filter was granted
	reported   string // the interval that was sent last
	updateWait string // the token of the report without an answer
	got        bool   // a get was answered
	getWait    string // the token of the get without an answer
	getFloor   int64  // handled, when that get was sent
	seen       int64  // the newest version of the document
	handled    int64  // the version whose desired values were handled last
}

func newWorker(s *Shadow) *worker {
	w := &worker{
		Shadow:     s,
		interval:   s.opts.Interval,
		text:       formatInterval(s.opts.Interval),
		configured: s.opts.Interval,
		tokenBase:  "jitr-" + rand.Text()[:8],
		told:       map[error]string{},
		retry:      time.NewTimer(0),
		delay:      firstRetry,
	}
	w.retry.Stop()
	return w
}

func (w *worker) close() {
	w.end()
	w.retry.Stop()
}

// ended is closed when the session is over; nil without one.
func (w *worker) ended() <-chan struct{} {
	if w.talk == nil {
		return nil
	}
	return w.talk.ctx.Done()
}

func (w *worker) end() {
	if w.talk != nil {
		w.talk.cancel()
		w.talk = nil
	}
}

// awake takes up what was told from outside.
func (w *worker) awake(ctx context.Context) {
	next, configured := w.take()
	if next != nil {
		w.begin(ctx, next)
	}
	if configured != w.configured {
		w.configured = configured
		if !w.desired {
			w.revert(ctx)
		}
	}
	if w.full.Swap(false) {
		w.get()
	}
}

// begin starts the talk of a new session: subscribe, then report, then ask.
func (w *worker) begin(ctx context.Context, next *start) {
	w.end()
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(next.ctx, cancel)
	w.talk = &talk{ctx: ctx, with: next.session, cancel: func() { stop(); cancel() }}
	w.full.Store(false)
	for len(w.inbox) > 0 {
		<-w.inbox // of the session before
	}
	w.disarm()
	w.setState(Stale)
	w.open()
}

// open subscribes, before anything is published that could be answered.
func (w *worker) open() {
	filters := w.topics.filters()
	codes, err := w.talk.with.Subscribe(w.talk.ctx, filters)
	if err != nil {
		w.failed(fmt.Errorf("%w: subscribe: %w", ErrPublish, err))
		return
	}
	w.talk.subscribed = true
	var denied []string
	for i, filter := range filters {
		if i >= len(codes) || codes[i] >= 0x80 {
			denied = append(denied, filter)
		}
	}
	if w.talk.denied = len(denied) > 0; w.talk.denied {
		w.tell(ErrDenied, fmt.Errorf("%w: the policy of this certificate denies subscribing to %s; reports are sent all the same, desired values are not seen; allow iot:Subscribe and iot:Receive on the shadow's topics",
			ErrDenied, strings.Join(denied, ", ")))
	} else {
		delete(w.told, ErrDenied)
	}
	w.report()
	w.get()
}

// report sends the interval in effect, unless it was sent already.
func (w *worker) report() {
	t := w.talk
	if t == nil || !t.subscribed || t.reported == w.text {
		return
	}
	token := w.token()
	if err := t.with.Publish(t.ctx, w.topics.update, reportPayload(w.text, token)); err != nil {
		w.failed(fmt.Errorf("%w: report: %w", ErrPublish, err))
		return
	}
	t.reported = w.text
	if !t.denied {
		t.updateWait = token
	}
}

// get asks for the whole document, where the answer can be heard.
func (w *worker) get() {
	t := w.talk
	if t == nil || !t.subscribed || t.denied {
		return
	}
	token := w.token()
	t.getWait, t.getFloor = token, t.handled // before the answer can come
	if err := t.with.Publish(t.ctx, w.topics.get, getPayload(token)); err != nil {
		w.failed(fmt.Errorf("%w: get: %w", ErrPublish, err))
	}
}

// again repeats what has no answer yet.
func (w *worker) again() {
	t := w.talk
	switch {
	case t == nil:
	case !t.subscribed:
		w.open()
	default:
		if t.updateWait != "" {
			t.reported, t.updateWait = "", ""
		}
		w.report()
		if t.getWait != "" || !t.got {
			w.get()
		}
	}
}

// settle tells the state, and sees to it that what is missing is asked again.
func (w *worker) settle() {
	t := w.talk
	switch {
	case t == nil:
		w.disarm()
		w.setState(Stale)
		return
	case t.subscribed && t.reported == w.text && t.denied:
		w.disarm()
		w.setState(ReportOnly)
		return
	case t.subscribed && t.reported == w.text && t.updateWait == "" && t.got && t.getWait == "":
		w.disarm()
		w.setState(Synced)
		delete(w.told, ErrPublish)
		delete(w.told, ErrRejected)
		return
	case t.denied:
		w.setState(ReportOnly)
	default:
		w.setState(Stale)
	}
	if !w.armed {
		w.retry.Reset(w.delay)
		w.armed = true
		w.delay = min(2*w.delay, lastRetry)
	}
}

func (w *worker) disarm() {
	w.retry.Stop()
	w.armed = false
	w.delay = firstRetry
}

// token is a client token that nobody else uses; AWS takes 64 bytes.
func (w *worker) token() string {
	w.tokens++
	return fmt.Sprintf("%s-%d", w.tokenBase, w.tokens)
}

// failed tells of an error of the session, unless it is that it is over.
func (w *worker) failed(err error) {
	if w.talk.ctx.Err() == nil {
		w.tell(ErrPublish, err)
	}
}

// tell passes on what is new of its kind.
func (w *worker) tell(kind, err error) {
	if text := err.Error(); w.told[kind] != text {
		w.told[kind] = text
		w.opts.Trouble(err)
	}
}
