package activation

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// remembered is how many decisions a generation of the memory has. Two
	// generations of 50,000 are some 20 MB, and more certificates than the
	// quota lets through in two hours.
	remembered = 50_000
	// clockSkew is how much later than a decision the event of a duplicate may
	// seem to be: AWS IoT's clock beside ours, and the seconds in which a node
	// of AWS IoT has not heard of the new status.
	clockSkew = time.Minute
)

// memory keeps what was decided on certificates, and who is at work on which.
// It forgets the oldest decisions; forgetting costs a call. It is safe for
// concurrent use.
type memory struct {
	mu         sync.Mutex
	limit      int
	fresh, old map[string]decision // by certificateId
	running    map[string]*flight
}

type decision struct {
	outcome Outcome
	at      time.Time
}

// flight is a decision that is being made. res and err may be read when done
// is closed.
type flight struct {
	done chan struct{}
	res  Result
	err  error
}

func newMemory(limit int) *memory {
	return &memory{limit: limit, fresh: map[string]decision{}, running: map[string]*flight{}}
}

// once runs decide for a request that is no duplicate. Who asks for a
// certificate that is being worked on waits, and shares the outcome.
func (m *memory) once(ctx context.Context, req Request, decide func() (Result, error)) (Result, error) {
	m.mu.Lock()
	if d, ok := m.duplicate(req); ok {
		m.mu.Unlock()
		return Result{CertificateID: req.CertificateID, Outcome: Duplicate, Why: fmt.Sprintf("it was decided before: %s", d.outcome)}, nil
	}
	f, busy := m.running[req.CertificateID]
	if !busy {
		f = &flight{done: make(chan struct{})}
		m.running[req.CertificateID] = f
	}
	m.mu.Unlock()

	if busy {
		select {
		case <-f.done:
		case <-ctx.Done():
			return Result{CertificateID: req.CertificateID}, fmt.Errorf("wait for another who works on it: %w", ctx.Err())
		}
		res := f.res
		if f.err == nil {
			res.Outcome, res.Why = Duplicate, fmt.Sprintf("it was decided just now: %s", f.res.Outcome)
		}
		return res, f.err
	}

	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if f.err == nil && f.res.Outcome != "" {
			m.add(req.CertificateID, f.res.Outcome, time.Now())
		}
		delete(m.running, req.CertificateID)
		close(f.done)
	}()
	f.err = fmt.Errorf("the decision on %s was not finished", req.CertificateID) // what others hear should decide panic
	f.res, f.err = decide()
	return f.res, f.err
}

// knows says whether a request is a duplicate.
func (m *memory) knows(req Request) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.duplicate(req)
	return ok
}

// learn adds a decision that somebody else has made, seen at a time.
func (m *memory) learn(id string, o Outcome, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.add(id, o, at)
}

// duplicate gives the decision that a request comes too late for. A
// certificate that is seen pending after it is another story: somebody has
// deleted it, and its gateway registered it again. The caller holds m.mu.
func (m *memory) duplicate(req Request) (decision, bool) {
	d, ok := m.fresh[req.CertificateID]
	if !ok {
		d, ok = m.old[req.CertificateID]
	}
	if !ok || req.At.IsZero() || req.At.After(d.at.Add(clockSkew)) {
		return decision{}, false
	}
	return d, true
}

// add may forget. The caller holds m.mu.
func (m *memory) add(id string, o Outcome, at time.Time) {
	if len(m.fresh) >= m.limit {
		m.fresh, m.old = make(map[string]decision, m.limit), m.fresh
	}
	m.fresh[id] = decision{o, at}
}
