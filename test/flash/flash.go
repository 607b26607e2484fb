// Package flash measures what a store of messages costs the card: the bytes
// that reach the device, counted by the kernel on a private ext4, so with the
// file system's journal and whole pages. A program's own count of what it
// writes says nothing about that.
//
// It needs root, e2fsprogs and loop devices.
package flash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// Store is what is measured.
type Store interface {
	// Append makes a batch safe.
	Append(batch [][]byte) error
	// Ack takes out the n oldest messages.
	Ack(n int) error
	Close() error
}

// Disk is an ext4 of its own.
type Disk struct {
	Folder string // where it is mounted
	device string // "loop3"
	closed bool
}

// NewDisk makes a file system of 128 MiB in dir, an empty folder.
func NewDisk(ctx context.Context, dir string) (*Disk, error) {
	d := &Disk{Folder: filepath.Join(dir, "mnt")}
	image := filepath.Join(dir, "disk.img")
	if err := os.Mkdir(d.Folder, 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		return nil, err
	}
	if err := os.Truncate(image, 128<<20); err != nil {
		return nil, err
	}
	// Blocks as on a whole card: mke2fs would make them of 1 KiB on one so small.
	// Nothing is left for the kernel to initialise while we count.
	if _, err := run(ctx, "mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0", image); err != nil {
		return nil, err
	}
	if _, err := run(ctx, "mount", "-o", "loop,noatime", image, d.Folder); err != nil {
		return nil, err
	}
	source, err := run(ctx, "findmnt", "-no", "SOURCE", d.Folder)
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	d.device = filepath.Base(source)
	return d, nil
}

// Written is the number of bytes that were written to the device, with all
// that is on its way.
func (d *Disk) Written(ctx context.Context) (int64, error) {
	if _, err := run(ctx, "sync", "-f", d.Folder); err != nil {
		return 0, err
	}
	b, err := os.ReadFile(filepath.Join("/sys/block", d.device, "stat"))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b))
	if len(fields) < 7 {
		return 0, fmt.Errorf("the kernel's counters of %s are %q", d.device, b)
	}
	sectors, err := strconv.ParseInt(fields[6], 10, 64) // of 512 bytes, whatever the device has
	return sectors * 512, err
}

// Close unmounts it, once.
func (d *Disk) Close() error {
	if d.closed {
		return nil
	}
	d.closed = true
	_, err := run(context.Background(), "umount", d.Folder)
	return err
}

// Cost is in bytes on the device.
type Cost struct {
	FirstUse float64 // a message, into files that the store makes
	Steady   float64 // a message, into files that it has
	Ack      float64 // an acknowledged message
}

// messageSize is that of a telemetry message.
const messageSize = 200

// Measure gives a store n messages in batches, acknowledges them in steps of
// 100, and does both once more.
func (d *Disk) Measure(ctx context.Context, s Store, n, perBatch int) (c Cost, err error) {
	if c.FirstUse, _, err = d.round(ctx, s, n, perBatch); err != nil {
		return c, err
	}
	c.Steady, c.Ack, err = d.round(ctx, s, n, perBatch)
	return c, errors.Join(err, s.Close())
}

func (d *Disk) round(ctx context.Context, s Store, n, perBatch int) (appended, acked float64, err error) {
	at := make([]int64, 3)
	for i, step := range []func() error{
		func() error { return nil },
		func() error {
			for i := 0; i < n; i += perBatch {
				var batch [][]byte
				for j := range perBatch {
					batch = append(batch, bytes.Repeat([]byte{byte(i + j)}, messageSize))
				}
				if err := s.Append(batch); err != nil {
					return err
				}
			}
			return nil
		},
		func() error {
			for range n / 100 {
				if err := s.Ack(100); err != nil {
					return err
				}
			}
			return nil
		},
	} {
		if err := step(); err != nil {
			return 0, 0, err
		}
		if at[i], err = d.Written(ctx); err != nil {
			return 0, 0, err
		}
	}
	return float64(at[1]-at[0]) / float64(n), float64(at[2]-at[1]) / float64(n), nil
}

func run(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}
