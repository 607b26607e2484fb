package buffer

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jitr-agent/jitr-agent/pkg/buffer/seglog"
)

// Letter is a stored message, or a dead letter, as people look at it.
type Letter struct {
	Message
	Stream string
	Seq    uint64
	At     time.Time // when it was handed in; zero where the clock was wrong
	Code   byte      // of a dead letter: the PUBACK's reason code
	DeadAt time.Time // and when that was
}

// Stored calls f for each message that waits in the log of dir, oldest first.
// lost is how many could not be read. It changes nothing, and a Buffer may be at
// work in dir: then some may be missing.
func Stored(dir string, f func(Letter) error) (lost uint64, err error) {
	return read(dir, func(record []byte) (Letter, error) {
		m, s, err := parseRecord(record)
		return Letter{Message: m, Stream: s.streamID(), Seq: s.seq, At: s.wall()}, err
	}, f)
}

// Dead is Stored for the dead letters.
func Dead(dir string, f func(Letter) error) error {
	_, err := read(deadDir(dir), func(record []byte) (Letter, error) {
		code, at, m, s, err := parseDead(record)
		return Letter{Message: m, Stream: s.streamID(), Seq: s.seq, At: s.wall(), Code: code, DeadAt: at}, err
	}, f)
	return err
}

// untouched is a file system on which nothing is changed: the log writes copies
// of damaged pieces when it is opened.
type untouched struct{ seglog.FS }

func (untouched) MkdirAll(string) error              { return syscall.EROFS }
func (untouched) Create(string) (seglog.File, error) { return nil, syscall.EROFS }
func (untouched) Rename(string, string) error        { return syscall.EROFS }
func (untouched) Remove(string) error                { return syscall.EROFS }
func (untouched) SyncDir(string) error               { return syscall.EROFS }
func (u untouched) Open(path string, write bool) (seglog.File, error) {
	if write {
		return nil, syscall.EROFS
	}
	return u.FS.Open(path, false)
}

func read(dir string, parse func([]byte) (Letter, error), f func(Letter) error) (lost uint64, err error) {
	log, err := seglog.Open(dir, seglog.Options{FS: untouched{seglog.Disk()}})
	if err != nil {
		return 0, err
	}
	for reader := log.Read(0); ; {
		found, err := reader.Next()
		switch {
		case errors.Is(err, io.EOF):
			return lost, nil // not closed: that would write
		case err != nil:
			return lost, err
		case found.Lost > 0:
			lost += found.Lost
			continue
		}
		letter, err := parse(found.Payload)
		if err != nil {
			lost++
			continue
		}
		if err := f(letter); err != nil {
			return lost, err
		}
	}
}

// PurgeDead removes the dead letters in dir for good. No Buffer may be at work
// there.
func PurgeDead(dir string) error { return os.RemoveAll(deadDir(dir)) }

// Purge removes all messages and dead letters in dir for good, and the gap
// records with them. No Buffer may be at work there.
func Purge(dir string) error {
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := os.RemoveAll(name); err != nil {
			return err
		}
	}
	return nil
}
