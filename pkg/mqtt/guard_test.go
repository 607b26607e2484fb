package mqtt

import "testing"

// frames is how many whole frames g finds in stream, and what it says of it.
func frames(g *guard, stream []byte) (whole int, err error) {
	for len(stream) > 0 {
		n, err := g.next(stream)
		if err != nil {
			return whole, err
		}
		stream = stream[n:]
		if g.between() {
			whole++
		}
	}
	return whole, nil
}

func TestGuardStopsBehindAFrame(t *testing.T) {
	t.Parallel()
	var g guard
	stream := []byte{0x40, 2, 0, 1, 0xd0, 0, 0x20, 3, 0}
	for _, want := range []int{4, 2, 3} {
		n, err := g.next(stream)
		if err != nil || n != want {
			t.Fatalf("next = %d, %v; want %d", n, err, want)
		}
		stream = stream[n:]
	}
	if g.between() {
		t.Error("in the middle of a frame it claims to stand between two")
	}
}

// However a stream is cut into pieces, it has the same frames, and none is
// larger than MaxFrame.
func FuzzGuard(f *testing.F) {
	f.Add([]byte{0x20, 0x02, 0x00, 0x00}, 1)
	f.Add([]byte{0x32, 0xff, 0xff, 0xff, 0xff, 0x0f}, 3)
	f.Fuzz(func(t *testing.T, stream []byte, split int) {
		if split < 0 || split > len(stream) {
			split = len(stream)
		}
		var whole, parts guard
		n, a := frames(&whole, stream)
		m, b := frames(&parts, stream[:split])
		if b == nil {
			var more int
			more, b = frames(&parts, stream[split:])
			m += more
		}
		if (a == nil) != (b == nil) || n != m {
			t.Errorf("whole: %d frames, %v; in parts: %d frames, %v", n, a, m, b)
		}
		if whole.body > MaxFrame {
			t.Errorf("a body of %d bytes was let through", whole.body)
		}
	})
}
