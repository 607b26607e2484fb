package telemetry

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/clock"
)

// Source is something that can be measured.
type Source interface {
	// Name is the source's segment of the topic, and its name in the message.
	Name() string
	// Measure gives the values that there are. Beside an error the values that
	// it does give are good.
	Measure(ctx context.Context) (map[string]any, error)
}

// Publisher takes a message over. It must not block for long: the next
// measurement waits for it.
type Publisher interface {
	Publish(ctx context.Context, topic string, payload []byte) error
}

// ReporterOptions is what a Reporter needs. All fields are needed, but those
// that say what their zero value is.
type ReporterOptions struct {
	Sources      []Source
	Topic        func(source string) string // the topic of a source's messages
	Interval     time.Duration              // between two measurements; above 0
	Publisher    Publisher
	BootID       string      // of the running kernel
	Synchronized func() bool // whether the wall clock is to be trusted

	// Trouble is told when measuring or publishing a source begins to fail, or
	// fails in another way, and with nil when it works again; never for every
	// measurement. It is called from Run.
	Trouble func(source string, err error)

	BootTime func() time.Duration // nil: CLOCK_BOOTTIME
	Now      func() time.Time     // the wall clock; nil: time.Now
}

// Reporter measures its sources at an interval. Its methods are safe for
// concurrent use; Run is called once.
type Reporter struct {
	opts     ReporterOptions
	sources  atomic.Pointer[[]Source]
	interval atomic.Int64
	changed  chan struct{}     // the interval is another; holds one
	trouble  map[string]string // the failure of each source that was told last; Run's
}

// NewReporter makes a Reporter that does nothing until Run.
func NewReporter(opts ReporterOptions) *Reporter {
	if opts.BootTime == nil {
		opts.BootTime = clock.Boot
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	r := &Reporter{opts: opts, changed: make(chan struct{}, 1), trouble: map[string]string{}}
	r.interval.Store(int64(opts.Interval))
	r.sources.Store(&opts.Sources)
	return r
}

// SetSources changes what is measured, from the next time on.
func (r *Reporter) SetSources(sources []Source) { r.sources.Store(&sources) }

// Interval is the interval in effect.
func (r *Reporter) Interval() time.Duration { return time.Duration(r.interval.Load()) }

// SetInterval changes the interval, at once: the next measurement comes d
// after the last one, or now where that is over. d is above 0.
func (r *Reporter) SetInterval(d time.Duration) {
	if r.interval.Swap(int64(d)) == int64(d) {
		return
	}
	select {
	case r.changed <- struct{}{}:
	default: // Run has not seen the last change yet, and will see this one with it
	}
}

// Run measures at once and then at the interval, until ctx ends. The cadence
// does not drift with the time that a measurement takes; measurements that
// were missed are not made up for. The timer is the monotonic one, which no
// step of the wall clock moves; while the gateway sleeps it stands still.
func (r *Reporter) Run(ctx context.Context) {
	last := time.Now()
	r.report(ctx)
	timer := time.NewTimer(r.untilNext(last))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.changed:
		case <-timer.C:
			interval := r.Interval()
			if last = last.Add(interval); time.Since(last) >= interval {
				last = time.Now()
			}
			r.report(ctx)
		}
		timer.Reset(r.untilNext(last))
	}
}

func (r *Reporter) untilNext(last time.Time) time.Duration {
	return time.Until(last.Add(r.Interval()))
}

// report measures and publishes each source, and tells what changed in its
// trouble.
func (r *Reporter) report(ctx context.Context) {
	for _, s := range *r.sources.Load() {
		err := r.one(ctx, s)
		if ctx.Err() != nil {
			return // what failed now failed because we stop
		}
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text != r.trouble[s.Name()] {
			r.trouble[s.Name()] = text
			r.opts.Trouble(s.Name(), err)
		}
	}
}

// message is the telemetry message, schema 1.
type message struct {
	Schema     int            `json:"schema"`
	Source     string         `json:"source"`
	BootID     string         `json:"boot_id"`
	BootMS     int64          `json:"boot_ms"`
	MeasuredAt string         `json:"measured_at"`
	Clock      string         `json:"clock"`
	Values     map[string]any `json:"values"`
}

// timeFormat is RFC 3339 with milliseconds; the time is in UTC.
const timeFormat = "2006-01-02T15:04:05.000Z"

// one measures a source and publishes what it has, even where it could not
// measure all.
func (r *Reporter) one(ctx context.Context, s Source) error {
	m := message{
		Schema:     1,
		Source:     s.Name(),
		BootID:     r.opts.BootID,
		BootMS:     r.opts.BootTime().Milliseconds(),
		MeasuredAt: r.opts.Now().UTC().Format(timeFormat),
		Clock:      "unsynchronized",
	}
	if r.opts.Synchronized() {
		m.Clock = "synchronized"
	}
	values, measureErr := s.Measure(ctx)
	if measureErr != nil {
		measureErr = fmt.Errorf("measure %s: %w", s.Name(), measureErr)
	}
	if len(values) == 0 {
		return measureErr
	}
	m.Values = values
	payload, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode the measurement of %s: %w", s.Name(), err)
	}
	if err := r.opts.Publisher.Publish(ctx, r.opts.Topic(s.Name()), payload); err != nil {
		return fmt.Errorf("publish the measurement of %s: %w", s.Name(), err)
	}
	return measureErr
}
