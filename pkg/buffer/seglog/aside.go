package seglog

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

const (
	suffix    = ".seg"
	newSuffix = ".new"
	badDir    = "bad"
	// maxPiece bounds the copy of one bad piece, in bytes.
	maxPiece = 64 << 10
)

// broken is a file that ought to be a segment and has no header.
type broken struct {
	name string
	keep bool // it could not be read now, and perhaps can another time
}

// keepPiece copies a bad piece of a segment into the folder "bad", once. The
// copy is for who wants to know what happened; without room there is none.
func (l *Log) keepPiece(s *segment, at int, piece []byte) {
	dir := l.path(badDir)
	name := fmt.Sprintf("%s-%d-%d", strings.TrimSuffix(s.name, suffix), s.use, at)
	if l.fs.MkdirAll(dir) != nil {
		return
	}
	there, err := l.fs.ReadDir(dir)
	if err != nil || slices.ContainsFunc(there, func(i Info) bool { return i.Name == name }) {
		return
	}
	if free, inodes, err := l.fs.Free(l.dir); err != nil || !inodes || free-maxPiece < l.keepFree {
		return
	}
	path := filepath.Join(dir, name)
	f, err := l.fs.Create(path)
	if err != nil {
		return
	}
	_, err = f.WriteAt(piece[:min(len(piece), maxPiece)], 0)
	if f.Close() != nil || err != nil {
		_ = l.fs.Remove(path)
	}
	l.boundBad()
}

// putAside moves files that are no segments into the folder "bad". It comes
// after a commit: until then, only that they are there says which number the
// next message has.
func (l *Log) putAside() {
	l.mu.Lock()
	all := l.broken
	l.mu.Unlock()
	if !slices.ContainsFunc(all, func(b broken) bool { return !b.keep }) {
		return
	}
	dir := l.path(badDir)
	if l.fs.MkdirAll(dir) != nil {
		return
	}
	var left []broken
	for _, b := range all {
		if b.keep || l.fs.Rename(l.path(b.name), filepath.Join(dir, b.name)) != nil {
			left = append(left, b)
		}
	}
	_ = l.fs.SyncDir(dir)
	_ = l.fs.SyncDir(l.dir)
	l.mu.Lock()
	l.broken = left
	l.mu.Unlock()
	l.boundBad()
}

// boundBad keeps the folder "bad" within two segments' size; what has the
// lowest names goes first.
func (l *Log) boundBad() {
	dir := l.path(badDir)
	there, err := l.fs.ReadDir(dir)
	if err != nil {
		return
	}
	slices.SortFunc(there, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	var size int64
	for _, i := range there {
		size += i.Size
	}
	for _, i := range there {
		if size <= 2*int64(l.segSize) {
			return
		}
		if l.fs.Remove(filepath.Join(dir, i.Name)) == nil {
			size -= i.Size
		}
	}
}
