package seglog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// small segments make short tests: some 30 messages of 100 bytes each.
func small() Options { return Options{SegmentSize: 4096, MaxSize: 8 * 4096} }

func open(t testing.TB, dir string, o Options) *Log {
	t.Helper()
	l, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func message(i uint64) []byte { return fmt.Appendf(nil, "%06d %0100d", i, i) }

// fill appends n messages, each of them its number, ten at a time.
func fill(t testing.TB, l *Log, n int) {
	t.Helper()
	for n > 0 {
		var batch [][]byte
		next := l.Stats().Next
		for i := range min(n, 10) {
			batch = append(batch, message(next+uint64(i)))
		}
		if _, _, err := l.Append(batch...); err != nil {
			t.Fatal(err)
		}
		n -= len(batch)
	}
}

// drain reads all there is: the numbers of the messages, and the gaps.
func drain(t testing.TB, r *Reader) (seqs []uint64, gaps [][2]uint64) {
	t.Helper()
	for {
		e, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return seqs, gaps
		case err != nil:
			t.Fatal(err)
		case e.Lost > 0:
			gaps = append(gaps, [2]uint64{e.Seq, e.Seq + e.Lost - 1})
		default:
			if !bytes.Equal(e.Payload, message(e.Seq)) {
				t.Fatalf("message %d is %.20q", e.Seq, e.Payload)
			}
			seqs = append(seqs, e.Seq)
		}
	}
}

func count(from, to uint64) (all []uint64) {
	for i := from; i <= to; i++ {
		all = append(all, i)
	}
	return all
}

func TestKeepsUntilAcknowledged(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "buffer")
	l := open(t, dir, small())
	fill(t, l, 100)
	if seqs, gaps := drain(t, l.Read(0)); !slices.Equal(seqs, count(1, 100)) || gaps != nil {
		t.Fatalf("read %v, gaps %v", seqs, gaps)
	}
	l.Ack(40)
	if seqs, _ := drain(t, l.Read(0)); !slices.Equal(seqs, count(41, 100)) {
		t.Fatalf("behind the acknowledgement comes %v", seqs)
	}
	if seqs, _ := drain(t, l.Read(90)); !slices.Equal(seqs, count(90, 100)) {
		t.Fatalf("from 90 on comes %v", seqs)
	}
	l.Ack(1000) // as far as there is anything
	if st := l.Stats(); st.Oldest != 101 || st.Messages != 0 || st.Bytes != 0 {
		t.Fatalf("all is acknowledged, and Stats says %+v", st)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir, small())
	if st := l.Stats(); st.Next != 101 || st.Oldest != 101 || st.State != OK {
		t.Fatalf("opened again, Stats says %+v", st)
	}
	if _, _, err := l.Append(message(101)); err != nil {
		t.Fatal(err)
	}
	l.Close()
	if _, _, err := l.Append(nil); !errors.Is(err, ErrClosed) {
		t.Fatalf("after Close: %v", err)
	}
}

// TestFlush: an acknowledgement is kept by Flush, and by an Append behind it.
func TestFlush(t *testing.T) {
	for _, how := range []string{"flush", "append", "close", "none"} {
		dir := t.TempDir()
		l := open(t, dir, small())
		fill(t, l, 30)
		l.Ack(20)
		want := uint64(21)
		switch how {
		case "flush":
			if err := l.Flush(); err != nil {
				t.Fatal(err)
			}
		case "append":
			fill(t, l, 1)
		case "close":
			l.Close()
		case "none": // then it may be forgotten, and is
			want = 1
		}
		if got := open(t, dir, small()).Stats().Oldest; got != want {
			t.Errorf("%s: the log begins at %d, want %d", how, got, want)
		}
	}
}

// TestReusesSegments: a log that is drained does not grow, and opens the same
// whatever the files' names and times are.
func TestReusesSegments(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, small())
	for range 100 {
		fill(t, l, 40)
		l.Ack(l.Stats().Next - 5)
	}
	if st := l.Stats(); st.Disk > 4*4096 {
		t.Errorf("the files have %d bytes where two or three segments are enough", st.Disk)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*.seg"))
	for i, f := range files {
		if err := os.Rename(f, filepath.Join(dir, fmt.Sprintf("%c.seg", 'z'-i))); err != nil {
			t.Fatal(err)
		}
	}
	l = open(t, dir, small())
	if seqs, gaps := drain(t, l.Read(0)); !slices.Equal(seqs, count(3997, 4000)) || gaps != nil {
		t.Fatalf("read %v, gaps %v", seqs, gaps)
	}
}

func TestBounds(t *testing.T) {
	l := open(t, t.TempDir(), small())
	var err error
	for err == nil {
		_, _, err = l.Append(message(l.Stats().Next))
	}
	st := l.Stats()
	if !errors.Is(err, ErrFull) || st.State != Full || st.Disk != 8*4096 {
		t.Fatalf("at its limit: %v, %+v", err, st)
	}
	from, to, ok := l.OldestSegment()
	if !ok || from != 1 || to < 20 {
		t.Fatalf("the oldest segment is %d to %d, %v", from, to, ok)
	}
	l.Ack(to)
	if st := l.Stats(); st.State != OK || st.Messages != int64(st.Next-1-to) {
		t.Fatalf("with a segment freed: %+v", st)
	}
	fill(t, l, 10)
	l.SetLimits(3*4096, 0)
	l.Ack(l.Stats().Next - 1)
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	if st := l.Stats(); st.Disk != 3*4096 {
		t.Fatalf("with a lower limit the files have %d bytes", st.Disk)
	}
	if _, _, err := l.Append(make([]byte, 4096)); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("a message as large as a segment: %v", err)
	}
}

// TestFaults: each kind of trouble is a state with its error, keeps what is
// stored, and heals.
func TestFaults(t *testing.T) {
	on := func(err error, ops ...string) func(*simFS) {
		return func(s *simFS) {
			s.fail = func(op, _ string) error {
				if slices.ContainsFunc(ops, func(o string) bool { return strings.HasPrefix(op, o) }) {
					return err
				}
				return nil
			}
		}
	}
	tests := []struct {
		name  string
		fault func(*simFS)
		state State
		err   error
	}{
		{"no space", on(syscall.ENOSPC, "create", "write"), DiskFull, syscall.ENOSPC},
		{"quota", on(syscall.EDQUOT, "create"), DiskFull, syscall.EDQUOT},
		{"keep free", func(s *simFS) { s.free = 5000 }, DiskFull, ErrNoSpace},
		{"no inodes", func(s *simFS) { s.inodes = false }, DiskFull, ErrNoInodes},
		{"read-only", on(syscall.EROFS, "open-write", "create", "write", "mkdir", "remove", "rename"), ReadOnly, syscall.EROFS},
		{"fsync fails", on(syscall.EIO, "sync"), Damaged, syscall.EIO},
		{"fsync of the folder fails", on(syscall.EIO, "syncdir"), Damaged, syscall.EIO},
		{"write fails", on(syscall.EIO, "write"), Damaged, syscall.EIO},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			disk := newSimFS(func(n int) int { return n - 1 })
			o := small()
			o.FS, o.KeepFree = disk, 1000
			l := open(t, modelDir, o)
			fill(t, l, 20)
			healthy := *disk
			tt.fault(disk)
			var err error
			for range 100 { // until the segment in use is full, or at once
				if _, _, err = l.Append(message(l.Stats().Next)); err != nil {
					break
				}
			}
			st := l.Stats()
			if !errors.Is(err, tt.err) || st.State != tt.state || !errors.Is(st.Err, tt.err) {
				t.Fatalf("Append: %v, Stats: %v, %v", err, st.State, st.Err)
			}
			if seqs, gaps := drain(t, l.Read(0)); !slices.Equal(seqs, count(1, st.Next-1)) || gaps != nil {
				t.Errorf("in trouble, %v and gaps %v are read", seqs, gaps)
			}
			disk.fail, disk.free, disk.inodes = nil, healthy.free, healthy.inodes
			fill(t, l, 40)
			if st := l.Stats(); st.State != OK || st.Err != nil {
				t.Errorf("it does not heal: %+v", st)
			}
			want := count(1, st.Next+39)
			o.FS = disk.reboot()
			if seqs, gaps := drain(t, open(t, modelDir, o).Read(0)); !slices.Equal(seqs, want) || gaps != nil {
				t.Errorf("after a power cut, %v and gaps %v are read", seqs, gaps)
			}
		})
	}
}

// TestFailedSyncIsNotRetried: after a failed fsync the same batch goes to
// another segment, and the old one gets no second fsync.
func TestFailedSyncIsNotRetried(t *testing.T) {
	disk := newSimFS(func(int) int { return 0 }) // what is not synced is lost
	o := small()
	o.FS = disk
	l := open(t, modelDir, o)
	fill(t, l, 10)
	failed := false
	disk.fail = func(op, _ string) error {
		if op == "sync" && !failed {
			failed = true
			return syscall.EIO
		}
		return nil
	}
	disk.log = nil
	fill(t, l, 10)
	if !failed {
		t.Fatal("there was no fsync")
	}
	head := "sync " + l.segs[0].name
	if n := len(slices.DeleteFunc(slices.Clone(disk.log), func(op string) bool { return op != head })); n != 1 {
		t.Errorf("the segment whose fsync failed was fsynced %d times:\n%s", n, strings.Join(disk.log, "\n"))
	}
	o.FS = disk.reboot()
	if seqs, gaps := drain(t, open(t, modelDir, o).Read(0)); !slices.Equal(seqs, count(1, 20)) || gaps != nil {
		t.Errorf("after a power cut, %v and gaps %v are read", seqs, gaps)
	}
}

// TestOneSyncACommit: in a segment that has its place, a commit is one write
// and one fdatasync, and nothing else.
func TestOneSyncACommit(t *testing.T) {
	disk := newSimFS(func(int) int { return 0 })
	o := small()
	o.FS = disk
	l := open(t, modelDir, o)
	fill(t, l, 1)
	l.Ack(1)
	disk.log = nil
	fill(t, l, 10)
	if name := l.segs[0].name; !slices.Equal(disk.log, []string{"write " + name, "sync " + name}) {
		t.Errorf("a commit is: %v", disk.log)
	}
}

// TestReadsBesideWriting is for the race detector, and for order.
func TestReadsBesideWriting(t *testing.T) {
	l := open(t, t.TempDir(), small())
	const n = 3000
	var wg sync.WaitGroup
	wg.Go(func() {
		for l.Stats().Next <= n {
			next := l.Stats().Next
			if _, _, err := l.Append(message(next), message(next+1)); err != nil && !errors.Is(err, ErrFull) {
				t.Error(err)
				return
			}
		}
	})
	r, want := l.Read(0), uint64(1)
	for want <= n {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			continue
		}
		if err != nil || e.Seq != want || !bytes.Equal(e.Payload, message(want)) {
			t.Fatalf("in the place of %d comes %d, %d lost, %v", want, e.Seq, e.Lost, err)
		}
		l.Ack(want)
		want++
	}
	wg.Wait()
}

// TestRestartAfterFailedSync: what a process found in the kernel's memory, and
// wrote behind, outlives a power cut, although an fsync had failed before.
func TestRestartAfterFailedSync(t *testing.T) {
	disk := newSimFS(func(int) int { return 0 })
	o := small()
	o.FS = disk
	l := open(t, modelDir, o)
	fill(t, l, 10)
	disk.fail = func(op, _ string) error {
		if op == "sync" {
			return syscall.EIO
		}
		return nil
	}
	if _, _, err := l.Append(message(11), message(12)); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	disk.fail = nil
	l = open(t, modelDir, o) // without a Close, and without a power cut
	if seqs, _ := drain(t, l.Read(0)); !slices.Equal(seqs, count(1, 12)) {
		t.Fatalf("read %v", seqs)
	}
	fill(t, l, 5)
	o.FS = disk.reboot()
	l = open(t, modelDir, o)
	if seqs, gaps := drain(t, l.Read(0)); !slices.Equal(seqs, count(1, 17)) || gaps != nil || l.Stats().Bad > 0 {
		t.Errorf("after a power cut, %v and gaps %v are read", seqs, gaps)
	}
}

// TestHeaderGoesFirst: a segment is not written over before the cursor that
// allows it is on the disk.
func TestHeaderGoesFirst(t *testing.T) {
	for step := range 8 {
		// Of what is not synced, what was written last reaches the disk.
		disk := newSimFS(func(int) int { return 0 })
		o := small()
		o.FS = disk
		l := open(t, modelDir, o)
		fill(t, l, 60) // a first segment, and most of a second
		l.Ack(55)      // which no commit has told the disk
		disk.steps = step
		_, _, _ = l.Append(message(61), message(62), message(63), message(64), message(65), message(66))
		disk.crashed = true
		for _, node := range disk.names {
			if n := len(node.pending); n > 0 { // but not the header, where that was not flushed
				last := node.pending[n-1]
				node.synced = put(node.synced, last.off, last.data)
			}
		}
		o.FS = disk.reboot()
		l = open(t, modelDir, o)
		if _, gaps := drain(t, l.Read(0)); gaps != nil || l.Stats().Bad > 0 {
			t.Errorf("cut at step %d: gaps %v, %+v", step, gaps, l.Stats())
		}
	}
}
