package main

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/clock"
	"github.com/jitr-agent/jitr-agent/internal/event"
	"github.com/jitr-agent/jitr-agent/internal/local"
	"github.com/jitr-agent/jitr-agent/internal/settings"
	"github.com/jitr-agent/jitr-agent/pkg/buffer"
	"github.com/jitr-agent/jitr-agent/pkg/identity"
	"github.com/jitr-agent/jitr-agent/pkg/mqtt"
)

// bufferDir is the folder of the message buffer.
func bufferDir(stateDir string) string { return filepath.Join(stateDir, "buffer") }

// newBuffer is where all messages wait.
func (a *agent) newBuffer(s *settings.Settings) *buffer.Buffer {
	dir := bufferDir(a.opts.stateDir)
	return buffer.New(buffer.Config{
		Dir: dir, Limits: bufferLimits(s),
		Clock: buffer.Clock{BootID: clock.BootID(), Boot: clock.Boot, Floor: a.clockFloor},
		GapTopic: func() string {
			return settings.Expand(a.settings.Load().Buffer.GapTopic, map[string]string{"thing_name": a.thingName()})
		},
		Lost: a.losses.lost, DeadLetter: a.losses.deadLetter, GapRefused: a.losses.gapRefused,
		Changed: func(s buffer.State, err error) {
			f := event.Fields{event.Object: dir, event.Why: "pieces of it cannot be read"}
			if err != nil {
				f[event.Why] = err.Error()
			}
			a.report.Emit("buffer-"+string(s), f)
		},
		SetAside: func(err error) { a.report.Emit("gaps-set-aside", event.Fields{event.Why: err.Error()}) },
	})
}

func bufferLimits(s *settings.Settings) buffer.Limits {
	return buffer.Limits{
		MaxSize: int64(s.Buffer.MaxSize), KeepFree: int64(s.Buffer.KeepFree), MaxAge: time.Duration(s.Buffer.MaxAge),
		SpillAfter: time.Duration(s.Buffer.SpillAfter), RefuseNew: s.Buffer.WhenFull == "refuse-new", Rate: s.Cloud.PublishRate,
	}
}

// clockFloor is a time that has certainly passed, as the connection loop knows
// it. It is asked for each message that comes from the disk.
func (a *agent) clockFloor() time.Time { return *a.floor.Load() }

// thingName is whose messages these are, "" while that is not known.
func (a *agent) thingName() string {
	if id := a.identity.Load(); id != nil {
		return id.ThingName
	}
	name, err := identity.ThingName(a.identityOptions())
	if err != nil {
		return ""
	}
	return name
}

// toBuffer hands telemetry to the buffer.
type toBuffer struct{ *agent }

// patience is how long a measurement waits for room: until the next one, at
// the shortest interval.
const patience = time.Second

func (b toBuffer) Publish(ctx context.Context, topic string, payload []byte) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := b.buffer.Put(ctx, buffer.Message{Topic: topic, Payload: payload, ContentType: jsonType}, nil)
	if errors.Is(err, buffer.ErrFull) || errors.Is(err, context.DeadlineExceeded) {
		b.losses.lost(1, buffer.Full, 0) // not promised to anybody, but counted
		return nil
	}
	return err
}

// bufferSession sends for the buffer.
type bufferSession struct{ session *mqtt.Session }

func (s bufferSession) Send(ctx context.Context, m buffer.Message, outcome func(byte, error)) error {
	return s.session.Send(ctx, mqtt.Message(m), outcome)
}

// statusTopic is where the gateway's programs read how the agent is.
const statusTopic = "agent/status"

// errNoName is what the gateway's programs hear until it is known whose
// messages theirs are.
var errNoName = errors.New("the gateway has no name yet; install its certificate: jitr-agent import --cert FILE")

// newLocal is where the gateway's programs hand their messages in.
func (a *agent) newLocal(s *settings.Settings, runtimeDir string) *local.Server {
	socket := s.Local.Socket
	if socket != "" && !filepath.IsAbs(socket) {
		socket = filepath.Join(runtimeDir, socket)
	}
	server, err := local.New(local.Config{
		Socket: socket, Listen: s.Local.Listen, Buffer: a.buffer, Log: a.log.Named("local"),
		Map: func(topic string) (string, error) {
			thing := a.thingName()
			if thing == "" {
				return "", errNoName
			}
			// settings.Expand does the same, and takes longer than all the rest.
			return strings.ReplaceAll(strings.ReplaceAll(s.Local.Topic, "{thing_name}", thing), "{topic}", topic), nil
		},
		Feeds: []string{statusTopic},
		Refused: func(client, topic, why string) {
			if topic != "" {
				why = "topic " + topic + ": " + why
			}
			a.report.Emit("local-refused", event.Fields{event.Object: client, event.Why: why})
		},
		Changed: a.localChanged,
	})
	if err != nil {
		panic("local: " + err.Error()) // the settings allow only loopback addresses
	}
	return server
}

func (a *agent) localChanged(s local.Status) {
	at := s.Socket
	if s.Listen != "" && at != "" {
		at += " and " + s.Listen
	} else if at == "" {
		at = s.Listen
	}
	switch {
	case s.State == local.Busy:
		a.localBusy.Store(true)
		a.report.Emit("local-busy", event.Fields{event.Why: s.Why})
	case a.localBusy.Swap(false):
		a.report.Emit("local-ok", event.Fields{event.Object: at})
	}
}
