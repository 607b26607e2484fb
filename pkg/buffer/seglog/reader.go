package seglog

import (
	"errors"
	"io"
	"io/fs"
	"slices"
)

// Entry is what a Reader finds: a message, or that some are missing.
type Entry struct {
	Seq     uint64
	Payload []byte // valid until the next call of Next
	// Lost is not 0 where the message Seq and the Lost-1 behind it are no
	// longer there. Where a whole segment was destroyed it is the most that
	// it can have held.
	Lost uint64
}

// Reader goes through the messages that are not acknowledged, in order. It
// needs no closing. It may be used beside everything else, by one goroutine.
type Reader struct {
	log  *Log
	next uint64 // the sequence number that is wanted
	held record // the next message found, if it is one

	seg    *segment // what buf was read from
	last   uint64   // what comes behind it in seg is void
	off    int      // in seg, where buf ends
	buf    []byte
	rest   []byte // of buf, not yet looked at
	sc     scanner
	failed int // reads in a row
}

// patience is how often a read that fails is an error of Next before what it
// was to read counts as lost.
const patience = 3

// Read begins at the message from, or at the oldest one that is not
// acknowledged, whichever is later.
func (l *Log) Read(from uint64) *Reader { return &Reader{log: l, next: max(1, from)} }

// Next is the next message, or the next gap. io.EOF says that there is none
// now; a later call may find one. Another error says that the disk could not
// be read; the next call tries again, a few times.
func (r *Reader) Next() (Entry, error) {
	for {
		if !r.forward() {
			return Entry{}, io.EOF
		}
		if r.held.kind == 0 {
			r.held = r.scan()
		}
		switch m := r.held; {
		case m.kind == 0:
			switch lost, err := r.load(); {
			case err != nil:
				return Entry{}, err
			case lost > 0:
				return r.lose(lost), nil
			}
		case m.seq > r.next:
			return r.lose(m.seq - r.next), nil
		default:
			r.held = record{}
			if m.seq == r.next {
				r.next++
				return Entry{Seq: m.seq, Payload: m.payload}, nil
			}
		}
	}
}

// forward steps over what is acknowledged, and says whether there is more.
func (r *Reader) forward() bool {
	l := r.log
	l.mu.Lock()
	defer l.mu.Unlock()
	r.next = max(r.next, l.cursor+1)
	return r.next < l.next
}

// scan is the next message in what was read.
func (r *Reader) scan() record {
	for len(r.rest) > 0 {
		m, _, end, ok := r.sc.next(r.rest)
		r.rest = r.rest[end:]
		if ok && m.kind == kindMessage && m.seq <= r.last {
			return m
		}
	}
	return record{}
}

// lose reports n messages as missing. Open has counted the damage that was
// there already.
func (r *Reader) lose(n uint64) Entry {
	e := Entry{Seq: r.next, Lost: n}
	r.next += n
	if s := r.seg; s != nil {
		r.log.mu.Lock()
		defer r.log.mu.Unlock()
		if s.bad == 0 {
			s.bad++
			r.log.bad++
		}
	}
	return e
}

// load reads on, in this segment or the next. Where there is nothing more to
// read, all messages up to the end of the log are lost, and it says how many.
func (r *Reader) load() (lost uint64, err error) {
	s, last, end, lost := r.choose()
	if s == nil {
		return lost, nil
	}
	off := headerSize
	if s == r.seg {
		off = r.off
	}
	r.buf = slices.Grow(r.buf[:0], end-off)[:end-off]
	f, err := r.log.fs.Open(r.log.path(s.name), false)
	if err == nil {
		err = readAll(f, r.buf, int64(off))
		f.Close()
	} else {
		clear(r.buf)
	}
	if !r.log.has(s) { // acknowledged meanwhile, and perhaps overwritten
		return 0, nil
	}
	// What is cut off or gone will not come back by waiting.
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, io.ErrUnexpectedEOF) && r.failed < patience {
		r.failed++
		return 0, err
	}
	r.failed = 0
	if s != r.seg {
		r.sc = s.scanner()
	}
	r.seg, r.last, r.off, r.rest = s, last, end, r.buf
	return 0, nil
}

// choose finds where the wanted message can be, and how far that is written.
func (r *Reader) choose() (s *segment, last uint64, end int, lost uint64) {
	l := r.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.next <= l.cursor {
		return nil, 0, 0, 0
	}
	for _, s := range l.segs {
		if s.last < r.next || s.messages == 0 {
			continue
		}
		if r.seg == nil || s.use > r.seg.use || s == r.seg && s.end > r.off {
			return s, s.last, s.end, 0
		}
	}
	return nil, 0, 0, l.next - r.next
}

// has says whether s still holds what it did.
func (l *Log) has(s *segment) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Contains(l.segs, s)
}
