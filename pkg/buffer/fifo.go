package buffer

// fifo is a queue in a ring that grows with its content, and shrinks when it
// is empty. The zero value is an empty one.
type fifo[T any] struct {
	ring    []T
	head, n int
}

// roomy is how many places an empty fifo keeps.
const roomy = 1024

func (f *fifo[T]) len() int { return f.n }

// at is the i-th element from the front.
func (f *fifo[T]) at(i int) T { return f.ring[(f.head+i)%len(f.ring)] }

func (f *fifo[T]) grow() {
	if f.n < len(f.ring) {
		return
	}
	ring := make([]T, max(16, 2*len(f.ring)))
	for i := range f.n {
		ring[i] = f.at(i)
	}
	f.ring, f.head = ring, 0
}

func (f *fifo[T]) push(v T) {
	f.grow()
	f.ring[(f.head+f.n)%len(f.ring)] = v
	f.n++
}

// pushFront puts v before all others.
func (f *fifo[T]) pushFront(v T) {
	f.grow()
	f.head = (f.head + len(f.ring) - 1) % len(f.ring)
	f.ring[f.head] = v
	f.n++
}

func (f *fifo[T]) pop() T {
	var none T
	v := f.ring[f.head]
	f.ring[f.head] = none
	f.head = (f.head + 1) % len(f.ring)
	f.n--
	if f.n == 0 && len(f.ring) > roomy {
		f.ring, f.head = nil, 0
	}
	return v
}
