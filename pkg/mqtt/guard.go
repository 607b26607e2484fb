package mqtt

import "fmt"

// MaxFrame is the largest frame taken from the server, in bytes after the
// fixed header. AWS IoT's largest message is 128 KiB of payload plus topic and
// properties; paho allocates whatever length a frame announces, which at 4 GB
// is a crash on a 32-bit gateway.
const MaxFrame = 256 << 10

// guard follows the frame boundaries in a byte stream and refuses a frame
// before anybody allocates memory for it. The zero value stands before the
// first frame.
type guard struct {
	body   int // bytes of the current frame's body still to come
	digits int // length digits read so far; the first byte sets inHead
	length int
	inHead bool
}

// check looks at the next bytes of the stream.
func (g *guard) check(p []byte) error {
	for len(p) > 0 {
		switch {
		case g.body > 0:
			n := min(g.body, len(p))
			g.body -= n
			p = p[n:]
		case !g.inHead:
			if p[0]>>4 == 0 {
				return fmt.Errorf("%w: packet type 0", ErrFrame)
			}
			g.inHead, g.digits, g.length = true, 0, 0
			p = p[1:]
		default:
			if g.digits == 4 {
				return fmt.Errorf("%w: its length has more than four bytes", ErrFrame)
			}
			g.length |= int(p[0]&0x7f) << (7 * g.digits)
			g.digits++
			if p[0]&0x80 == 0 {
				if g.length > MaxFrame {
					return fmt.Errorf("%w: %d bytes, where at most %d are taken", ErrFrame, g.length, MaxFrame)
				}
				g.inHead, g.body = false, g.length
			}
			p = p[1:]
		}
	}
	return nil
}
