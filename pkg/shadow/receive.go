package shadow

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// notFound is the code of "no shadow exists": nobody has desired or reported
// anything yet.
const notFound = 404

// receive handles one message.
func (w *worker) receive(ctx context.Context, m message) {
	t := w.talk
	if t == nil {
		return // of a session that is over
	}
	var e envelope
	if err := json.Unmarshal(m.payload, &e); err != nil {
		w.tell(ErrMessage, fmt.Errorf("%w: %s: %w", ErrMessage, m.topic, err))
		return
	}
	switch m.topic {
	case w.topics.getAccepted:
		w.getAccepted(ctx, e)
	case w.topics.delta:
		w.saw(e.Version)
		if e.Version > t.handled { // deltas may come late, and twice
			w.desire(ctx, e.State, e.Version)
		}
	case w.topics.updateAccepted:
		w.saw(e.Version)
		if e.ClientToken == t.updateWait {
			t.updateWait = ""
		}
		if removesInterval(e.State) {
			w.get() // no delta tells of a desired value that is gone
		}
	case w.topics.getRejected:
		switch {
		case t.getWait == "" || e.ClientToken != t.getWait:
			// Somebody else's request.
		case e.Code == notFound:
			t.getWait, t.got = "", true
			w.forget()
			w.undesire(ctx)
		default:
			w.rejected("get", e)
		}
	case w.topics.updateRejected:
		if t.updateWait != "" && e.ClientToken == t.updateWait {
			w.rejected("update", e)
		}
	}
}

// saw notes a version of the document. The first of a session counts even
// where it is lower than the last of the session before.
func (w *worker) saw(version int64) {
	if version > w.talk.seen {
		w.talk.seen = version
		w.setVersion(version)
	}
}

// forget drops what is known of the versions: the shadow was deleted.
func (w *worker) forget() {
	w.talk.seen, w.talk.handled = 0, 0
	w.setVersion(0)
}

// rejected tells of it; the retry asks again, as what is wrong may pass (429,
// 500) or be put right.
func (w *worker) rejected(verb string, e envelope) {
	w.tell(ErrRejected, fmt.Errorf("%w: %s: %d %s", ErrRejected, verb, e.Code, e.Message))
}

// getAccepted handles the whole document.
//
// An answer to our own get with a version below one that was handled before
// the get was sent can only mean that the shadow was deleted and began anew.
// Any other answer with an older version was overtaken by a delta.
func (w *worker) getAccepted(ctx context.Context, e envelope) {
	t := w.talk
	if e.ClientToken == t.getWait && t.getWait != "" {
		t.getWait, t.got = "", true
		if e.Version < t.getFloor {
			w.forget()
		}
	}
	w.saw(e.Version)
	if e.Version < t.handled {
		return
	}
	desired, _, err := child(e.State, "desired")
	if err != nil {
		w.tell(ErrMessage, fmt.Errorf("%w: %s: %w", ErrMessage, w.topics.getAccepted, err))
		return
	}
	if _, found, err := intervalIn(desired); found != said && err == nil {
		t.handled = e.Version
		w.undesire(ctx)
		return
	}
	w.desire(ctx, desired, e.Version)
}

// desire handles desired values. Keys that we do not know are not our concern.
func (w *worker) desire(ctx context.Context, state json.RawMessage, version int64) {
	w.talk.handled = version
	text, found, err := intervalIn(state)
	if err == nil && found != said {
		return
	}
	var d time.Duration
	if err == nil {
		d, err = parseInterval(text)
	}
	if err != nil {
		// Not reported back: the report would make a new version and a new
		// delta of the same value, and so on without an end.
		w.tell(ErrDesired, fmt.Errorf("%w: %w; telemetry.interval stays %s", ErrDesired, err, w.text))
		return
	}
	delete(w.told, ErrDesired)
	if d != w.interval || !w.desired {
		if !w.apply(ctx, d) {
			return
		}
	}
	// Reported as it was written: the cloud compares texts, not durations, and
	// "1m" for "60s" would be a difference for ever.
	w.desired, w.text = true, text
	w.setOverride(&d)
	w.report()
}

// undesire goes back to the configured interval, where the shadow's was in
// effect.
func (w *worker) undesire(ctx context.Context) {
	delete(w.told, ErrDesired)
	if w.desired {
		w.revert(ctx)
	}
}

// revert makes the configured interval take effect.
func (w *worker) revert(ctx context.Context) {
	if !w.apply(ctx, w.configured) {
		return
	}
	w.desired, w.text = false, formatInterval(w.configured)
	w.setOverride(nil)
	w.report()
}

// apply makes an interval take effect, and tells whether it did.
func (w *worker) apply(ctx context.Context, d time.Duration) bool {
	if err := w.opts.Apply(ctx, d); err != nil {
		w.tell(ErrApply, fmt.Errorf("%w: telemetry.interval %s: %w", ErrApply, formatInterval(d), err))
		return false
	}
	delete(w.told, ErrApply)
	w.interval = d
	return true
}

// removesInterval tells whether an accepted update took the desired interval
// away.
func removesInterval(state json.RawMessage) bool {
	desired, found, err := child(state, "desired")
	if found == said && err == nil {
		_, found, err = intervalIn(desired)
	}
	return found == removed && err == nil && string(state) != "null"
}
