package seglog

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var modelTime = flag.Duration("model.time", 4*time.Second, "how long TestModel tries random histories")

// model is what the log has promised, kept beside it.
type model struct {
	disk *simFS
	opts Options
	log  *Log

	tried   map[uint64][][]byte // what was ever handed in under a number
	safe    map[uint64][]byte   // what Append said is safe
	acked   uint64
	durable uint64 // the last acknowledgement that an Append or Flush came behind
	serial  int
	reads   *Reader
	read    uint64 // the last message from reads
	// A disk failed once. Then what no Append called safe may be read by the
	// next process, from the kernel's memory, and be missed by the one behind.
	failed bool
}

const modelDir = "/buffer"

func (m *model) open(t *rapid.T) {
	var err error
	m.opts.FS = m.disk
	if m.log, err = Open(modelDir, m.opts); err != nil {
		t.Fatal(err)
	}
	m.reads, m.read = m.log.Read(0), 0
}

func (m *model) append(t *rapid.T, n, size int) {
	var batch [][]byte
	for range n {
		m.serial++
		p := fmt.Appendf(nil, "message %d ", m.serial)
		batch = append(batch, append(p, bytes.Repeat([]byte{byte(m.serial)}, m.serial*7%(size+1))...))
	}
	acked := m.acked
	first := m.log.Stats().Next
	for i, p := range batch {
		m.tried[first+uint64(i)] = append(m.tried[first+uint64(i)], p)
	}
	got, k, err := m.log.Append(batch...)
	if got != first || k < 0 || k > n || (k < n) != (err != nil) {
		t.Fatalf("Append gives %d, %d, %v for %d messages from %d on", got, k, err, n, first)
	}
	for i := range k {
		m.safe[first+uint64(i)] = batch[i]
	}
	if err == nil {
		m.durable = max(m.durable, acked)
	} else if m.expected(err) {
		return
	} else {
		t.Fatal(err)
	}
}

// expected errors are a full log and the faults that were put in.
func (m *model) expected(err error) bool {
	return errors.Is(err, ErrFull) || errors.Is(err, errCrashed) || errors.Is(err, syscall.EIO) || errors.Is(err, ErrNoSpace)
}

func (m *model) ack(n int) {
	upTo := min(m.acked+uint64(n), m.log.Stats().Next-1)
	m.log.Ack(upTo)
	m.acked = max(m.acked, upTo)
}

func (m *model) flush(t *rapid.T) {
	acked := m.acked
	if err := m.log.Flush(); err == nil {
		m.durable = acked
	} else if !m.expected(err) {
		t.Fatal(err)
	}
}

// next reads one message beside everything else.
func (m *model) next(t *rapid.T) {
	e, err := m.reads.Next()
	switch {
	case errors.Is(err, io.EOF):
		if next := m.log.Stats().Next; m.read+1 < next && m.acked+1 < next {
			t.Fatalf("the reader is at its end behind %d; the next message will be %d", m.read, next)
		}
	case err != nil:
		if !m.expected(err) {
			t.Fatal(err)
		}
	case e.Lost > 0 && m.failed:
		m.read = e.Seq + e.Lost - 1
		m.lost(t, e)
	case e.Lost > 0:
		t.Fatalf("%d messages from %d on are missed without damage", e.Lost, e.Seq)
	default:
		if e.Seq != max(m.read, m.acked)+1 {
			t.Fatalf("message %d comes behind %d, acknowledged are %d", e.Seq, m.read, m.acked)
		}
		m.read = e.Seq
		m.isKnown(t, e)
	}
}

// lost accepts a gap of what was never safe.
func (m *model) lost(t *rapid.T, e Entry) {
	for seq := range m.safe {
		if seq >= e.Seq && seq < e.Seq+e.Lost {
			t.Fatalf("message %d was safe and is missed", seq)
		}
	}
}

func (m *model) isKnown(t *rapid.T, e Entry) {
	if want, ok := m.safe[e.Seq]; ok && !bytes.Equal(want, e.Payload) {
		t.Fatalf("message %d is %.30q, safe was %.30q", e.Seq, e.Payload, want)
	}
	if !slices.ContainsFunc(m.tried[e.Seq], func(p []byte) bool { return bytes.Equal(p, e.Payload) }) {
		t.Fatalf("message %d is %.30q, which was never handed in", e.Seq, e.Payload)
	}
}

// reopen opens the log after its end and holds it to the promises.
func (m *model) reopen(t *rapid.T) {
	m.open(t)
	st := m.log.Stats()
	if st.Oldest <= m.durable {
		t.Fatalf("the log begins at %d, up to %d was acknowledged for good", st.Oldest, m.durable)
	}
	if st.Oldest > m.acked+1 {
		t.Fatalf("the log begins at %d, only up to %d was acknowledged", st.Oldest, m.acked)
	}
	if (st.Bad != 0 || st.State != OK) && !m.failed {
		t.Fatalf("damage where there was only a power cut: %+v", st)
	}
	r, want, holes := m.log.Read(0), st.Oldest, uint64(0)
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e.Lost > 0 && m.failed { // but never one that was safe
			m.lost(t, e)
			want, holes = want+e.Lost, holes+e.Lost
			continue
		}
		if e.Lost > 0 {
			t.Fatalf("%d messages from %d on are missed without damage", e.Lost, e.Seq)
		}
		if e.Seq != want {
			t.Fatalf("message %d comes in the place of %d", e.Seq, want)
		}
		m.isKnown(t, e)
		want++
	}
	for seq := range m.safe {
		if seq >= want {
			t.Fatalf("message %d was safe, and the log ends before %d", seq, want)
		}
	}
	if want-st.Oldest-holes != uint64(st.Messages) && holes == 0 {
		t.Fatalf("%d messages were read, Stats counts %d", want-st.Oldest-holes, st.Messages)
	}
	m.acked = st.Oldest - 1
}

// history is one random life of a log.
func history(t *rapid.T) {
	// A crash makes many choices; one seed for them keeps the input short.
	rng := rapid.Uint64().Draw(t, "seed")
	chance := func(n int) int {
		rng = rng*6364136223846793005 + 1442695040888963407
		return int((rng >> 33) % uint64(n))
	}
	m := &model{
		disk: newSimFS(chance), tried: map[uint64][][]byte{}, safe: map[uint64][]byte{},
		opts: Options{SegmentSize: 2048, MaxSize: 5 * 2048, KeepFree: 1},
	}
	m.open(t)
	for range rapid.IntRange(1, 60).Draw(t, "steps") {
		switch rapid.IntRange(0, 11).Draw(t, "what") {
		case 0, 1, 2, 3:
			m.append(t, rapid.IntRange(1, 12).Draw(t, "n"), 300)
		case 4, 5:
			m.ack(rapid.IntRange(1, 20).Draw(t, "n"))
		case 6:
			m.flush(t)
		case 7:
			for range rapid.IntRange(1, 20).Draw(t, "n") {
				m.next(t)
			}
		case 8: // the machine will go off soon, in the middle of something
			m.disk.steps = rapid.IntRange(0, 12).Draw(t, "steps")
		case 9: // it goes off now
			m.disk.crashed = true
		case 10: // the disk fails once, or for a while
			n := rapid.IntRange(1, 4).Draw(t, "failures")
			m.failed = true
			what := rapid.SampledFrom([]string{"sync", "write", "syncdir", "rename", "create"}).Draw(t, "fails")
			m.disk.fail = func(op, path string) error {
				if op == what && n > 0 {
					n--
					return syscall.EIO
				}
				return nil
			}
		case 11: // the service stops, or is killed with the cache intact
			if rapid.Bool().Draw(t, "close") {
				acked := m.acked
				if err := m.log.Close(); err == nil {
					m.durable = acked
				}
			}
			if !m.disk.crashed {
				m.disk.fail = nil
				m.reopen(t)
			}
		}
		if m.disk.crashed {
			m.disk = m.disk.reboot()
			m.reopen(t)
		}
	}
	m.disk.crashed = true
	m.disk = m.disk.reboot()
	m.reopen(t)
}

// TestModel holds the log to its promises through random appends,
// acknowledgements, failing disks and power cuts at any operation.
func TestModel(t *testing.T) {
	_ = flag.Set("rapid.checks", "300")
	_ = flag.Set("rapid.nofailfile", "true")
	for end := time.Now().Add(*modelTime); time.Now().Before(end) && !t.Failed(); {
		rapid.Check(t, history)
	}
}
