package seglog

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

// stored is a folder with 150 messages in 5 segments or so, closed.
func stored(t testing.TB) (dir string, files []string) {
	t.Helper()
	dir = t.TempDir()
	l := open(t, dir, small())
	fill(t, l, 150)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	if err != nil || len(files) < 4 {
		t.Fatalf("%v, %v", files, err)
	}
	return dir, files
}

// edit changes a file.
func edit(t testing.TB, path string, change func(b []byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

func flip(at int) func([]byte) []byte {
	return func(b []byte) []byte { b[at] ^= 0x10; return b }
}

const messageSize = recordHeader + 107

// TestDamage: whatever happens to the files, the log opens, says so, and keeps
// the rest.
func TestDamage(t *testing.T) {
	second := headerSize + messageSize // where the second record begins
	tests := []struct {
		name   string
		damage func(t *testing.T, files []string)
		lost   int // messages at most
		quiet  bool
	}{
		{"kind", func(t *testing.T, f []string) { edit(t, f[1], flip(second)) }, 1, false},
		{"length", func(t *testing.T, f []string) { edit(t, f[1], flip(second+1)) }, 1, false},
		{"length, huge", func(t *testing.T, f []string) { edit(t, f[1], flip(second+3)) }, 1, false},
		{"sequence number", func(t *testing.T, f []string) { edit(t, f[1], flip(second+4)) }, 1, false},
		{"commit", func(t *testing.T, f []string) { edit(t, f[1], flip(second+12)) }, 1, false},
		{"checksum", func(t *testing.T, f []string) { edit(t, f[1], flip(second+16)) }, 1, false},
		{"payload", func(t *testing.T, f []string) { edit(t, f[1], flip(second+60)) }, 1, false},
		{"first record", func(t *testing.T, f []string) { edit(t, f[1], flip(headerSize+30)) }, 1, false},
		{"last record of a segment", func(t *testing.T, f []string) { edit(t, f[1], flip(4096-headerSize-200)) }, 2, false},
		{"last record of all", func(t *testing.T, f []string) {
			edit(t, f[len(f)-1], func(b []byte) []byte {
				at := bytes.LastIndex(b, []byte("000150 "))
				return flip(at + 50)(b)
			})
		}, 1, false},
		{"header: magic", func(t *testing.T, f []string) { edit(t, f[1], flip(0)) }, 0, false},
		{"header: version", func(t *testing.T, f []string) { edit(t, f[1], flip(7)) }, 0, false},
		{"header: salt", func(t *testing.T, f []string) { edit(t, f[1], flip(16)) }, 0, false},
		{"header: cursor", func(t *testing.T, f []string) { edit(t, f[1], flip(36)) }, 0, false},
		{"copy of the header", func(t *testing.T, f []string) { edit(t, f[1], flip(4096-30)) }, 0, false},
		{"both headers", func(t *testing.T, f []string) { edit(t, f[1], flip(20)); edit(t, f[1], flip(4096-30)) }, 31, false},
		{"both headers of the last one", func(t *testing.T, f []string) {
			edit(t, f[len(f)-1], flip(20))
			edit(t, f[len(f)-1], flip(4096-30))
		}, 31 + 4096/recordHeader, false},
		{"sectors of zeros", func(t *testing.T, f []string) {
			edit(t, f[1], func(b []byte) []byte { clear(b[1024:2048]); return b })
		}, 10, false},
		{"all zeros", func(t *testing.T, f []string) { edit(t, f[1], func(b []byte) []byte { clear(b); return b }) }, 31, false},
		{"garbage", func(t *testing.T, f []string) {
			edit(t, f[1], func(b []byte) []byte { return bytes.Repeat([]byte("\xD7garbage"), 512) })
		}, 31, false},
		{"cut short", func(t *testing.T, f []string) { edit(t, f[1], func(b []byte) []byte { return b[:2000] }) }, 20, false},
		{"empty", func(t *testing.T, f []string) { edit(t, f[1], func([]byte) []byte { return nil }) }, 31, false},
		{"too long", func(t *testing.T, f []string) {
			edit(t, f[1], func(b []byte) []byte { return append(b, make([]byte, 3000)...) })
		}, 0, false},
		{"missing", func(t *testing.T, f []string) { must(t, os.Remove(f[1])) }, 31, false},
		{"first one missing", func(t *testing.T, f []string) { must(t, os.Remove(f[0])) }, 31, false},
		{"swapped", func(t *testing.T, f []string) {
			must(t, os.Rename(f[1], f[1]+"x"))
			must(t, os.Rename(f[2], f[1]))
			must(t, os.Rename(f[1]+"x", f[2]))
		}, 0, true},
		{"twice there", func(t *testing.T, f []string) {
			b, err := os.ReadFile(f[1])
			must(t, err)
			must(t, os.WriteFile(filepath.Join(filepath.Dir(f[1]), "copy.seg"), b, 0o600))
		}, 0, true},
		{"never finished", func(t *testing.T, f []string) {
			must(t, os.WriteFile(f[1]+newSuffix, []byte("JITR"), 0o600))
		}, 0, true},
		{"foreign file", func(t *testing.T, f []string) {
			must(t, os.WriteFile(filepath.Join(filepath.Dir(f[1]), "README"), []byte("hello"), 0o600))
		}, 0, true},
		{"foreign segment", func(t *testing.T, f []string) {
			must(t, os.WriteFile(filepath.Join(filepath.Dir(f[1]), "README.seg"), []byte("hello"), 0o600))
		}, 4096 / recordHeader, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir, files := stored(t)
			tt.damage(t, files)
			l := open(t, dir, small())
			st := l.Stats()
			if told := st.Bad > 0; told == tt.quiet {
				t.Errorf("it says %+v", st)
			}
			for range 2 { // then once more, after it has been written to
				seqs, gaps := drain(t, l.Read(0))
				if !slices.IsSorted(seqs) {
					t.Errorf("out of order: %v", seqs)
				}
				lost := uint64(0)
				for _, g := range gaps {
					lost += g[1] - g[0] + 1
				}
				if lost > uint64(tt.lost) || uint64(len(seqs))+lost != l.Stats().Next-1 {
					t.Errorf("%d messages are there, lost are %v, the next is %d", len(seqs), gaps, l.Stats().Next)
				}
				fill(t, l, 20)
				must(t, l.Close())
				l = open(t, dir, small())
			}
			l.Ack(l.Stats().Next - 1)
			must(t, l.Flush())
			if st := l.Stats(); st.State != OK {
				t.Errorf("all is acknowledged, and it does not heal: %+v", st)
			}
		})
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestBadPiecesAreKept: a copy of what was bad is in the folder bad, once, and
// that folder is bounded.
func TestBadPiecesAreKept(t *testing.T) {
	dir, files := stored(t)
	for range 3 {
		edit(t, files[1], func(b []byte) []byte { b[headerSize+60] = '!'; return b })
		open(t, dir, small())
	}
	kept, err := os.ReadDir(filepath.Join(dir, badDir))
	if err != nil || len(kept) != 1 {
		t.Fatalf("%v, %v", kept, err)
	}
	b, err := os.ReadFile(filepath.Join(dir, badDir, kept[0].Name()))
	if err != nil || len(b) != messageSize || !bytes.Contains(b, []byte("!")) {
		t.Fatalf("the piece is %q, %v", b, err)
	}
	for _, f := range files[:4] {
		edit(t, f, func(b []byte) []byte { clear(b[:headerSize]); clear(b[len(b)-headerSize:]); return b })
	}
	l := open(t, dir, small())
	fill(t, l, 60)
	must(t, l.Flush())
	var size int64
	kept, _ = os.ReadDir(filepath.Join(dir, badDir))
	for _, k := range kept {
		info, err := k.Info()
		must(t, err)
		size += info.Size()
	}
	if size > 2*4096 || size < 4096 {
		t.Errorf("the bad pieces have %d bytes", size)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*"+suffix)); slices.Contains(left, files[1]) {
		t.Errorf("%s is still there", files[1])
	}
}

// TestTornCommit: a last commit that is not whole is cut off before its first
// bad record, silently, and the log goes on there.
func TestTornCommit(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, small())
	fill(t, l, 20) // and no Close: the second ten are the last commit
	name := l.path(l.segs[0].name)
	edit(t, name, flip(headerSize+14*messageSize+50))
	l = open(t, dir, small())
	if seqs, gaps := drain(t, l.Read(0)); !slices.Equal(seqs, count(1, 14)) || gaps != nil {
		t.Fatalf("read %v, gaps %v", seqs, gaps)
	}
	if st := l.Stats(); st.Torn != 1 || st.Bad != 0 || st.State != OK {
		t.Fatalf("it says %+v", st)
	}
	fill(t, l, 1) // what is left of the old commit is not taken up again
	l = open(t, dir, small())
	if seqs, gaps := drain(t, l.Read(0)); !slices.Equal(seqs, count(1, 15)) || gaps != nil {
		t.Fatalf("read %v, gaps %v", seqs, gaps)
	}
}

// TestOldUseStaysDead: what an older use left in a segment is not read, even
// where the numbers would fit.
func TestOldUseStaysDead(t *testing.T) {
	h := header{use: 1, salt: [8]byte{1}, first: 1, commit: 1, size: 4096}
	old := appendRecord(nil, h.saltCRC(), kindMessage, 2, 1, message(2))
	h.use, h.salt = 2, [8]byte{2}
	b := appendRecord(h.encode(), h.saltCRC(), kindMessage, 1, 1, message(1))
	b = append(append(b, old...), make([]byte, 4096)...)[:4096-headerSize]
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "a.seg"), append(b, h.encode()...), 0o600))
	if seqs, gaps := drain(t, open(t, dir, small()).Read(0)); !slices.Equal(seqs, []uint64{1}) || gaps != nil {
		t.Errorf("read %v, gaps %v", seqs, gaps)
	}
}

// TestNewerVersion: a segment of a later version is neither read nor touched.
func TestNewerVersion(t *testing.T) {
	dir, files := stored(t)
	newer := header{use: 1, first: 1, size: 4096}.encode()
	newer[7] = formatVersion + 1
	want := append(newer, bytes.Repeat([]byte("later"), 800)...)
	// Under the very name that the next segment would get, and another one.
	names := []string{filepath.Join(dir, "0000000000000007.seg"), filepath.Join(dir, "v2.seg")}
	for _, n := range names {
		must(t, os.WriteFile(n, want, 0o600))
	}
	l := open(t, dir, small())
	if st := l.Stats(); st.Newer != 2 || st.Bad != 0 || st.State != OK {
		t.Errorf("it says %+v", st)
	}
	fill(t, l, 90)
	l.Ack(l.Stats().Next - 1)
	must(t, l.Close())
	for _, n := range append(names, files[0]) {
		b, err := os.ReadFile(n)
		must(t, err)
		if n != files[0] && !bytes.Equal(b, want) {
			t.Errorf("%s was changed", n)
		}
	}
}

// TestReadError: a page that cannot be read costs what is in it.
func TestReadError(t *testing.T) {
	disk := newSimFS(func(int) int { return 0 })
	o := Options{SegmentSize: 16 << 10, FS: disk}
	l := open(t, modelDir, o)
	fill(t, l, 110)
	must(t, l.Close())
	disk.fail = func(op, _ string) error {
		if op == "read 2" {
			return syscall.EIO
		}
		return nil
	}
	l = open(t, modelDir, o)
	r := l.Read(0)
	for range patience {
		if _, err := r.Next(); err == nil {
			t.Fatal("the disk cannot be read, and Next does not say so")
		}
	}
	seqs, gaps := drain(t, r)
	if len(gaps) != 1 || len(seqs) < 70 || uint64(len(seqs))+gaps[0][1]-gaps[0][0]+1 != 110 {
		t.Errorf("%d are read, gaps %v", len(seqs), gaps)
	}
	if st := l.Stats(); st.State != Damaged || st.Bad == 0 {
		t.Errorf("it says %+v", st)
	}
}
