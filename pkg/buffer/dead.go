package buffer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/jitr-agent/jitr-agent/pkg/buffer/seglog"
)

const (
	// deadSize bounds the dead letters, in bytes of files: some ten thousand of
	// the usual size. The oldest give way.
	deadSize = 4 << 20
	// deadSegment is the smallest that holds the longest message.
	deadSegment = 256 << 10
)

func deadDir(dir string) string { return filepath.Join(dir, "dead") }

// keepDead writes dead letters to their own log. A record there has the reason
// code and the time, 1 and 8 bytes, before the record of the message.
func (b *Buffer) keepDead(dead []*entry) error {
	if b.disk.dead == nil {
		log, err := seglog.Open(deadDir(b.cfg.Dir), seglog.Options{
			SegmentSize: deadSegment, MaxSize: deadSize, KeepFree: b.keepFree(), FS: b.fs,
		})
		if err != nil {
			return err
		}
		b.disk.dead = log
	}
	now := b.cfg.Clock.now()
	var records [][]byte
	b.mu.Lock()
	for _, e := range dead {
		if e.log == 0 {
			e.stamp = now.stamp(e.at).of(e.stamp)
		}
		record := binary.BigEndian.AppendUint64([]byte{e.code}, uint64(now.mono.UnixMilli()))
		records = append(records, appendRecord(record, &e.message, e.stamp))
	}
	b.mu.Unlock()
	for len(records) > 0 {
		_, n, err := b.disk.dead.Append(records...)
		records = records[n:]
		if err == nil {
			continue
		}
		_, to, ok := b.disk.dead.OldestSegment()
		if !ok || !errors.Is(err, seglog.ErrFull) {
			return fmt.Errorf("keep a dead letter: %w", err)
		}
		b.disk.dead.Ack(to)
	}
	return nil
}

func (b *Buffer) keepFree() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.limits.KeepFree
}

// parseDead reads a record of a dead letter.
func parseDead(record []byte) (code byte, at time.Time, m Message, s stamp, err error) {
	if len(record) < 9 {
		return 0, time.Time{}, Message{}, stamp{}, errRecord
	}
	m, s, err = parseRecord(record[9:])
	return record[0], time.UnixMilli(int64(binary.BigEndian.Uint64(record[1:9]))).UTC(), m, s, err
}
