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

// between says whether the stream stands between two frames.
func (g *guard) between() bool { return g.body == 0 && !g.inHead }

// next looks at the next bytes of the stream and says how many of them belong
// to the current frame: all, or those up to its end.
func (g *guard) next(p []byte) (int, error) {
	for n := 0; n < len(p); {
		switch {
		case g.body > 0:
			part := min(g.body, len(p)-n)
			g.body -= part
			n += part
		case !g.inHead:
			if p[n]>>4 == 0 {
				return 0, fmt.Errorf("%w: packet type 0", ErrFrame)
			}
			g.inHead, g.digits, g.length = true, 0, 0
			n++
		default:
			if g.digits == 4 {
				return 0, fmt.Errorf("%w: its length has more than four bytes", ErrFrame)
			}
			g.length |= int(p[n]&0x7f) << (7 * g.digits)
			g.digits++
			if p[n]&0x80 == 0 {
				if g.length > MaxFrame {
					return 0, fmt.Errorf("%w: %d bytes, where at most %d are taken", ErrFrame, g.length, MaxFrame)
				}
				g.inHead, g.body = false, g.length
			}
			n++
		}
		if g.between() {
			return n, nil
		}
	}
	return len(p), nil
}
