package seglog

import "errors"

// Stats is how the log stands. Counts are of what is not acknowledged.
type Stats struct {
	State State
	Err   error // why State is not OK; nil for bad pieces
	// Messages and Bytes (of payloads) are exact at a segment's border, and
	// estimated by the segment's average within it.
	Messages, Bytes int64
	Disk            int64  // bytes of the segments' files
	MaxSize         int64  // bytes
	Oldest          uint64 // sequence number of the oldest message; Next where there is none
	Next            uint64 // sequence number of the next message
	// Since Open: pieces that were no records, whole files among them; last
	// commits that a crash had left unfinished, 0 or 1.
	Bad, Torn int
	Newer     int // files of a newer version, left as they are
}

// Stats reads the counts. It waits for no disk.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	st := Stats{
		State: stateOf(l.err), Err: l.err, MaxSize: l.maxSize, Oldest: l.cursor + 1, Next: l.next,
		Bad: l.bad, Torn: l.torn, Newer: l.newer,
	}
	hurt, free := len(l.broken) > 0, false
	for _, s := range l.segs {
		m, b := s.pending(l.cursor)
		st.Messages += m
		st.Bytes += b
		st.Disk += int64(s.fileSize)
		hurt = hurt || s.bad > 0 && m > 0
		free = free || m == 0 && (s != l.head || s.sealed) && s.usable(l.segSize)
	}
	if free && errors.Is(l.err, ErrFull) {
		st.State, st.Err = OK, nil
	}
	if hurt && st.State == OK {
		st.State = Damaged
	}
	return st
}

// OldestSegment is the range of sequence numbers that must be acknowledged to
// make room for one more segment; ok is false where that is not possible. It
// is for who drops the oldest messages of a full log.
func (l *Log) OldestSegment() (from, to uint64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.segs {
		if s.last > l.cursor && s.messages > 0 && s != l.head {
			return l.cursor + 1, s.last, true
		}
	}
	return 0, 0, false
}
