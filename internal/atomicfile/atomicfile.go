// Package atomicfile is the one way this project writes a file that matters:
// temporary file, fsync, rename, fsync of the directory. After Write returns,
// a power cut leaves either the old content or the new one, never a mixture
// and never nothing.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// ErrNotRegular: there is something under the name that is no plain file, such
// as /dev/stdout, and a rename would put a file in its place.
var ErrNotRegular = errors.New("it is not a regular file")

// Write replaces the content of path. The new file has exactly the mode perm.
// Run as root it gets the owner of the directory that holds it, so that a
// command given with sudo leaves nothing that the service, which runs as its
// own user, cannot read.
//
// On an error path is as it was (or, where only the last fsync failed, as it
// is to be), and no temporary file stays behind; a killed process may leave
// one, see Sweep. Anything but a regular file under path is ErrNotRegular. Two
// writers of one path do not disturb each other; the later rename wins.
func Write(path string, data []byte, perm fs.FileMode) (err error) {
	dir := filepath.Dir(path)
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return &fs.PathError{Op: "write", Path: path, Err: ErrNotRegular}
	}
	prefix, suffix := temporary(path)
	f, err := os.CreateTemp(dir, prefix+"*"+suffix)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close() // closed already where Close or Rename is what failed
			os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Chmod(perm); err != nil {
		return err
	}
	if err := HandOver(f, dir); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("fsync %s: %w", f.Name(), err)
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncDir(dir)
}

// temporary is what the names of temporary files for path begin and end with.
func temporary(path string) (prefix, suffix string) { return "." + filepath.Base(path) + ".", ".tmp" }

// Sweep removes the temporary files that writers of path left behind when they
// were killed. The caller must be the only one who may write path now.
func Sweep(path string) error {
	dir := filepath.Dir(path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	prefix, suffix := temporary(path)
	for _, e := range entries {
		if name := e.Name(); strings.HasPrefix(name, prefix) && strings.HasSuffix(name, suffix) {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Remove deletes path and makes the deletion last through a power cut. A path
// that does not exist is no error.
func Remove(path string) error {
	if err := os.Remove(path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// Rename moves from to to, in one directory, and makes the move last through
// a power cut.
func Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(to))
}

// SyncDir makes renames, creations and deletions in dir last through a power
// cut: on Linux a file's own fsync does not cover its directory entry.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("fsync %s: %w", dir, err)
	}
	return nil
}

// HandOver gives the open file f to the owner of dir where we are root; for
// anybody else it does nothing.
func HandOver(f *os.File, dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	return f.Chown(int(st.Uid), int(st.Gid))
}
