package netpath

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// userTimeout sets TCP_USER_TIMEOUT: data that the peer has not acknowledged
// for that long ends the connection. Without it a link that died silently is
// noticed only by the keep-alive, one to two intervals later.
func userTimeout(stall time.Duration) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var set error
		err := c.Control(func(fd uintptr) {
			set = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(stall.Milliseconds()))
		})
		if err != nil {
			return err
		}
		return set
	}
}
