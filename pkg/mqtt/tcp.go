package mqtt

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// hastener is a function that makes the kernel acknowledge at once what the
// peer has sent, and what it sends next until we send something. It is nil where
// there is no TCP socket below c.
func hastener(c net.Conn) func() {
	raw := socket(c)
	if raw == nil || ackAtOnce(raw) != nil {
		return nil
	}
	return func() { _ = ackAtOnce(raw) } // fails only on a closed connection
}

// socket is the TCP socket below TLS and whatever else is wrapped around it, nil
// where there is none.
func socket(c net.Conn) syscall.RawConn {
	for {
		switch below := c.(type) {
		case interface{ NetConn() net.Conn }:
			c = below.NetConn()
		case *net.TCPConn:
			raw, err := below.SyscallConn()
			if err != nil {
				return nil
			}
			return raw
		default:
			return nil
		}
	}
}

// ackAtOnce ends the delay of TCP acknowledgements, for now: tcp(7).
func ackAtOnce(raw syscall.RawConn) error {
	var set error
	err := raw.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
	})
	if err != nil {
		return err
	}
	return set
}
