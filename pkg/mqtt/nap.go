package mqtt

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// nap is a wait of less than a millisecond. Go's own timers do not have it: where
// nothing else is to be done, its poller waits for a whole one.
type nap struct{ timer *os.File }

func newNap() (*nap, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	return &nap{os.NewFile(uintptr(fd), "timer")}, nil
}

// sleep waits for d, or until close.
func (n *nap) sleep(d time.Duration) {
	raw, err := n.timer.SyscallConn()
	if err != nil {
		return // it is closed
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = unix.TimerfdSettime(int(fd), 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}, nil)
	})
	if err != nil || set != nil {
		return
	}
	var expirations [8]byte
	_, _ = n.timer.Read(expirations[:]) // that it came is all there is to know
}

func (n *nap) close() { n.timer.Close() }
