package lambda

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"go.uber.org/zap"

	"github.com/jitr-agent/jitr-agent/internal/iotcore/awsapi"
)

// maxUnreserved bounds the instances of a function without reserved
// concurrency. It is ours: a bench has not the machines of a Region.
const maxUnreserved = 32

// pool is the instances of one function. It is safe for concurrent use.
type pool struct {
	mu     sync.Mutex
	limit  int
	busy   int
	idle   []*instance
	closed bool
	freed  chan struct{} // closed when a place came free
}

var errThrottled = errors.New("the function's concurrency is used up")

// acquire takes a place, and a warm instance with it where there is one of
// this revision. It waits for a place only if told to.
func (p *pool) acquire(ctx context.Context, revision string, wait bool) (*instance, error) {
	for {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return nil, errThrottled
		}
		if p.busy < p.limit {
			p.busy++
			var warm *instance
			var old []*instance
			for len(p.idle) > 0 && warm == nil {
				last := p.idle[len(p.idle)-1]
				p.idle = p.idle[:len(p.idle)-1]
				if last.function.Revision == revision && !last.gone() {
					warm = last
				} else {
					old = append(old, last)
				}
			}
			p.mu.Unlock()
			for _, in := range old {
				in.stop()
			}
			return warm, nil
		}
		freed := p.freed
		p.mu.Unlock()
		if !wait {
			return nil, errThrottled
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// gone says that the process has ended.
func (in *instance) gone() bool {
	select {
	case <-in.exited:
		return true
	default:
		return false
	}
}

// release gives a place back, and an instance that can be used again.
func (p *pool) release(in *instance) {
	p.mu.Lock()
	p.busy--
	if in != nil && !p.closed && p.busy+len(p.idle) < p.limit {
		p.idle = append(p.idle, in)
		in = nil
	}
	p.rouse()
	p.mu.Unlock()
	if in != nil {
		in.stop()
	}
}

// rouse tells who waits to look again. The caller holds p.mu.
func (p *pool) rouse() {
	close(p.freed)
	p.freed = make(chan struct{})
}

func (p *pool) setLimit(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limit = n
	p.rouse()
}

// close ends the idle instances, and the others when they come back.
func (p *pool) close() {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.closed = nil, true
	p.rouse()
	p.mu.Unlock()
	for _, in := range idle {
		in.stop()
	}
}

// poolOf is the pool of a function, made on first use. The caller holds s.mu.
func (s *Service) poolOf(f *function) *pool {
	p, ok := s.pools[f.Name]
	if !ok {
		p = &pool{limit: s.limitOf(f), freed: make(chan struct{})}
		s.pools[f.Name] = p
	}
	return p
}

// limitOf is how many instances a function may have. The caller holds s.mu.
func (s *Service) limitOf(f *function) int {
	if f.Reserved != nil {
		return *f.Reserved
	}
	return min(s.unreserved(f.Name), maxUnreserved)
}

// unreserved is what the account's concurrency leaves when all reservations
// but that of a function are taken. The caller holds s.mu.
func (s *Service) unreserved(except string) int {
	left := s.Concurrency
	for name, f := range s.functions {
		if f.Reserved != nil && name != except {
			left -= *f.Reserved
		}
	}
	return left
}

// closePool ends a function's instances. The caller holds s.mu, which an
// instance's end does not need.
func (s *Service) closePool(name string) {
	if p, ok := s.pools[name]; ok {
		p.close()
		delete(s.pools, name)
	}
}

// run carries out one event of a function: a place, an instance, the event.
// errThrottled: there is no place, and wait is false or the pool has closed.
// It ends early only with the server.
func (s *Service) run(ctx context.Context, nameOrARN, id string, payload []byte, wait bool) (outcome, error) {
	s.mu.Lock()
	known, err := s.byName(nameOrARN)
	if err != nil {
		s.mu.Unlock()
		return outcome{}, err
	}
	f, server := *known, s.running
	p := s.poolOf(known)
	if server == nil || server.Err() != nil {
		s.mu.Unlock()
		return outcome{}, awsapi.Refuse(http.StatusServiceUnavailable, "ServiceException", "The emulator is not running")
	}
	s.work.Add(1)
	s.mu.Unlock()
	defer s.work.Done()

	in, err := p.acquire(ctx, f.Revision, wait)
	if err != nil {
		return outcome{}, err
	}
	if in == nil {
		in, err = s.startInstance(server, f)
		if bad, ok := errors.AsType[*entrypointError](err); ok {
			p.release(nil)
			s.Log.Warn("A function cannot be started.", zap.String("function", f.Name), zap.Error(bad))
			return failed("Runtime.InvalidEntrypoint", "RequestId: %s Error: %v", id, bad), nil
		}
		if err != nil {
			p.release(nil)
			return outcome{}, err
		}
	}
	o, alive := in.invoke(server, id, payload)
	if !alive {
		in.stop()
		in = nil
	}
	p.release(in)
	if o.functionError != "" {
		s.Log.Info("A function failed.", zap.String("function", f.Name), zap.String("request", id), zap.ByteString("outcome", o.payload))
	}
	return o, nil
}
