package main

import (
	"os"
	"path/filepath"
	"slices"

	"github.com/jitr-agent/jitr-agent/internal/certs"
	"github.com/jitr-agent/jitr-agent/internal/report"
	"github.com/jitr-agent/jitr-agent/internal/settings"
	"github.com/jitr-agent/jitr-agent/pkg/identity"
	"github.com/jitr-agent/jitr-agent/pkg/shadow"
)

// fillStatus adds to the status what the report does not hear from the
// connection loop.
func (a *agent) fillStatus(s *report.Status) {
	b := a.buffer.Stats()
	s.Buffer = report.Buffer{
		State: new(string(b.State)), Messages: &b.Messages, Bytes: &b.Bytes, MaxBytes: &b.MaxBytes, OldestAt: report.At(b.Oldest),
		MemoryMessages: &b.Memory, InFlight: &b.InFlight, PausedForMS: new(b.PausedFor.Milliseconds()),
	}
	known := a.store.Get()
	s.Counters.Acked = &b.Acked
	l := a.local.Status()
	s.Local = report.Local{State: new(string(l.State)), Socket: orNull(l.Socket), Listen: orNull(l.Listen), Clients: new(int64(l.Clients))}
	s.Counters.RefusedLocal = &l.Refused
	s.Counters.Dropped, s.Counters.Gaps, s.Counters.DeadLetters = &known.Dropped, &known.Gaps, &known.DeadLetters
	s.Counters.BytesSent = new(a.dialer.Traffic.Sent.Load())
	s.Counters.BytesReceived = new(a.dialer.Traffic.Received.Load())
	s.Counters.TPMCommands = new(a.tpmBefore.Load())
	if id := a.identity.Load(); id != nil && id.TPMCommands != nil {
		*s.Counters.TPMCommands += int64(id.TPMCommands())
	}
	s.Identity.Next = nextIdentity(a.opts.stateDir)
	s.Shadow = report.Shadow{State: new(string(shadow.Off))}
	if current := a.shadow.current(); current != nil {
		s.Shadow = report.Shadow{State: new(string(current.State())), Version: current.Version()}
		if interval, ok := current.Override(); ok {
			s.Overrides = append(slices.Clip(s.Overrides), report.Override{
				Key: "telemetry.interval", Value: settings.Duration(interval).String(), From: settings.FromShadow,
			})
		}
	} else if a.settings.Load().Shadow.Enabled {
		s.Shadow.State = new(string(shadow.Stale))
	}
}

// nextIdentity is the certificate that waits to be proved, nil without one.
func nextIdentity(stateDir string) *report.NextIdentity {
	data, err := os.ReadFile(filepath.Join(stateDir, identity.NextCertFile))
	if err != nil {
		return nil
	}
	chain, err := certs.ParseChain(data)
	if err != nil {
		return nil
	}
	return &report.NextIdentity{CertificateID: certs.ID(chain[0]), NotAfterAt: report.Time(chain[0].NotAfter)}
}

func reported(overrides []settings.Override) []report.Override {
	all := []report.Override{}
	for _, o := range overrides {
		all = append(all, report.Override{Key: o.Key, Value: o.Value, From: o.From})
	}
	return all
}
