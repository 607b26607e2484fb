package powercut

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/jitr-agent/jitr-agent/pkg/buffer/seglog"
)

var (
	cuts = flag.Int("cuts", 200, "how many power cuts")
	seed = flag.Uint64("seed", 1, "of the cuts' moments and of what they leave")
)

// segments are small, so that a short run goes through many lives of each.
var options = seglog.Options{SegmentSize: 64 << 10, MaxSize: 1 << 20}

// promise is what the log had said at a moment.
type promise struct {
	moment int64
	safe   uint64 // all messages up to it
	acked  uint64 // up to here, and nothing of that may come back
	asked  uint64 // acknowledged, perhaps not yet for good
}

func message(seq uint64) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "message %d ", seq), 1+int(seq%40))
}

// record writes to a log on the disk, and says what it promised when, and the
// moment of the end: not closed, as a gateway's is when its power goes.
func record(t *testing.T, d *Disk, o seglog.Options, commits int) (all []promise, end int64) {
	t.Helper()
	l, err := seglog.Open(filepath.Join(d.Folder, "buffer"), o)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(*seed, 1))
	for i := range commits {
		st := l.Stats()
		asked := st.Oldest - 1
		if behind := st.Next - st.Oldest; behind > 400 { // an outage ends
			asked += 1 + rng.Uint64N(behind)
		}
		// The disk is never quiet here; a promise about what is asked is noted
		// before it is, one about what is safe after.
		all = append(all, promise{d.Now(), st.Next - 1, 0, asked})
		l.Ack(asked)
		var batch [][]byte
		for j := range 1 + rng.Uint64N(30) {
			batch = append(batch, message(st.Next+j))
		}
		if _, _, err := l.Append(batch...); err != nil {
			t.Fatal(err)
		}
		all = append(all, promise{d.Now(), st.Next - 1 + uint64(len(batch)), asked, asked})
		if i == commits/2 { // a restart in between
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if l, err = seglog.Open(filepath.Join(d.Folder, "buffer"), o); err != nil {
				t.Fatal(err)
			}
		}
	}
	end = d.Now()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return all, end
}

// kept holds what is found after a cut to what was promised before it.
func kept(folder string, moment int64, all []promise) error {
	var p promise
	for _, q := range all {
		p.asked = max(p.asked, q.asked)
		if q.moment > moment {
			break
		}
		p.safe, p.acked = max(p.safe, q.safe), max(p.acked, q.acked)
	}
	l, err := seglog.Open(filepath.Join(folder, "buffer"), options)
	if err != nil {
		return err
	}
	st := l.Stats()
	if st.Oldest <= p.acked || st.Oldest > p.asked+1 || st.State != seglog.OK {
		return fmt.Errorf("it begins at %d, up to %d was acknowledged for good, up to %d at all; %+v", st.Oldest, p.acked, p.asked, st)
	}
	r, want := l.Read(0), st.Oldest
	for {
		e, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			if want <= p.safe {
				return fmt.Errorf("messages %d to %d were safe and are gone", want, p.safe)
			}
			// And it is of use: what is written now is safe again.
			if _, _, err := l.Append(message(want)); err != nil {
				return err
			}
			return l.Close()
		case err != nil:
			return err
		case e.Lost > 0 || e.Seq != want || !bytes.Equal(e.Payload, message(want)):
			return fmt.Errorf("in the place of %d comes %d, %d lost", want, e.Seq, e.Lost)
		}
		want++
	}
}

func newDisk(t *testing.T) *Disk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a disk")
	}
	for _, tool := range []string{"qemu-storage-daemon", "mke2fs"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("there is no %s; install qemu-utils and e2fsprogs", tool)
		}
	}
	d, err := NewDisk(t.Context(), t.TempDir(), 32<<20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// try records with what the log needs from a file system, and cuts.
func try(t *testing.T, fsys seglog.FS, n int) Result {
	t.Helper()
	d := newDisk(t)
	o := options
	o.FS = fsys
	all, end := record(t, d, o, 400)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	res, err := d.Cuts(t.Context(), n, end, rand.New(rand.NewPCG(*seed, 2)), func(folder string, moment int64) error {
		return kept(folder, moment, all)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d power cuts over %d writes and %d flushes, %d messages: %d violations",
		res.Cuts, res.Writes, res.Flushes, all[len(all)-1].safe, len(res.Violations))
	return res
}

func TestNothingIsLost(t *testing.T) {
	for _, v := range try(t, seglog.Disk(), *cuts).Violations {
		t.Error(v)
	}
}

// TestFindsMissingFlush: the same cuts find out a log that does not flush, be
// it files or folders. Without this, the test above would prove nothing.
func TestFindsMissingFlush(t *testing.T) {
	for name, fsys := range map[string]seglog.FS{
		"files": unflushed{FS: seglog.Disk(), files: true},
		"all":   unflushed{FS: seglog.Disk(), files: true, folders: true},
	} {
		t.Run(name, func(t *testing.T) {
			if res := try(t, fsys, 40); len(res.Violations) == 0 {
				t.Error("nothing was found")
			}
		})
	}
}

// unflushed is a file system that does not flush.
type unflushed struct {
	seglog.FS
	files, folders bool
}

func (u unflushed) Create(path string) (seglog.File, error) {
	f, err := u.FS.Create(path)
	return lazy{f}, err
}

func (u unflushed) Open(path string, write bool) (seglog.File, error) {
	f, err := u.FS.Open(path, write)
	if err != nil || !u.files {
		return f, err
	}
	return lazy{f}, nil
}

func (u unflushed) SyncDir(dir string) error {
	if u.folders {
		return nil
	}
	return u.FS.SyncDir(dir)
}

type lazy struct{ seglog.File }

func (lazy) Sync() error { return nil }
