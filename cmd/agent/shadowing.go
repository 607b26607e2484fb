package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/event"
	"github.com/jitr-agent/jitr-agent/internal/settings"
	"github.com/jitr-agent/jitr-agent/pkg/identity"
	"github.com/jitr-agent/jitr-agent/pkg/mqtt"
	"github.com/jitr-agent/jitr-agent/pkg/shadow"
)

// shadowing owns the shadow of the present thing. It is made with the first
// session, since only the certificate tells the thing's name, and made anew
// when that name changes.
type shadowing struct {
	agent *agent

	mu     sync.Mutex
	shadow *shadow.Shadow
	thing  string
	cancel context.CancelFunc
	done   chan struct{}
}

// start gives the shadow a session, which lives until ctx ends.
func (s *shadowing) start(ctx context.Context, session *mqtt.Session, id *identity.Identity) {
	if !s.agent.settings.Load().Shadow.Enabled {
		return
	}
	if s.thing != id.ThingName {
		s.stop()
		s.launch(id.ThingName)
	}
	s.current().Start(ctx, shadowSession{session})
}

func (s *shadowing) launch(thing string) {
	made := shadow.New(shadow.Options{
		ThingName: thing,
		Interval:  time.Duration(s.agent.settings.Load().Telemetry.Interval),
		Apply:     s.apply,
		Trouble:   s.trouble,
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		made.Run(ctx)
	}()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shadow, s.thing, s.cancel, s.done = made, thing, cancel, done
}

// stop ends the shadow and waits for it. Only the goroutine that calls start
// may call it, or one that runs after that.
func (s *shadowing) stop() {
	s.mu.Lock()
	cancel, done := s.cancel, s.done
	s.shadow, s.thing, s.cancel = nil, "", nil
	s.mu.Unlock()
	if cancel != nil {
		cancel()
		<-done
	}
}

func (s *shadowing) current() *shadow.Shadow {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shadow
}

// handle takes a message from the session's reader.
func (s *shadowing) handle(topic string, payload []byte) {
	if current := s.current(); current != nil {
		current.Handle(topic, payload)
	}
}

// apply makes an interval from the shadow take effect.
func (s *shadowing) apply(_ context.Context, interval time.Duration) error {
	if s.agent.telemetry.Interval() != interval {
		s.agent.telemetry.SetInterval(interval)
		s.agent.report.Emit("shadow-applied", event.Fields{
			event.Object: "telemetry.interval", event.Value: settings.Duration(interval).String(),
		})
	}
	return nil
}

func (s *shadowing) trouble(err error) {
	switch {
	case errors.Is(err, shadow.ErrDenied):
		s.agent.report.Emit("subscribe-denied", nil)
	case errors.Is(err, shadow.ErrDesired), errors.Is(err, shadow.ErrApply):
		s.agent.report.Emit("shadow-refused", event.Fields{event.Object: "telemetry.interval", event.Why: err.Error()})
	default:
		s.agent.report.Emit("shadow-failed", event.Fields{event.Why: err.Error()})
	}
}

// shadowSession publishes for the shadow: a refusal is an error there.
type shadowSession struct{ *mqtt.Session }

func (s shadowSession) Publish(ctx context.Context, topic string, payload []byte) error {
	code, err := s.Session.Publish(ctx, mqtt.Message{Topic: topic, Payload: payload, ContentType: jsonType})
	if err != nil {
		return err
	}
	if code >= 0x80 {
		return fmt.Errorf("PUBACK 0x%02X (%s)", code, mqtt.CodeName(code))
	}
	return nil
}
