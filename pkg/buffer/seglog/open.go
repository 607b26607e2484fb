package seglog

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"
)

// Open opens the log in dir, or begins one. It writes nothing but copies of
// bad pieces; the folder is made by the first Append. A file system that is
// full or takes no writes is no error, nor is damage of any kind: see Stats.
//
// It reads all segments once, with one of them in memory.
func Open(dir string, o Options) (*Log, error) {
	if o.SegmentSize == 0 {
		o.SegmentSize = defaultSegmentSize
	}
	if o.SegmentSize < 512 || o.SegmentSize > maxSegmentSize {
		return nil, fmt.Errorf("open %s: a segment of %d bytes is not between 512 and %d", dir, o.SegmentSize, maxSegmentSize)
	}
	if o.MaxSize == 0 {
		o.MaxSize = defaultMaxSize
	}
	if o.FS == nil {
		o.FS = Disk()
	}
	l := &Log{
		dir: dir, fs: o.FS, segSize: o.SegmentSize, maxSize: o.MaxSize, keepFree: o.KeepFree,
		next: 1, commit: 1, use: 1, fresh: true, taken: map[string]bool{},
	}
	files, err := l.fs.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	for _, f := range files {
		switch {
		case strings.HasSuffix(f.Name, suffix+newSuffix): // never finished
			_ = l.fs.Remove(l.path(f.Name))
		case strings.HasSuffix(f.Name, suffix):
			l.taken[f.Name] = true
			l.find(f)
		}
	}
	slices.SortFunc(l.segs, func(a, b *segment) int {
		return cmp.Or(cmp.Compare(a.use, b.use), strings.Compare(a.name, b.name))
	})
	l.recover()
	return l, nil
}

func byUse(s *segment, use uint64) int { return cmp.Compare(s.use, use) }

// find reads a file's headers, and says what it is.
func (l *Log) find(f Info) {
	ends := make([]byte, 2*headerSize)
	var unread error
	if f.Size < 2*headerSize || f.Size > maxSegmentSize {
		l.broken = append(l.broken, broken{name: f.Name})
		l.bad++
		return
	}
	file, err := l.fs.Open(l.path(f.Name), false)
	if err != nil {
		unread = err
	} else {
		unread = errors.Join(readAll(file, ends[:headerSize], 0), readAll(file, ends[headerSize:], f.Size-headerSize))
		file.Close()
	}
	h, ok, bad, newer := headerOf(ends)
	switch {
	case newer:
		l.newer++ // stays as it is, for the version that wrote it
		return
	case !ok || h.size < 2*headerSize || h.size > maxSegmentSize || h.first == 0:
		l.broken = append(l.broken, broken{name: f.Name, keep: unread != nil})
		l.bad++
		return
	}
	s := &segment{header: h, name: f.Name, fileSize: int(f.Size), end: headerSize, last: h.first - 1}
	if bad {
		s.bad++
	}
	l.segs = append(l.segs, s)
}

// recover finds out where the log ends, where its cursor stands, and what is
// missing. The segments are in order.
func (l *Log) recover() {
	for _, s := range l.segs {
		l.cursor = max(l.cursor, s.cursor)
		l.use = max(l.use, s.use+1)
	}
	// What is void: a later use overrules earlier ones from its first on.
	limit := uint64(math.MaxUint64)
	limits := make([]uint64, len(l.segs))
	for i, s := range slices.Backward(l.segs) {
		limits[i] = limit
		limit = min(limit, s.first)
	}
	seen := uint64(0) // the last message
	var buf []byte
	for i, s := range l.segs {
		buf = slices.Grow(buf[:0], s.size)[:s.size]
		file, err := l.fs.Open(l.path(s.name), false)
		if err != nil {
			clear(buf)
		} else {
			_ = readAll(file, buf, 0) // a page of zeros is as good an error
			file.Close()
		}
		l.scan(s, buf[:s.room()], seen, limits[i], i == len(l.segs)-1)
		seen = max(seen, s.last)
	}
	l.next = max(l.next, l.cursor+1, seen+1)
	// The cursor may have been read from the kernel's memory: durable stays 0,
	// and the first commit writes it again.
	if n := len(l.segs); n > 0 {
		l.head = l.segs[n-1]
		l.next = max(l.next, l.head.first)
		if !l.head.usable(l.segSize) {
			l.head.given = true
		}
	}
	if holes := l.countTails(); len(l.broken) > holes {
		// One of the files without a header may have been the last. Its numbers
		// are not given a second time, so that what it held is missed, not
		// mistaken; the next segment's header says where it goes on.
		l.next += uint64(len(l.broken)-holes) * uint64(l.segSize/recordHeader)
		if l.head != nil {
			l.head.sealed = true
		}
	}
}

// piece is a part of a segment that is no record.
type piece struct {
	start, end int
	commit     uint32 // of the record behind it
	seq        uint64 // likewise
	proven     bool   // what is behind it says that it was fsynced
}

// scan finds the records of s that count: behind seen, before limit. The head's
// last commit is taken only up to where it is whole.
func (l *Log) scan(s *segment, b []byte, seen, limit uint64, head bool) {
	f := s.walk(b, seen, limit)
	// The number of a commit that is cut off is not given again either: what is
	// left of it on the disk must stay behind the times.
	l.commit = max(l.commit, s.commit, f.commit+1)
	if head {
		if i := slices.IndexFunc(f.pieces, func(p piece) bool { return p.commit == f.commit && !p.proven }); i >= 0 {
			l.stale = f.end
			f = s.walk(b[:f.pieces[i].start], seen, limit)
			l.torn++
		}
	}
	s.end, s.last, s.messages, s.bytes = f.end, f.last, f.messages, f.bytes
	l.tail = f.tail
	l.cursor = max(l.cursor, f.cursor)
	l.next = max(l.next, f.next)
	l.bad += s.bad
	for _, p := range f.pieces {
		if p.seq > l.cursor && p.seq < limit {
			s.bad++
			l.bad++
			l.keepPiece(s, p.start, b[p.start:p.end])
		}
	}
}

// findings are what is in a segment.
type findings struct {
	end, tail       int // of the last record; where the last commit begins
	last            uint64
	messages, bytes int64
	commit          uint32 // the last one, 0 for none
	cursor, next    uint64 // from cursors, 0 for none
	pieces          []piece
}

// walk goes through a segment, or the front of one.
func (s *segment) walk(b []byte, seen, limit uint64) findings {
	f := findings{end: headerSize, tail: headerSize, last: s.first - 1}
	sc := s.scanner()
	for off := headerSize; ; {
		r, start, end, ok := sc.next(b[off:])
		if !ok {
			return f
		}
		if start > 0 {
			// A cursor comes first in its commit, so what it follows was whole.
			f.pieces = append(f.pieces, piece{off, off + start, r.commit, r.seq, r.kind == kindCursor})
		}
		if r.commit != f.commit {
			f.commit, f.tail = r.commit, off+start
		}
		off += end
		f.end = off
		switch {
		case r.kind == kindCursor:
			f.cursor = max(f.cursor, min(r.cursor(), r.seq))
			if r.seq < limit {
				f.next = max(f.next, r.seq+1)
			}
		case r.seq > seen && r.seq < limit:
			f.last = r.seq
			f.messages++
			f.bytes += int64(len(r.payload))
		}
	}
}

// countTails counts what is missing between segments: the end of one, or a
// whole one.
func (l *Log) countTails() (holes int) {
	want := l.cursor + 1
	for _, s := range l.segs {
		if s.messages == 0 && s != l.head || s.last < l.cursor {
			continue
		}
		if s.first > want {
			s.bad++
			l.bad++
			holes++
		}
		want = max(want, s.last+1)
	}
	return holes
}
