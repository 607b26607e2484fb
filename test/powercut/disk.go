// Package powercut shows what files look like after power cuts, without a
// machine to cut. A program runs on an ext4 whose disk logs each write and each
// flush: QEMU's blklogwrites under a FUSE export and a loop mount. Then, for as
// many moments as asked, the disk is made again as it could have been at that
// moment, mounted, so that ext4 recovers its journal, and looked at.
//
// The model is a disk with a volatile cache that honours flushes: at a cut, all
// that was written before the last finished flush is there; of what was written
// after it, any part (each write kept or dropped by chance, the last one
// possibly torn between sectors). The page cache is always lost. A card that
// says "flushed" and lies is not modelled.
//
// It needs root, qemu-utils, e2fsprogs, /dev/fuse and loop devices.
package powercut

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Disk is a mounted file system whose writes are logged.
type Disk struct {
	// Folder is where it is mounted.
	Folder string

	dir    string
	daemon *exec.Cmd
	start  int64 // in the log, after mounting
	closed bool
}

// NewDisk makes a disk of so many bytes in dir, an empty folder, with ext4 on
// it. Close ends it.
func NewDisk(ctx context.Context, dir string, size int64) (_ *Disk, err error) {
	d := &Disk{Folder: filepath.Join(dir, "mnt"), dir: dir}
	if err := os.Mkdir(d.Folder, 0o755); err != nil {
		return nil, err
	}
	for _, f := range []string{d.image(), d.log(), d.export()} {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			return nil, err
		}
	}
	if err := os.Truncate(d.image(), size); err != nil {
		return nil, err
	}
	d.daemon = exec.Command("qemu-storage-daemon", //nolint:noctx // Close ends it; killed, it would leave a dead mount behind
		"--blockdev", "driver=file,node-name=f,filename="+d.image(), "--blockdev", "driver=raw,node-name=r,file=f",
		"--blockdev", "driver=file,node-name=lf,filename="+d.log(), "--blockdev", "driver=raw,node-name=lr,file=lf",
		"--blockdev", "driver=blklogwrites,node-name=d,file=r,log=lr,log-sector-size=512",
		"--export", "type=fuse,id=e,node-name=d,mountpoint="+d.export()+",writable=on,growable=off")
	d.daemon.Stderr = os.Stderr
	if err := d.daemon.Start(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			d.end()
		}
	}()
	if err := d.exported(ctx); err != nil {
		return nil, err
	}
	if err := run(ctx, "mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", d.export()); err != nil {
		return nil, err
	}
	if err := run(ctx, "mount", "-o", "loop,noatime", d.export(), d.Folder); err != nil {
		return nil, err
	}
	if err := run(ctx, "sync", "-f", d.Folder); err != nil {
		return nil, err
	}
	d.start = d.Now()
	return d, nil
}

func (d *Disk) image() string  { return filepath.Join(d.dir, "disk.img") }
func (d *Disk) log() string    { return filepath.Join(d.dir, "writes.log") }
func (d *Disk) export() string { return filepath.Join(d.dir, "export.img") }

// exported waits until the export has the disk's size.
func (d *Disk) exported(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 1000 {
		if st, err := os.Stat(d.export()); err == nil && st.Size() > 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return errors.New("qemu-storage-daemon exports nothing")
}

// Now is the present moment: how long the log of writes is, in bytes.
func (d *Disk) Now() int64 {
	st, err := os.Stat(d.log())
	if err != nil {
		return 0
	}
	return st.Size()
}

// Close unmounts the disk, once. The log stays, for Cuts.
func (d *Disk) Close() error {
	if d.closed {
		return nil
	}
	d.closed = true
	err := run(context.Background(), "umount", d.Folder)
	d.end()
	return err
}

func (d *Disk) end() {
	_ = d.daemon.Process.Signal(syscall.SIGTERM)
	_ = d.daemon.Wait() // it says how it was ended
}

func run(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
