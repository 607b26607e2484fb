// Package filelock lets one process at a time work on a directory, by an
// flock(2) on a file in it. The kernel drops the lock when the process ends,
// however it ends, so nothing is ever stale.
package filelock

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jitr-agent/jitr-agent/internal/atomicfile"
)

// Held is the answer while another process has the lock.
type Held struct { //nolint:errname // errors.As reads well with the name of what happened
	Path string
	PID  int // of the holder, 0 where it is not known
}

func (e *Held) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("another process holds %s", e.Path)
	}
	return fmt.Sprintf("process %d holds %s", e.PID, e.Path)
}

// Lock is a lock that is held.
type Lock struct{ file *os.File }

// Try takes the lock, or says at once who has it (*Held). On a file system that
// is read-only the file must be there already, and does not get our pid.
func Try(path string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	readOnly := errors.Is(err, unix.EROFS)
	if readOnly {
		f, err = os.Open(path)
	}
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &Held{Path: path, PID: holder(f)}
		}
		return nil, fmt.Errorf("flock %s: %w", path, err)
	}
	l := &Lock{f}
	if readOnly {
		return l, nil
	}
	// The holder's pid is for people; the lock does not depend on it.
	if err := errors.Join(f.Truncate(0), write(f, os.Getpid()), atomicfile.HandOver(f, filepath.Dir(path))); err != nil {
		l.Unlock()
		return nil, err
	}
	return l, nil
}

// poll is how often Wait tries. flock(2) cannot be waited for with a context.
const poll = 50 * time.Millisecond

// Wait takes the lock as soon as it is free. When ctx ends first, the error
// says who has it (*Held).
func Wait(ctx context.Context, path string) (*Lock, error) {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		l, err := Try(path)
		var held *Held
		if err == nil || !errors.As(err, &held) {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-tick.C:
		}
	}
}

// Unlock gives the lock back. The file stays: removing it would let two
// processes hold two locks of one name.
func (l *Lock) Unlock() { l.file.Close() }

func write(f *os.File, pid int) error {
	_, err := f.WriteAt([]byte(strconv.Itoa(pid)+"\n"), 0)
	return err
}

func holder(f *os.File) int {
	data, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(data)))
	if err != nil {
		return 0
	}
	return pid
}
