package identity

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/atomicfile"
	"github.com/jitr-agent/jitr-agent/internal/filelock"
)

// lockWait is how long to wait for another command: longer than a TPM needs
// for an ECDSA key, shorter than a person's patience.
const lockWait = 5 * time.Second

// lock makes the state directory if there is none, and takes identity.lock,
// which everybody holds who writes a key or a certificate there. The lock ends
// with the process, whatever happens to it.
func lock(ctx context.Context, opts Options) (unlock func(), err error) {
	if err := os.MkdirAll(opts.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("%s: the state directory cannot be made: %w; run as root, or give --state-dir", opts.StateDir, reason(err))
	}
	patience, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	path := opts.path(LockFile)
	l, err := filelock.Wait(patience, path)
	switch {
	case err == nil:
		for _, name := range []string{KeyFile, CertFile, NextKeyFile, NextCertFile} {
			_ = atomicfile.Sweep(opts.path(name)) // what a killed command left only takes room
		}
		return l.Unlock, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	if held, ok := errors.AsType[*filelock.Held](err); ok {
		return nil, fmt.Errorf("%s: another jitr-agent csr or import (pid %d) holds it; wait until that one has ended", path, held.PID)
	}
	return nil, fmt.Errorf("%s: cannot be locked: %w; run as root, or as the service's user", path, reason(err))
}
