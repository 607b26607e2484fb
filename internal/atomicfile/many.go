package atomicfile

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// WriteMany writes files into dir with the promise of Write for each of them,
// and two syncs for all: thousands of files, each with two of its own, take
// minutes on a disk that turns. Files are named by their keys, which must be
// plain names.
//
// The new content is made in the directory stage within dir, which must be the
// caller's alone. A killed process leaves it behind; the next WriteMany with
// that name removes it first, even where it has nothing to write.
func WriteMany(dir, stage string, files map[string][]byte, perm fs.FileMode) (err error) {
	stage = filepath.Join(dir, stage)
	if err := os.RemoveAll(stage); err != nil || len(files) == 0 {
		return err
	}
	if err := os.Mkdir(stage, 0o700); err != nil {
		return err
	}
	defer func() {
		if rmErr := os.RemoveAll(stage); err == nil {
			err = rmErr
		}
	}()
	for name, data := range files {
		if info, err := os.Lstat(filepath.Join(dir, name)); err == nil && !info.Mode().IsRegular() {
			return &fs.PathError{Op: "write", Path: filepath.Join(dir, name), Err: ErrNotRegular}
		}
		if err := writePlain(filepath.Join(stage, name), dir, data, perm); err != nil {
			return err
		}
	}
	if err := syncFS(dir); err != nil {
		return err
	}
	for name := range files {
		if err := os.Rename(filepath.Join(stage, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return SyncDir(dir)
}

func writePlain(path, owner string, data []byte, perm fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	defer f.Close() // a second time where all is well
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Chmod(perm); err != nil {
		return err
	}
	if err := HandOver(f, owner); err != nil {
		return err
	}
	return f.Close()
}

// syncFS is one fsync for all files of dir's file system. Since Linux 5.8 it
// reports what could not be written.
func syncFS(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("syncfs %s: %w", dir, err)
	}
	return nil
}
