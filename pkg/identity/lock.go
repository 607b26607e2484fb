package identity

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/atomicfile"
)

// lockWait is how long to wait for another command: longer than a TPM needs
// for an ECDSA key, shorter than a person's patience.
const lockWait = 5 * time.Second

// lock makes the state directory if there is none, and takes identity.lock,
// which csr and import hold while they write. The lock ends with the process,
// whatever happens to it.
func lock(ctx context.Context, opts Options) (unlock func(), err error) {
	if err := os.MkdirAll(opts.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("%s: the state directory cannot be made: %w; run as root, or give --state-dir", opts.StateDir, reason(err))
	}
	path := opts.path(LockFile)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%s: cannot be opened: %w; run as root, or as the service's user", path, reason(err))
	}
	if err := atomicfile.HandOver(f, opts.StateDir); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: cannot be given to the service's user: %w; look at the file system", path, reason(err))
	}
	if err := flock(ctx, f); err != nil {
		defer f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	// Who holds it, for the next one's error; nothing depends on it.
	if f.Truncate(0) == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return func() { f.Close() }, nil
}

func flock(ctx context.Context, f *os.File) error {
	ctx, cancel := context.WithTimeoutCause(ctx, lockWait, errors.New("another csr or import"))
	defer cancel()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return fmt.Errorf("cannot be locked: %w; look at the file system", err)
		}
		// flock(2) cannot be waited for together with a context.
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			if ctx.Err() == context.Canceled {
				return context.Cause(ctx)
			}
			pid, _ := io.ReadAll(io.LimitReader(f, 16))
			return fmt.Errorf("another jitr-agent csr or import (pid %s) holds it; wait until that one has ended", strings.TrimSpace(string(pid)))
		}
	}
}
