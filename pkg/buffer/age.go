package buffer

import (
	"hash/fnv"
	"time"
)

// Clock is what the buffer knows of time. A wall clock that steps must neither
// age a message nor make it young.
type Clock struct {
	BootID string               // which boot of the machine this is, "" for unknown
	Boot   func() time.Duration // time since then; it never steps
	// Floor is a time that has certainly passed. A wall clock below it is wrong.
	Floor func() time.Time
}

// boot is the boot id as a record has it.
func (c *Clock) boot() uint64 {
	if c.BootID == "" {
		return 0
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(c.BootID)) // never fails
	return h.Sum64() | 1             // 0 is "unknown"
}

// instant is one reading of all clocks.
type instant struct {
	mono   time.Time // with Go's monotonic reading
	boot   time.Duration
	bootID uint64
	floor  time.Time
}

func (c *Clock) now() instant {
	return instant{mono: time.Now(), boot: c.Boot(), bootID: c.boot(), floor: c.Floor()}
}

// stamp is that of a message handed in at a moment of this process.
func (n instant) stamp(at time.Time) stamp {
	return stamp{
		boot: n.bootID, bootMS: (n.boot - n.mono.Sub(at)).Milliseconds(),
		wallMS: at.UnixMilli(), floor: !at.Before(n.floor),
	}
}

// of gives s the identity of another stamp.
func (s stamp) of(m stamp) stamp {
	s.stream, s.seq = m.stream, m.seq
	return s
}

// age is how long ago s was: by the machine's own clock within one boot, else
// by the wall clock where that was not below the floor at either end. Else it
// is 0: a message is not aged by a clock that may be wrong.
func (n instant) age(s stamp) time.Duration {
	if s.boot != 0 && s.boot == n.bootID {
		return n.boot - time.Duration(s.bootMS)*time.Millisecond
	}
	now := n.mono.Round(0)
	if !s.floor || now.Before(n.floor) {
		return 0
	}
	return max(0, now.Sub(s.wall()))
}
