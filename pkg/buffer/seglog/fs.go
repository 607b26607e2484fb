package seglog

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/jitr-agent/jitr-agent/internal/atomicfile"
)

// FS is what the log needs from a file system. Tests put one in its place that
// fails, loses and tears.
type FS interface {
	// MkdirAll makes dir and its parents, and makes them last.
	MkdirAll(dir string) error
	// ReadDir lists the names in dir and the sizes of the files.
	ReadDir(dir string) ([]Info, error)
	// Create makes an empty file for reading and writing; it empties one that
	// is there.
	Create(path string) (File, error)
	// Open opens a file, for reading only or for both.
	Open(path string, write bool) (File, error)
	Rename(from, to string) error
	Remove(path string) error
	// SyncDir makes what Create, Rename and Remove did in dir last.
	SyncDir(dir string) error
	// Free is the number of bytes that are free to us on dir's file system,
	// and whether there are inodes.
	Free(dir string) (bytes int64, inodes bool, err error)
}

// Info is a name in a folder.
type Info struct {
	Name string
	Size int64
}

// File is an open file.
type File interface {
	ReadAt(p []byte, off int64) (int, error)
	WriteAt(p []byte, off int64) (int, error)
	// Sync is fdatasync(2).
	Sync() error
	Close() error
}

// Disk is the file system of the machine.
func Disk() FS { return disk{} }

type disk struct{}

func (disk) MkdirAll(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	parent := filepath.Dir(dir)
	if err := (disk{}).MkdirAll(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := atomicfile.HandOver(d, parent); err != nil {
		return err
	}
	return atomicfile.SyncDir(parent)
}

func (disk) ReadDir(dir string) ([]Info, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []Info
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			all = append(all, Info{e.Name(), info.Size()})
		}
	}
	return all, nil
}

func (disk) Create(path string) (File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := atomicfile.HandOver(f, filepath.Dir(path)); err != nil {
		f.Close()
		return nil, err
	}
	return diskFile{f}, nil
}

func (disk) Open(path string, write bool) (File, error) {
	mode := os.O_RDONLY
	if write {
		mode = os.O_RDWR
	}
	f, err := os.OpenFile(path, mode, 0)
	if err != nil {
		return nil, err
	}
	return diskFile{f}, nil
}

func (disk) Rename(from, to string) error { return os.Rename(from, to) }
func (disk) Remove(path string) error     { return os.Remove(path) }
func (disk) SyncDir(dir string) error     { return atomicfile.SyncDir(dir) }

func (disk) Free(dir string) (int64, bool, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, false, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	// A file system without a count of inodes, such as btrfs, says 0 of 0.
	return int64(st.Bavail) * int64(st.Bsize), st.Ffree > 0 || st.Files == 0, nil //nolint:unconvert // the types differ by architecture
}

type diskFile struct{ *os.File }

// Sync is fdatasync: sizes never change after a segment has its name, so there
// is no metadata that would have to be flushed along.
func (f diskFile) Sync() error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if err == nil {
			return nil
		}
		if err != unix.EINTR {
			return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
		}
	}
}
