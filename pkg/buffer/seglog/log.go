package seglog

import (
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
)

// Options say where the log is and how large it may become. Zero values stand
// for the defaults.
type Options struct {
	// SegmentSize in bytes, 1 MiB: large enough that what a segment costs by
	// itself (two header pages and a flush) is under 1 %, small enough that
	// little is held by one message that is not acknowledged.
	SegmentSize int
	// MaxSize bounds the segments' files, in bytes; 64 MiB. At least two
	// segments are used.
	MaxSize int64
	// KeepFree is what a new segment must leave on the file system, in bytes.
	KeepFree int64
	// FS is the file system; that of the machine.
	FS FS
}

const (
	defaultSegmentSize = 1 << 20
	defaultMaxSize     = 64 << 20
	// maxSegmentSize is the largest that Open reads, so that a wrong file
	// cannot take the memory.
	maxSegmentSize = 16 << 20
)

// Log is a log in a folder, of which it must be the only user. It is safe for
// concurrent use. Append, Flush and Close wait for the disk and for each
// other; all other methods wait for neither.
type Log struct {
	dir     string
	fs      FS
	segSize int

	writing sync.Mutex // held by who writes; taken before mu
	head    *segment   // the one that is written to; nil before the first use
	use     uint64     // of the next segment
	commit  uint32     // the next one
	fresh   bool       // nothing was written since Open
	tail    int        // where the last commit begins in the head that Open found
	stale   int        // where what was cut off behind it ends, 0 for nothing
	named   bool       // the names of all segments are on the disk
	taken   map[string]bool
	closed  bool
	buf     []byte

	mu       sync.Mutex
	segs     []*segment // by use
	broken   []broken   // segments without a header
	maxSize  int64
	keepFree int64
	next     uint64 // sequence number
	cursor   uint64 // all up to it is acknowledged
	durable  uint64 // the cursor on the disk
	bad      int
	torn     int
	newer    int
	err      error // of the last write
}

// Append writes a batch, in order, and returns when it is safe: one write and
// one fdatasync, or one more for each segment that it goes on in. The messages
// have the sequence numbers first, first+1, …; numbers begin with 1.
//
// The first n are safe. An error says why the others are not: they were not
// taken, though a message that was on its way to the disk may still be read
// after a crash. The payloads are not kept.
func (l *Log) Append(batch ...[]byte) (first uint64, n int, err error) {
	l.writing.Lock()
	defer l.writing.Unlock()
	first = l.next // only changes under writing
	if l.closed {
		return first, 0, ErrClosed
	}
	for _, p := range batch {
		if most := min(MaxPayload, l.segSize-2*headerSize-cursorSize-recordHeader); len(p) > most {
			return first, 0, fmt.Errorf("%w: %d bytes, at most %d can be kept", ErrTooLarge, len(p), most)
		}
	}
	for n < len(batch) {
		k, err := l.write(batch[n:])
		n += k
		if err != nil {
			return first, n, err
		}
	}
	return first, n, nil
}

// Ack says that all messages up to upTo are delivered, and never needed again.
// It waits for nothing: after a crash they may come back, until an Append or a
// Flush that began later has returned.
func (l *Log) Ack(upTo uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cursor = max(l.cursor, min(upTo, l.next-1))
}

// Flush makes the last Ack last, where no Append came along. It costs a page
// and a flush, so it is for when the log is idle, or drained for a while.
func (l *Log) Flush() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if l.closed {
		return ErrClosed
	}
	l.mu.Lock()
	same := l.cursor == l.durable
	l.mu.Unlock()
	if same {
		return nil
	}
	_, err := l.write(nil)
	if err == nil {
		l.sweep()
	}
	return err
}

// Probe writes the cursor, needed or not: it is for seeing whether a disk that
// failed takes writes again.
func (l *Log) Probe() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if l.closed {
		return ErrClosed
	}
	_, err := l.write(nil)
	return err
}

// Close makes the last Ack last, and marks the log as whole. A second Close
// does nothing.
func (l *Log) Close() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if l.closed {
		return nil
	}
	var err error
	l.mu.Lock()
	same := l.cursor == l.durable
	l.mu.Unlock()
	if !same || !l.fresh {
		_, err = l.write(nil)
	}
	l.closed = true
	l.leave()
	return err
}

// SetLimits changes what Open was given. Segments above a smaller limit go when
// their messages are acknowledged.
func (l *Log) SetLimits(maxSize, keepFree int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.maxSize, l.keepFree = maxSize, keepFree
}

// write makes as much of batch safe as goes into one segment, and the cursor
// with it, and returns how many messages that was. An empty batch writes the
// cursor alone. After a failure it tries once more elsewhere.
func (l *Log) write(batch [][]byte) (n int, err error) {
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.err = err
	}()
	need := cursorSize
	if len(batch) > 0 {
		need += recordHeader + len(batch[0])
	}
	for range 2 {
		var s *segment
		if s, err = l.writable(need); err != nil {
			return 0, err
		}
		if n, err = l.commitTo(s, batch); err == nil {
			l.putAside()
			return n, nil
		}
		l.giveUp(s)
	}
	return 0, err
}

// commitTo is one commit to s.
func (l *Log) commitTo(s *segment, batch [][]byte) (n int, err error) {
	l.mu.Lock()
	cursor, durable, next := l.cursor, l.durable, l.next
	l.mu.Unlock()
	salt := s.saltCRC()
	b := l.buf[:0]
	if cursor != durable || len(batch) == 0 {
		b = appendCursor(b, salt, next-1, l.commit, cursor)
	}
	var bytes int64
	for _, p := range batch {
		if s.end+len(b)+recordHeader+len(p) > s.room() {
			break
		}
		b = appendRecord(b, salt, kindMessage, next+uint64(n), l.commit, p)
		bytes += int64(len(p))
		n++
	}
	if cap(b) <= 64<<10 { // a rare large one is not worth its memory
		l.buf = b
	}
	if _, err := s.file.WriteAt(b, int64(s.end)); err != nil {
		return 0, fmt.Errorf("write %s: %w", l.path(s.name), err)
	}
	if err := s.file.Sync(); err != nil {
		return 0, fmt.Errorf("fsync %s: %w", l.path(s.name), err)
	}
	l.commit++
	l.fresh = false
	l.mu.Lock()
	defer l.mu.Unlock()
	s.end += len(b)
	s.messages += int64(n)
	s.bytes += bytes
	l.next += uint64(n)
	if n > 0 {
		s.last = l.next - 1
	}
	l.durable = max(l.durable, cursor)
	return n, nil
}

func (l *Log) path(name string) string { return filepath.Join(l.dir, name) }

// salt is a new one.
func salt() (s [8]byte) {
	_, _ = rand.Read(s[:]) // never fails
	return s
}

// isReadOnly says that an error came before anything was written.
func isReadOnly(err error) bool { return stateOf(err) == ReadOnly }

var errUnfit = errors.New("no segment is free")
