package seglog

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// FuzzOpen opens a folder with a segment of any content between two good ones:
// it ends, in order, with every number accounted for, and is of use afterwards.
func FuzzOpen(f *testing.F) {
	_, files := stored(f)
	good := make([][]byte, len(files))
	for i, name := range files {
		b, err := os.ReadFile(name)
		must(f, err)
		good[i] = b
	}
	f.Add(good[1], true)
	f.Add(flip(100)(bytes.Clone(good[1])), false)
	f.Add(flip(7)(bytes.Clone(good[1])), true)
	f.Add(good[1][:700], true)
	f.Add(append(header{use: 9, first: 1 << 62, cursor: 1 << 61, commit: 1 << 31, size: 4096}.encode(), make([]byte, 4096-headerSize)...), true)
	f.Add(bytes.Repeat([]byte{kindMessage, 8, 0, 0}, 1024), false)
	f.Fuzz(func(t *testing.T, b []byte, last bool) {
		o := small()
		disk := newSimFS(func(int) int { return 0 })
		o.FS = disk
		put := func(name string, content []byte) {
			disk.names[filepath.Join(modelDir, name)] = &inode{seen: bytes.Clone(content)}
		}
		put("1.seg", good[0])
		put("2.seg", b)
		if !last {
			put("3.seg", good[2])
		}
		for range 2 {
			l := open(t, modelDir, o)
			st := l.Stats()
			r, want := l.Read(0), st.Oldest
			for {
				e, err := r.Next()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if e.Seq != want {
					t.Fatalf("%d comes in the place of %d", e.Seq, want)
				}
				want += max(1, e.Lost)
			}
			if want != st.Next {
				t.Fatalf("it ends at %d; the next message would be %d", want, st.Next)
			}
			first, n, err := l.Append([]byte("new"))
			if err != nil || n != 1 || first != st.Next {
				t.Fatalf("Append: %d, %d, %v", first, n, err)
			}
			if e, err := r.Next(); err != nil || string(e.Payload) != "new" {
				t.Fatalf("what was appended is read as %+v, %v", e, err)
			}
			must(t, l.Close())
		}
	})
}

// FuzzScan: the scanner finds each record that is whole, whatever is in front
// of it, and never reads outside of what it was given.
func FuzzScan(f *testing.F) {
	f.Add([]byte{}, []byte("payload"))
	f.Add([]byte{kindMessage, 4, 0, 0, 1}, []byte("payload"))
	f.Add(bytes.Repeat([]byte{kindCursor, 8, 0, 0}, 20), []byte{})
	f.Fuzz(func(t *testing.T, garbage, payload []byte) {
		if len(payload) > MaxPayload {
			return
		}
		h := header{salt: [8]byte{1, 2, 3}, first: 5, commit: 7, size: 1 << 20}
		b := appendRecord(bytes.Clone(garbage), h.saltCRC(), kindMessage, 6, 8, payload)
		s := h.scanner()
		r, start, end, ok := s.next(b)
		if !ok || r.seq != 6 || start != len(garbage) || end != len(b) || !bytes.Equal(r.payload, payload) {
			t.Fatalf("found %+v from %d to %d, %v", r, start, end, ok)
		}
	})
}
