package clock

import (
	"sync/atomic"
	"time"
)

// Pulse shows that a loop goes round. It is safe for concurrent use; the zero
// value has never beaten.
type Pulse struct{ last atomic.Int64 }

// Beat is called by the loop each time it comes round.
func (p *Pulse) Beat(now time.Duration) { p.last.Store(int64(now)) }

// Age is the time since the last beat; both count from the boot.
func (p *Pulse) Age(now time.Duration) time.Duration { return now - time.Duration(p.last.Load()) }
