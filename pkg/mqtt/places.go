package mqtt

import (
	"context"
	"sync"
)

// places are the packet identifiers of publishes, as many as the server's
// Receive Maximum allows to be in flight.
//
// Who finds none waits until half of them have come back: then the next packets
// leave together, where one for each PUBACK would be a TLS record, a system call
// and two wake-ups each, three times the CPU time. What is still in flight keeps
// the link busy meanwhile. That needs somebody who hastens the peer, see
// hastener; where that cannot be, the first place that comes back ends the wait.
//
// A place that comes back is the last one to be used again, so that a PUBACK
// that comes twice does no harm.
type places struct {
	mu       sync.Mutex
	ring     [maxInFlight]uint16
	first    int // in ring: the next one to be taken
	free     int
	limit    int           // of all, free or not
	hastened bool          // somebody asks whether the peer is to be hastened
	full     bool          // none was left, and not enough are back yet
	begun    bool          // they have begun to come back, and the peer is to be hastened
	back     chan struct{} // closed when enough are, nil while nobody waits
}

// open makes the identifiers 1 to limit. hastened says that somebody calls
// hasten and does what it says.
func (p *places) open(limit int, hastened bool) {
	p.mu.Lock()
	p.limit, p.hastened = limit, hastened
	p.mu.Unlock()
	for id := range limit {
		p.put(uint16(id + 1))
	}
}

// take waits for an identifier. Its errors are the context's, and ErrLost when
// lost is closed.
func (p *places) take(ctx context.Context, lost <-chan struct{}) (uint16, error) {
	for {
		p.mu.Lock()
		if p.free > 0 && !p.full {
			id := p.ring[p.first]
			p.first = (p.first + 1) % len(p.ring)
			p.free--
			p.full = p.free == 0
			p.mu.Unlock()
			return id, nil
		}
		if p.back == nil {
			p.back = make(chan struct{})
		}
		back := p.back
		p.mu.Unlock()
		select {
		case <-back:
		case <-lost:
			return 0, ErrLost
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// put gives an identifier back.
func (p *places) put(id uint16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ring[(p.first+p.free)%len(p.ring)] = id
	p.free++
	if p.full && p.hastened && 2*p.free < p.limit {
		p.begun = p.begun || p.free == 1
		return
	}
	p.full, p.begun = false, false
	if p.back != nil {
		close(p.back)
		p.back = nil
	}
}

// hasten says, once for each wait, that PUBACKs have begun to come, so that the
// others may be kept back by now.
func (p *places) hasten() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	begun := p.begun
	p.begun = false
	return begun
}
