package seglog

import (
	"errors"
	"fmt"
	"slices"
)

// writable is the segment to write to: the head, while it has room for need
// bytes, else one that is used again, else a new one.
func (l *Log) writable(need int) (*segment, error) {
	if !l.named && len(l.taken) > 0 {
		// The last process may have been killed, or failed, before the names of
		// its files were on the disk.
		if err := l.fs.SyncDir(l.dir); err != nil {
			return nil, err
		}
	}
	l.named = true
	if s := l.head; s != nil && !s.given && !s.sealed {
		if err := l.inherit(s); isReadOnly(err) {
			return nil, err
		} else if err != nil {
			l.giveUp(s)
		} else if s.end+need <= s.room() {
			return s, nil
		}
	}
	s, err := l.recycle()
	l.sweep()
	if errors.Is(err, errUnfit) {
		s, err = l.create()
	}
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.head = s
	l.segs = append(l.segs, s)
	l.durable = max(l.durable, s.cursor)
	return s, nil
}

// inherit opens the head that Open found. What a killed process left at its
// end may be in the kernel's memory only, and where an fsync had failed, not
// even on its way to the disk. So the header and the last commit are written
// again, as they are, before anything comes behind them; and zeros over what was
// cut off, else a second torn commit could let it look like the middle of the log.
func (l *Log) inherit(s *segment) error {
	if s.file != nil {
		return nil
	}
	f, err := l.fs.Open(l.path(s.name), true)
	if err != nil {
		return err
	}
	last := make([]byte, max(s.end, l.stale)-l.tail)
	if err = readAll(f, last[:s.end-l.tail], int64(l.tail)); err == nil {
		if _, err = f.WriteAt(last, int64(l.tail)); err == nil {
			err = writeHeader(f, s.header)
		}
	}
	if err != nil {
		f.Close()
		return err
	}
	s.file = f
	return nil
}

// leave ends writing to the head.
func (l *Log) leave() {
	if l.head == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.head.sealed = true
	if l.head.file != nil {
		l.head.file.Close()
		l.head.file = nil
	}
}

// giveUp ends writing to s, in this use and any other.
func (l *Log) giveUp(s *segment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.given = true
	if s.file != nil {
		s.file.Close()
		s.file = nil
	}
}

// header is that of the next use. It overrules whatever the head would get
// from now on, even where writing the header seems to fail, so the head gets
// nothing more.
func (l *Log) header() header {
	l.leave()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.use++
	return header{use: l.use - 1, salt: salt(), first: l.next, cursor: l.cursor, commit: l.commit, size: l.segSize}
}

// recycle uses the oldest segment again whose messages are all acknowledged.
func (l *Log) recycle() (*segment, error) {
	old := l.takeFree()
	if old == nil {
		return nil, errUnfit
	}
	f, err := l.fs.Open(l.path(old.name), true)
	if err != nil {
		l.putBack(old)
		return nil, err
	}
	h := l.header()
	if err := writeHeader(f, h); err != nil {
		f.Close()
		old.given = true
		l.putBack(old)
		if isReadOnly(err) {
			return nil, err
		}
		return nil, errUnfit
	}
	return &segment{header: h, name: old.name, fileSize: h.size, end: headerSize, last: h.first - 1, file: f}, nil
}

// takeFree takes the oldest free segment out of the list.
func (l *Log) takeFree() *segment {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, s := range l.segs {
		if (s != l.head || s.sealed) && s.last <= l.cursor && s.usable(l.segSize) {
			l.segs = slices.Delete(l.segs, i, i+1)
			return s
		}
	}
	return nil
}

// putBack undoes takeFree.
func (l *Log) putBack(s *segment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i, _ := slices.BinarySearchFunc(l.segs, s.use, byUse)
	l.segs = slices.Insert(l.segs, i, s)
}

// writeHeader makes f a segment without records. It is flushed by itself: it
// carries the cursor without which the records that are overwritten next would
// be missed.
func writeHeader(f File, h header) error {
	b := h.encode()
	if _, err := f.WriteAt(b, int64(h.size-headerSize)); err != nil {
		return err
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		return err
	}
	return f.Sync()
}

// create makes a new segment of zeros.
func (l *Log) create() (_ *segment, err error) {
	if err := l.mayCreate(); err != nil {
		return nil, err
	}
	h := l.header()
	name := fmt.Sprintf("%016x%s", h.use, suffix)
	for l.taken[name] {
		name = "x" + name
	}
	temporary := l.path(name + newSuffix)
	f, err := l.fs.Create(temporary)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
			_ = l.fs.Remove(temporary)
			err = fmt.Errorf("make %s: %w", l.path(name), err)
		}
	}()
	zeros := make([]byte, min(h.size, 64<<10))
	for off := 0; off < h.size; off += len(zeros) {
		if _, err := f.WriteAt(zeros[:min(len(zeros), h.size-off)], int64(off)); err != nil {
			return nil, err
		}
	}
	if err := writeHeader(f, h); err != nil {
		return nil, err
	}
	if err := l.fs.Rename(temporary, l.path(name)); err != nil {
		return nil, err
	}
	l.taken[name] = true
	s := &segment{header: h, name: name, fileSize: h.size, end: headerSize, last: h.first - 1, file: f}
	if err := l.fs.SyncDir(l.dir); err != nil {
		// Removed, it could come back and overrule what is written meanwhile;
		// as it is, the next process will know of it.
		s.given, s.file = true, nil
		l.putBack(s)
		return nil, err
	}
	return s, nil
}

// Room says whether one more segment may be made: nil, or ErrFull, ErrNoSpace,
// ErrNoInodes, or what the file system says.
func (l *Log) Room() error { return l.mayCreate() }

// mayCreate applies the bounds. A segment that was given up and holds nothing
// is not counted, else a failing disk would leave the log full.
func (l *Log) mayCreate() error {
	l.mu.Lock()
	n, most, keep := 0, l.most(), l.keepFree
	for _, s := range l.segs {
		if !s.given || s.last > l.cursor {
			n++
		}
	}
	l.mu.Unlock()
	if n >= most {
		return fmt.Errorf("%w: %d segments of %d bytes, not acknowledged", ErrFull, n, l.segSize)
	}
	if err := l.fs.MkdirAll(l.dir); err != nil {
		return err
	}
	free, inodes, err := l.fs.Free(l.dir)
	switch {
	case err != nil:
		return err
	case !inodes:
		return fmt.Errorf("%s: %w", l.dir, ErrNoInodes)
	case free-int64(l.segSize) < keep:
		return fmt.Errorf("%s: %w: %d bytes are free, %d are to stay free", l.dir, ErrNoSpace, free, keep)
	}
	return nil
}

// most is how many segments there may be; mu is held.
func (l *Log) most() int { return max(2, int(l.maxSize/int64(l.segSize))) }

// sweep removes what is of no use any more: segments that were given up, and
// where the disk is short or the limit was lowered, those that are free. What fails
// is tried again next time.
func (l *Log) sweep() {
	free, _, err := l.fs.Free(l.dir)
	l.mu.Lock()
	short := err == nil && free < l.keepFree
	surplus := len(l.segs) - l.most()
	var gone []*segment
	for _, s := range l.segs {
		// Until the cursor is on the disk, a removed message would be missed.
		// The head carries it, and the sequence.
		if s == l.head || s.last > l.durable {
			continue
		}
		if !s.usable(l.segSize) || short || len(gone) < surplus {
			gone = append(gone, s)
		}
	}
	l.mu.Unlock()
	changed := false
	for _, s := range gone {
		if l.fs.Remove(l.path(s.name)) != nil {
			continue
		}
		changed = true
		delete(l.taken, s.name)
		l.mu.Lock()
		l.segs = slices.DeleteFunc(l.segs, func(t *segment) bool { return t == s })
		l.mu.Unlock()
	}
	if changed {
		_ = l.fs.SyncDir(l.dir) // a file that comes back holds nothing new
	}
}
