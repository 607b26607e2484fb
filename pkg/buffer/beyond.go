package buffer

import "slices"

// span is a range of sequence numbers in the log.
type span struct{ from, to uint64 }

func (s span) has(seq uint64) bool { return s.from <= seq && seq <= s.to }

// span is where e stands in the log; of an entry that is not there it has
// nothing.
func (e *entry) span() span {
	if e.log == 0 {
		return span{1, 0}
	}
	return span{e.log, max(e.log, e.to)}
}

// remember notes that e is settled although the sender has still to pass it: on
// an earlier connection it was beyond one that is not settled. The lock is held.
func (b *Buffer) remember(e *entry) {
	if s := e.span(); s.to >= b.readNext && s.from <= s.to {
		b.beyond = append(b.beyond, s)
	}
}

// forget drops what the log knows.
func (b *Buffer) forget() {
	b.beyond = slices.DeleteFunc(b.beyond, func(s span) bool { return s.to <= b.ackedTo })
}

// known says that the stored message seq is not to be sent again on this
// connection: it is settled, or in flight, or waits to be dropped or to be a dead
// letter. The lock is held.
func (b *Buffer) known(seq uint64) bool {
	if slices.ContainsFunc(b.beyond, func(s span) bool { return s.has(seq) }) {
		return true
	}
	if !b.mixed {
		return false // what is in flight is before what the sender has still to read
	}
	for i := range b.flight.len() {
		if b.flight.at(i).span().has(seq) {
			return true
		}
	}
	return false
}

// spoken are the spans of stored messages that are settled, or counted as
// dropped. The lock is held.
func (b *Buffer) spoken() []span {
	all := slices.Clone(b.beyond)
	for i := range b.flight.len() {
		if e := b.flight.at(i); e.settled || e.pending && e.code == 0 {
			all = append(all, e.span())
		}
	}
	return all
}
