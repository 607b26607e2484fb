package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// scripted is a source and a publisher that a test leads.
type scripted struct {
	mu         sync.Mutex // virtual time orders nothing for the race detector
	values     map[string]any
	measureErr error
	publishErr error
	takes      time.Duration // how long a measurement takes

	topics   []string
	payloads []string
	at       []time.Duration // when each was published, since the start
	start    time.Time
	trouble  []string
}

func (s *scripted) Name() string { return "system" }

func (s *scripted) Measure(ctx context.Context) (map[string]any, error) {
	if s.takes > 0 {
		select {
		case <-time.After(s.takes):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.values, s.measureErr
}

// from now on the source and the publisher answer so.
func (s *scripted) from(values map[string]any, measureErr, publishErr error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values, s.measureErr, s.publishErr = values, measureErr, publishErr
}

func (s *scripted) Publish(_ context.Context, topic string, payload []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.topics = append(s.topics, topic)
	s.payloads = append(s.payloads, string(payload))
	s.at = append(s.at, time.Since(s.start))
	return s.publishErr
}

func (s *scripted) options() ReporterOptions {
	return ReporterOptions{
		Sources:      []Source{s},
		Topic:        func(source string) string { return "dt/gw/" + source },
		Interval:     time.Minute,
		Publisher:    s,
		BootID:       "boot-1",
		Synchronized: func() bool { return true },
		Trouble: func(source string, err error) {
			text := source + ": works"
			if err != nil {
				text = source + ": " + err.Error()
			}
			s.trouble = append(s.trouble, text)
		},
		BootTime: func() time.Duration { return 90*time.Second + 1500*time.Microsecond },
	}
}

// run lets script run beside Run, in virtual time, and waits for both.
func (s *scripted) run(t *testing.T, opts ReporterOptions, script func(*Reporter)) {
	t.Helper()
	s.start = time.Now()
	r := NewReporter(opts)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	script(r)
	synctest.Wait()
	cancel()
	<-done
}

func (s *scripted) wantAt(t *testing.T, want ...time.Duration) {
	t.Helper()
	if !slices.Equal(s.at, want) {
		t.Errorf("published at %v, want %v", s.at, want)
	}
}

func after(d time.Duration) { <-time.After(d) } // virtual time

func TestMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{values: map[string]any{"load_1m": 0.5}}
		opts := s.options()
		opts.Now = func() time.Time {
			return time.Date(2026, 5, 1, 12, 0, 0, 7_900_000, time.FixedZone("CEST", 7200))
		}
		s.run(t, opts, func(*Reporter) { synctest.Wait() })
		want := map[string]any{
			"schema": 1.0, "source": "system", "boot_id": "boot-1", "boot_ms": 90001.0, "clock": "synchronized",
			"measured_at": "2026-05-01T10:00:00.007Z", "values": map[string]any{"load_1m": 0.5},
		}
		if len(s.payloads) != 1 || s.topics[0] != "dt/gw/system" {
			t.Fatalf("published %v on %v, want one message", s.payloads, s.topics)
		}
		var got map[string]any
		if err := json.Unmarshal([]byte(s.payloads[0]), &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got  %v, %v\nwant %v", got, err, want)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{values: map[string]any{"load_1m": 0.5}}
		opts := s.options()
		opts.Synchronized = func() bool { return false }
		s.run(t, opts, func(*Reporter) {})
		var got message
		if err := json.Unmarshal([]byte(s.payloads[0]), &got); err != nil || got.Clock != "unsynchronized" {
			t.Errorf("clock is %q, %v", got.Clock, err)
		}
	})
}

func TestInterval(t *testing.T) {
	values := map[string]any{"x": 1}
	tests := []struct {
		name   string
		takes  time.Duration
		script func(*Reporter)
		want   []time.Duration
	}{
		{"at once, then at the interval", 0, func(*Reporter) { after(2 * time.Minute) }, []time.Duration{0, time.Minute, 2 * time.Minute}},
		{"no drift", time.Second, func(*Reporter) { after(125 * time.Second) }, []time.Duration{time.Second, 61 * time.Second, 121 * time.Second}},
		{"a slow measurement is not made up for", 150 * time.Second, func(*Reporter) { after(310 * time.Second) },
			[]time.Duration{150 * time.Second, 300 * time.Second}},
		{"shorter, counted from the last", 0, func(r *Reporter) {
			after(5 * time.Second)
			r.SetInterval(7 * time.Second)
			after(10 * time.Second)
		}, []time.Duration{0, 7 * time.Second, 14 * time.Second}},
		{"shorter than what has passed", 0, func(r *Reporter) {
			after(30 * time.Second)
			r.SetInterval(7 * time.Second)
			after(8 * time.Second)
		}, []time.Duration{0, 30 * time.Second, 37 * time.Second}},
		{"longer", 0, func(r *Reporter) {
			after(30 * time.Second)
			r.SetInterval(time.Hour)
			after(time.Hour)
		}, []time.Duration{0, time.Hour}},
		{"the same", 0, func(r *Reporter) {
			after(30 * time.Second)
			r.SetInterval(time.Minute)
			after(31 * time.Second)
		}, []time.Duration{0, time.Minute}},
		{"often", 0, func(r *Reporter) {
			for d := range 100 {
				r.SetInterval(time.Duration(d+1) * time.Second)
			}
			r.SetInterval(20 * time.Second)
			after(21 * time.Second)
		}, []time.Duration{0, 20 * time.Second}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &scripted{values: values, takes: tt.takes}
				s.run(t, s.options(), tt.script)
				s.wantAt(t, tt.want...)
			})
		})
	}
}

// TestTroubleIsToldOnce: at the beginning, when it changes, and when it ends.
func TestTroubleIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{values: map[string]any{"x": 1}}
		s.run(t, s.options(), func(*Reporter) {
			after(90 * time.Second)
			s.from(s.values, nil, errors.New("buffer full"))
			after(3 * time.Minute)
			s.from(s.values, errors.New("no sensor"), nil)
			after(3 * time.Minute)
			s.from(nil, errors.New("no sensor"), nil)
			after(time.Minute)
			s.from(map[string]any{"x": 2}, nil, nil)
			after(2 * time.Minute)
		})
		want := []string{
			"system: publish the measurement of system: buffer full",
			"system: measure system: no sensor",
			"system: works",
		}
		if !slices.Equal(s.trouble, want) {
			t.Errorf("told %q, want %q", s.trouble, want)
		}
		if len(s.at) != 10 { // at 0, 1, …, 10 minutes, but for the one without any value
			t.Errorf("published %d times (%v), want 10", len(s.at), s.at)
		}
	})
}

// TestEndIsNoTrouble: what fails because Run ends is not told.
func TestEndIsNoTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &scripted{values: map[string]any{"x": 1}, takes: time.Hour}
		s.run(t, s.options(), func(*Reporter) { after(time.Second) })
		if len(s.trouble) > 0 || len(s.at) > 0 {
			t.Errorf("told %q, published at %v", s.trouble, s.at)
		}
	})
}
