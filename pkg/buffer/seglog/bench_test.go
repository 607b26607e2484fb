package seglog

import (
	"errors"
	"fmt"
	"io"
	"testing"
)

// backlog is 64 MiB of messages of 200 bytes, in a folder.
func backlog(b testing.TB) string {
	b.Helper()
	dir := b.TempDir()
	l := open(b, dir, Options{FS: noSync{Disk()}})
	batch := make([][]byte, 1000)
	for i := range batch {
		batch[i] = make([]byte, 200)
	}
	for {
		if _, _, err := l.Append(batch...); errors.Is(err, ErrFull) {
			break
		} else if err != nil {
			b.Fatal(err)
		}
	}
	return dir
}

// noSync makes a backlog quickly.
type noSync struct{ FS }

func (n noSync) Create(path string) (File, error) {
	f, err := n.FS.Create(path)
	return noSyncFile{f}, err
}

type noSyncFile struct{ File }

func (noSyncFile) Sync() error { return nil }

// BenchmarkOpen opens 64 MiB of backlog, from the page cache.
func BenchmarkOpen(b *testing.B) {
	dir := backlog(b)
	b.SetBytes(64 << 20)
	b.ReportAllocs()
	for b.Loop() {
		l := open(b, dir, Options{})
		if l.Stats().Messages < 300_000 {
			b.Fatal("too few messages")
		}
	}
}

// BenchmarkRead drains 64 MiB of backlog, from the page cache.
func BenchmarkRead(b *testing.B) {
	l := open(b, backlog(b), Options{})
	b.SetBytes(64 << 20)
	b.ReportAllocs()
	for b.Loop() {
		for r := l.Read(0); ; {
			if _, err := r.Next(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkAppend is group commits with all that they wait for; one operation
// is one message of 200 bytes.
func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("commit=%d", n), func(b *testing.B) {
			l := open(b, b.TempDir(), Options{})
			batch := make([][]byte, n)
			for i := range batch {
				batch[i] = make([]byte, 200)
			}
			b.ReportAllocs()
			for i := 0; i < b.N; i += n {
				if _, _, err := l.Append(batch...); err != nil {
					b.Fatal(err)
				}
				l.Ack(l.Stats().Next - 1)
			}
		})
	}
}
