package seglog

import (
	"errors"
	"io"
)

// segment is one file of the log. What changes while it is used is guarded by
// Log.mu; the file is the writer's.
type segment struct {
	header
	name     string
	fileSize int
	end      int    // where the last record ends
	last     uint64 // the last message's sequence number, first-1 for none
	messages int64
	bytes    int64 // of payloads
	bad      int   // pieces
	sealed   bool  // nothing more is written to it in this use
	given    bool  // given up: writing failed, so it is not used again either
	file     File  // open for writing, in the segment that is written to
}

// room is where records must end: before the copy of the header.
func (s *segment) room() int { return s.size - headerSize }

// usable says whether the segment may be used again, once it is acknowledged.
func (s *segment) usable(size int) bool { return !s.given && s.size == size && s.fileSize == size }

// pending estimates what is not acknowledged. It is exact unless the cursor
// stands within the segment: sizes of single messages are not kept.
func (s *segment) pending(cursor uint64) (messages, bytes int64) {
	if s.messages == 0 || s.last <= cursor {
		return 0, 0
	}
	messages = s.messages
	if n := s.last - max(cursor, s.first-1); n < uint64(messages) {
		messages = int64(n)
	}
	return messages, s.bytes * messages / s.messages
}

// pageSize is the smallest part that a card reads or fails to read.
const pageSize = 4096

// readAll fills b from off on. A page that cannot be read is left as zeros, so
// that it costs the records in it and no others; err tells of the last one.
func readAll(f File, b []byte, off int64) (err error) {
	n, e := f.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if errors.Is(e, io.EOF) {
		clear(b[n:])
		return io.ErrUnexpectedEOF
	}
	for from := 0; from < len(b); {
		to := min(len(b), from+pageSize-int((off+int64(from))%pageSize))
		if n, e := f.ReadAt(b[from:to], off+int64(from)); n < to-from {
			clear(b[from+n : to])
			err = e
		}
		from = to
	}
	return err
}
