package local

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// hungUp says whether the other side has closed the connection, without
// reading from it.
func hungUp(conn net.Conn) (gone bool) {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return true // closed on this side
	}
	const ended = unix.POLLRDHUP | unix.POLLHUP | unix.POLLERR
	err = raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, _ := unix.Poll(fds, 0) // an interrupted one says no, until the next
		gone = n > 0 && fds[0].Revents&ended != 0
	})
	return gone || err != nil
}
