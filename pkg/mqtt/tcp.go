package mqtt

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// gathering is how long a peer has to keep PUBACKs back before it is hastened.
// mosquitto, which takes 4 µs for each here, has the half of a window ready by
// then: in one segment, where at once it would be one or two in each of 30. That
// was 1.6 times the speed, at a third of our CPU time (150 to 200 µs: the same;
// 100 and 300: slower). Behind a real network it is 200 µs in each round trip that
// fills the window.
const gathering = 200 * time.Microsecond

// hastener makes a peer send the PUBACKs that it keeps back. One with Nagle's
// algorithm, as mosquitto has it by default, sends the first and the others not
// before it has our TCP acknowledgement, for which our kernel would wait up to
// 40 ms.
type hastener struct {
	socket syscall.RawConn
	nap    *nap // nil: there is none, and the peer is hastened at once
}

// newHastener is nil where there is no TCP socket below c.
func newHastener(c net.Conn) *hastener {
	raw := socket(c)
	if raw == nil || ackAtOnce(raw) != nil {
		return nil
	}
	nap, _ := newNap() // its only error is that there are too many files
	return &hastener{raw, nap}
}

// hasten lets PUBACKs gather, and then makes the kernel acknowledge what the peer
// has sent, and what it sends next until we send something.
func (h *hastener) hasten() {
	if h.nap != nil {
		h.nap.sleep(gathering)
	}
	_ = ackAtOnce(h.socket) // fails only on a closed connection
}

func (h *hastener) close() {
	if h.nap != nil {
		h.nap.close()
	}
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
