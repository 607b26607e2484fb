package jitr

import (
	"io"
	"maps"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/pkg/mqtt"
)

// highest are dice that always draw the end of a range: waits are steps.
func highest() float64 { return 1 }

// closedBare is an accepted agent's CONNECT that ended without a CONNACK.
var closedBare = Evidence{Phase: PhaseConnack, Err: io.EOF, Accepted: true}

func steps(t *testing.T, p *Pacer, e Evidence, now time.Duration, want ...time.Duration) {
	t.Helper()
	for i, w := range want {
		if v := p.Failed(e, now); v.Wait != w || v.Step != w {
			t.Errorf("failure %d: wait %v, step %v; want %v", i+1, v.Wait, v.Step, w)
		}
	}
}

// A reboot loop does not start a schedule anew.
func TestPacerMemorySurvives(t *testing.T) {
	network := Evidence{Phase: PhaseTCP, Err: io.EOF}
	p := NewPacer(Memory{}, time.Minute, highest)
	p.Begin(time.Minute)
	steps(t, p, network, time.Minute, time.Second, 2*time.Second, 4*time.Second)
	m := p.Memory(3 * time.Minute)
	if want := map[string]int{"link": 3}; m.Waiting != 2*time.Minute || !maps.Equal(m.Steps, want) {
		t.Errorf("the memory is %+v; want %v after 2m0s", m, want)
	}

	// The clock of the new boot starts at 0.
	again := NewPacer(m, 5*time.Second, highest)
	again.Begin(5 * time.Second)
	if v := again.Failed(network, 10*time.Second); v.Wait != 8*time.Second || v.For != 2*time.Minute+5*time.Second {
		t.Errorf("after the restart: wait %v for %v; want 8s for 2m5s", v.Wait, v.For)
	}
	if m.Steps["link"] != 3 {
		t.Error("the pacer writes into the memory that it was given")
	}
}

// What the pending schedule waits is a share of the time since the first
// attempt, restarts included.
func TestPacerPendingGoesOn(t *testing.T) {
	pending := Evidence{Phase: PhaseConnack, Err: io.EOF}
	p := NewPacer(Memory{Waiting: 100 * time.Second}, 0, highest)
	p.Begin(0)
	steps(t, p, pending, 0, 20*time.Second, 20*time.Second)
	steps(t, p, pending, 25*time.Second, 25*time.Second)
}

func TestPacerForgets(t *testing.T) {
	for name, end := range map[string]func(*Pacer) time.Duration{
		"success":        func(p *Pacer) time.Duration { return p.Succeeded(time.Minute) },
		"another server": func(p *Pacer) time.Duration { p.Forget(); return time.Minute },
	} {
		p := NewPacer(Memory{}, 0, highest)
		p.SessionEnded(time.Hour)
		p.Begin(0)
		steps(t, p, closedBare, 0, 30*time.Second, 75*time.Second)
		if took := end(p); took != time.Minute {
			t.Errorf("%s took %v; want 1m0s", name, took)
		}
		if m := p.Memory(time.Hour); m.Waiting != 0 || len(m.Steps) != 0 {
			t.Errorf("after %s the memory is %+v; want none", name, m)
		}
		steps(t, p, closedBare, time.Hour, 5*time.Second, 10*time.Second)
	}
}

// Which of its two schedules an end without a word takes.
func TestPacerResumes(t *testing.T) {
	ended := Evidence{Phase: PhaseSession, Err: io.EOF, Accepted: true}
	throttled := Evidence{Phase: PhaseConnack, Err: &mqtt.Refused{Code: 0x97}, Accepted: true}
	fresh := throttled
	fresh.Accepted = false
	after := func(lasted time.Duration) *Pacer {
		p := NewPacer(Memory{}, 0, highest)
		p.SessionEnded(lasted)
		return p
	}
	tests := []struct {
		name  string
		pacer *Pacer
		e     Evidence
		want  []time.Duration
	}{
		{"after a long session", after(LongSession), ended, []time.Duration{30 * time.Second, 75 * time.Second, 160 * time.Second, 160 * time.Second}},
		{"after a short session", after(LongSession - 1), ended, []time.Duration{5 * time.Second, 10 * time.Second}},
		{"restarted while online, turned away", NewPacer(Memory{}, 0, highest), throttled, []time.Duration{30 * time.Second, 75 * time.Second}},
		{"restarted while online, closed", NewPacer(Memory{}, 0, highest), closedBare, []time.Duration{30 * time.Second, 75 * time.Second}},
		{"restarted while resuming", NewPacer(Memory{Steps: map[string]int{"resume": 1}, Waiting: time.Second}, 0, highest), closedBare, []time.Duration{75 * time.Second, 160 * time.Second}},
		{"restarted while backing off", NewPacer(Memory{Steps: map[string]int{"server": 1}, Waiting: time.Second}, 0, highest), closedBare, []time.Duration{10 * time.Second, 20 * time.Second}},
		{"a new certificate", NewPacer(Memory{}, 0, highest), fresh, []time.Duration{5 * time.Second, 10 * time.Second}},
		// As a candidate that is let in and cut: it throws out the session in use.
		{"let in and cut, no session before", NewPacer(Memory{}, 0, highest), ended, []time.Duration{5 * time.Second, 10 * time.Second}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { steps(t, test.pacer, test.e, 0, test.want...) })
	}
}

// Closings without a word are a refusal only after 15 minutes, 5 in a row and
// nothing else between.
func TestPacerClosings(t *testing.T) {
	const minute = time.Minute
	other := Evidence{Phase: PhaseTCP, Err: io.EOF, Accepted: true}
	type failure struct {
		e    Evidence
		at   time.Duration
		want Cause
	}
	closed := func(want Cause, at ...time.Duration) (f []failure) {
		for _, a := range at {
			f = append(f, failure{closedBare, a, want})
		}
		return f
	}
	tests := []struct {
		name     string
		failures []failure
	}{
		{"5 in 15 minutes", append(closed(ServerClosed, 0, minute, 2*minute, 3*minute), closed(NotAuthorized, 15*minute)...)},
		{"many, sooner", closed(ServerClosed, 0, 2*minute, 4*minute, 6*minute, 8*minute, 10*minute, 12*minute, 15*minute-1)},
		{"long, but 4", closed(ServerClosed, 0, 20*minute, 40*minute, 60*minute)},
		{"another failure between", append(append(closed(ServerClosed, 0, minute, 2*minute, 3*minute),
			failure{other, 14 * minute, Network}),
			append(closed(ServerClosed, 15*minute, 16*minute, 17*minute, 18*minute, 30*minute-1), closed(NotAuthorized, 30*minute)...)...)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := NewPacer(Memory{}, 0, nil)
			p.SessionEnded(time.Hour)
			for i, f := range test.failures {
				if got := p.Failed(f.e, f.at).Cause; got != f.want {
					t.Errorf("failure %d at %v: %s; want %s", i+1, f.at, got, f.want)
				}
			}
		})
	}
}
