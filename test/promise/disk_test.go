package promise

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jitr-agent/jitr-agent/test/flash"
	"github.com/jitr-agent/jitr-agent/test/rig"
)

// disk is an ext4 of 128 MiB that nobody else uses.
type disk struct {
	*flash.Disk
	t     *testing.T
	hog   string // the file of another program
	image string // what the disk is in
}

func newDisk(t *testing.T) *disk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("skipped: only root can mount a disk")
	}
	if _, err := exec.LookPath("mke2fs"); err != nil {
		t.Fatalf("%v; install it with: tools/need e2fsprogs", err)
	}
	dir := t.TempDir()
	f, err := flash.NewDisk(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	d := &disk{f, t, filepath.Join(f.Folder, "hog"), filepath.Join(dir, "disk.img")}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// device is its name, "loop3".
func (d *disk) device() string {
	d.t.Helper()
	return filepath.Base(strings.TrimSpace(rig.MustRun(d.t, "findmnt", "-no", "SOURCE", d.Folder)))
}

// written is the number of bytes that reached the device so far.
func (d *disk) written() int64 {
	d.t.Helper()
	n, err := d.Written(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	return n
}

// free is what others than root may still use, in bytes.
func (d *disk) free() int64 {
	d.t.Helper()
	var s syscall.Statfs_t
	if err := syscall.Statfs(d.Folder, &s); err != nil {
		d.t.Fatal(err)
	}
	return int64(s.Bavail) * int64(s.Bsize) //nolint:unconvert // the types differ by architecture
}

// leave lets another program's file take all but so many bytes.
func (d *disk) leave(bytes int64) {
	d.t.Helper()
	d.grow(d.free() - bytes)
	rig.MustRun(d.t, "sync", "-f", d.Folder)
}

// useUp lets it take everything, with what is reserved for root.
func (d *disk) useUp() {
	d.t.Helper()
	for step := int64(16 << 20); step >= 4096; {
		if !d.grow(step) {
			step /= 2
		}
	}
}

// grow reports false where there is not so much room.
func (d *disk) grow(bytes int64) bool {
	d.t.Helper()
	f, err := os.OpenFile(d.hog, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		d.t.Fatal(err)
	}
	err = syscall.Fallocate(int(f.Fd()), 0, st.Size(), bytes)
	if err != nil && !errors.Is(err, syscall.ENOSPC) {
		d.t.Fatal(err)
	}
	return err == nil
}

// release deletes the other program's file.
func (d *disk) release() {
	d.t.Helper()
	if err := os.Remove(d.hog); err != nil {
		d.t.Fatal(err)
	}
}

// remount changes an option: "ro", "rw".
func (d *disk) remount(option string) {
	d.t.Helper()
	rig.MustRun(d.t, "mount", "-o", "remount,"+option, d.Folder)
}
