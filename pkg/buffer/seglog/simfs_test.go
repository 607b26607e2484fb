package seglog

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

var errCrashed = errors.New("the machine is off")

// sector is the unit that a disk writes whole or not at all.
const sector = 512

// simFS is a file system with a volatile cache in front of a disk. At a crash
// it keeps what was synced, and of the rest any part: sectors of writes, and
// changes of names, each by chance.
type simFS struct {
	chance func(n int) int // a number below n

	names   map[string]*inode // as programs see them
	onDisk  map[string]*inode
	pending []change // of names, since the last SyncDir of their folder
	free    int64    // what Free says
	inodes  bool

	steps   int // until the crash, -1 for none
	crashed bool
	fail    func(op, path string) error // injects errors; may be nil
	log     []string                    // operations, for tests that look at them
}

type change struct {
	dir      string
	from, to string // "" for none
	node     *inode
}

type inode struct {
	seen    []byte  // the cache
	synced  []byte  // the disk
	pending []write // since the last sync
}

type write struct {
	off  int
	data []byte
}

func newSimFS(chance func(int) int) *simFS {
	return &simFS{chance: chance, names: map[string]*inode{}, onDisk: map[string]*inode{}, free: 1 << 40, inodes: true, steps: -1}
}

// step is called before each operation that changes something; at a crash the
// operation does not return any more, but it may have got through in part.
func (s *simFS) step(op, path string) error {
	if s.crashed {
		return errCrashed
	}
	s.log = append(s.log, op+" "+strings.TrimSuffix(filepath.Base(path), newSuffix))
	if s.fail != nil {
		if err := s.fail(op, path); err != nil {
			return &fs.PathError{Op: op, Path: path, Err: err}
		}
	}
	if s.steps == 0 {
		s.crashed = true
	} else if s.steps > 0 {
		s.steps--
	}
	return nil
}

// ended is what an operation returns.
func (s *simFS) ended() error {
	if s.crashed {
		return errCrashed
	}
	return nil
}

// reboot is the machine after a power cut.
func (s *simFS) reboot() *simFS {
	n := newSimFS(s.chance)
	n.free, n.inodes = s.free, s.inodes
	disk := maps.Clone(s.onDisk)
	for _, c := range s.pending {
		if s.chance(2) == 0 {
			c.apply(disk)
		}
	}
	done := map[*inode]*inode{}
	for _, name := range slices.Sorted(maps.Keys(disk)) {
		node := disk[name]
		if done[node] == nil {
			b := node.afterCrash(s.chance)
			done[node] = &inode{seen: slices.Clone(b), synced: b}
		}
		n.names[name], n.onDisk[name] = done[node], done[node]
	}
	return n
}

func (c change) apply(m map[string]*inode) {
	if c.from != "" {
		if m[c.from] != c.node {
			return
		}
		delete(m, c.from)
	}
	if c.to != "" {
		m[c.to] = c.node
	}
}

// afterCrash is the synced content with any part of the sectors written since.
func (i *inode) afterCrash(chance func(int) int) []byte {
	b := slices.Clone(i.synced)
	keep := chance(4) // none, some, most, all
	for _, w := range i.pending {
		for at := 0; at < len(w.data); {
			n := min(len(w.data)-at, sector-(w.off+at)%sector)
			if chance(4) < keep+chance(2) && keep > 0 {
				b = put(b, w.off+at, w.data[at:at+n])
			}
			at += n
		}
	}
	return b
}

func put(b []byte, off int, data []byte) []byte {
	if end := off + len(data); end > len(b) {
		b = append(b, make([]byte, end-len(b))...)
	}
	copy(b[off:], data)
	return b
}

func (s *simFS) MkdirAll(dir string) error {
	if s.crashed {
		return errCrashed
	}
	if s.fail != nil {
		return s.fail("mkdir", dir)
	}
	return nil
}

func (s *simFS) ReadDir(dir string) ([]Info, error) {
	if s.crashed {
		return nil, errCrashed
	}
	var all []Info
	for _, p := range slices.Sorted(maps.Keys(s.names)) {
		if filepath.Dir(p) == dir {
			all = append(all, Info{filepath.Base(p), int64(len(s.names[p].seen))})
		}
	}
	return all, nil
}

func (s *simFS) change(op string, c change, path string) error {
	if err := s.step(op, path); err != nil {
		return err
	}
	c.dir = filepath.Dir(path)
	c.apply(s.names)
	s.pending = append(s.pending, c)
	return s.ended()
}

func (s *simFS) Create(path string) (File, error) {
	node := &inode{}
	if err := s.change("create", change{to: path, node: node}, path); err != nil {
		return nil, err
	}
	return &simFile{s, node, path, true}, nil
}

func (s *simFS) Open(path string, write bool) (File, error) {
	if s.crashed {
		return nil, errCrashed
	}
	if s.fail != nil {
		op := "open"
		if write {
			op = "open-write"
		}
		if err := s.fail(op, path); err != nil {
			return nil, &fs.PathError{Op: op, Path: path, Err: err}
		}
	}
	node := s.names[path]
	if node == nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return &simFile{s, node, path, write}, nil
}

func (s *simFS) Rename(from, to string) error {
	node := s.names[from]
	if node == nil {
		return &fs.PathError{Op: "rename", Path: from, Err: fs.ErrNotExist}
	}
	return s.change("rename", change{from: from, to: to, node: node}, to)
}

func (s *simFS) Remove(path string) error {
	node := s.names[path]
	if node == nil {
		return &fs.PathError{Op: "remove", Path: path, Err: fs.ErrNotExist}
	}
	return s.change("remove", change{from: path, node: node}, path)
}

func (s *simFS) SyncDir(dir string) error {
	if err := s.step("syncdir", dir); err != nil {
		return err
	}
	if s.crashed {
		return errCrashed
	}
	s.pending = slices.DeleteFunc(s.pending, func(c change) bool {
		if c.dir == dir {
			c.apply(s.onDisk)
		}
		return c.dir == dir
	})
	return nil
}

func (s *simFS) Free(string) (int64, bool, error) { return s.free, s.inodes, s.ended() }

type simFile struct {
	fs    *simFS
	node  *inode
	path  string
	write bool
}

func (f *simFile) ReadAt(p []byte, off int64) (int, error) {
	if f.fs.crashed {
		return 0, errCrashed
	}
	for page := off / pageSize; f.fs.fail != nil && page <= (off+int64(len(p))-1)/pageSize; page++ {
		if err := f.fs.fail(fmt.Sprintf("read %d", page), f.path); err != nil {
			return 0, &fs.PathError{Op: "read", Path: f.path, Err: err}
		}
	}
	if off >= int64(len(f.node.seen)) {
		return 0, io.EOF
	}
	n := copy(p, f.node.seen[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *simFile) WriteAt(p []byte, off int64) (int, error) {
	if !f.write {
		return 0, &fs.PathError{Op: "write", Path: f.path, Err: syscall.EBADF}
	}
	if err := f.fs.step("write", f.path); err != nil {
		return 0, err
	}
	p = slices.Clone(p)
	f.node.seen = put(f.node.seen, int(off), p)
	f.node.pending = append(f.node.pending, write{int(off), p})
	if err := f.fs.ended(); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Sync that fails has written some pages, and the kernel forgets that the
// others are not on the disk: the next Sync succeeds and writes none of them.
func (f *simFile) Sync() error {
	if err := f.fs.step("sync", f.path); err != nil {
		if !errors.Is(err, errCrashed) {
			f.node.synced = f.node.afterCrash(f.fs.chance)
			f.node.pending = nil
		}
		return err
	}
	if f.fs.crashed {
		return errCrashed
	}
	for _, w := range f.node.pending {
		f.node.synced = put(f.node.synced, w.off, w.data)
	}
	f.node.pending = nil
	return nil
}

func (f *simFile) Close() error { return nil }
