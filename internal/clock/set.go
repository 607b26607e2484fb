package clock

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// WatchSet calls changed each time somebody sets the wall clock, until ctx
// ends: timedatectl, an NTP client that steps it, or the kernel after a
// suspend. Slewing, as NTP clients do for small errors, is no change.
//
// The kernel tells through a timer on the wall clock that is never due and is
// cancelled when that clock jumps (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET).
func WatchSet(ctx context.Context, changed func()) error {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("timerfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "timerfd")
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { f.Close() })
	defer stop()
	buf := make([]byte, 8)
	for {
		if err := arm(f); err != nil {
			return ended(ctx, err)
		}
		switch _, err := f.Read(buf); {
		case errors.Is(err, unix.ECANCELED):
			changed()
		case err != nil:
			return ended(ctx, err)
		}
	}
}

// arm sets the timer as far into the future as a 32-bit time goes.
func arm(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		far := unix.ItimerSpec{Value: unix.NsecToTimespec(1<<31*1e9 - 1e9)}
		set = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &far, nil)
	})
	if err == nil && set != nil {
		err = fmt.Errorf("timerfd_settime: %w", set)
	}
	return err
}

// ended is nil when the end is what the caller wanted.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil //nolint:nilerr // as the comment says
	}
	return err
}
