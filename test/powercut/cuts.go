package powercut

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sort"
)

// Result is what a series of cuts has shown.
type Result struct {
	Cuts, Writes, Flushes int
	Violations            []error
}

// entry is a write in a log of dm-log-writes' format.
type entry struct {
	sector, n, flags uint64
	at, data, end    int64 // in the log
}

const (
	flagFlush   = 1
	flagFUA     = 2
	flagDiscard = 4
	sectorSize  = 512
)

// Cuts cuts the power n times at random moments, in the middle of a write or at
// end, and calls check
// with the folder where what is left is mounted, and with the moment. What
// check returns is a violation. The disk must be closed.
func (d *Disk) Cuts(ctx context.Context, n int, end int64, rng *rand.Rand, check func(folder string, moment int64) error) (res Result, err error) {
	log, err := os.Open(d.log())
	if err != nil {
		return res, err
	}
	defer log.Close()
	all, err := readLog(log, end)
	if err != nil {
		return res, err
	}
	first := sort.Search(len(all), func(i int) bool { return all[i].end > d.start })
	res.Cuts, res.Writes = n, len(all)-first
	for _, e := range all[first:] {
		if e.flags&flagFlush != 0 {
			res.Flushes++
		}
	}
	moments := make([]int, n)
	for i := range moments {
		moments[i] = first + rng.IntN(len(all)-first+1) // len(all) is end
	}
	slices.Sort(moments)

	size, err := os.Stat(d.image())
	if err != nil {
		return res, err
	}
	basePath, cutPath, folder := filepath.Join(d.dir, "base.img"), filepath.Join(d.dir, "cut.img"), filepath.Join(d.dir, "cut")
	base, err := os.Create(basePath)
	if err != nil {
		return res, err
	}
	defer base.Close()
	if err := errors.Join(base.Truncate(size.Size()), os.MkdirAll(folder, 0o755)); err != nil {
		return res, err
	}
	done := 0
	for i, moment := range moments {
		at, last := end, min(moment, len(all)-1)
		if moment < len(all) {
			at = all[moment].at
		}
		flushed := last
		for flushed >= 0 && all[flushed].flags&flagFlush == 0 {
			flushed--
		}
		for ; done <= flushed; done++ {
			if err := apply(base, log, all[done], all[done].n); err != nil {
				return res, err
			}
		}
		if err := run(ctx, "cp", "--sparse=always", basePath, cutPath); err != nil {
			return res, err
		}
		if err := rest(cutPath, log, all[flushed+1:last+1], moment < len(all), []float64{0, 0.5, 0.9, 1}[i%4], rng); err != nil {
			return res, err
		}
		if err := mounted(ctx, cutPath, folder, func() error { return check(folder, at) }); err != nil {
			res.Violations = append(res.Violations, fmt.Errorf("cut %d, at write %d: %w", i, moment-first, err))
		}
	}
	return res, nil
}

// rest puts on a disk what was written after the last flush: each write with
// probability p, and where it is torn the last one up to any sector.
func rest(image string, log io.ReaderAt, entries []entry, torn bool, p float64, rng *rand.Rand) error {
	disk, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer disk.Close()
	for i, e := range entries {
		n := e.n
		switch {
		case torn && i == len(entries)-1 && e.flags&flagDiscard == 0 && n > 0:
			n = rng.Uint64N(n + 1)
		case e.flags&flagFUA == 0 && rng.Float64() >= p:
			continue
		}
		if err := apply(disk, log, e, n); err != nil {
			return err
		}
	}
	return nil
}

// mounted runs f while image is mounted.
func mounted(ctx context.Context, image, folder string, f func() error) error {
	if err := run(ctx, "mount", "-o", "loop", image, folder); err != nil {
		return err
	}
	err := f()
	return errors.Join(err, run(ctx, "umount", folder))
}

func readLog(f io.ReaderAt, end int64) ([]entry, error) {
	var super [28]byte
	if _, err := f.ReadAt(super[:], 0); err != nil {
		return nil, err
	}
	if binary.LittleEndian.Uint64(super[:]) != 0x6a736677736872 || binary.LittleEndian.Uint32(super[24:]) != sectorSize {
		return nil, errors.New("this is no log of writes")
	}
	var all []entry
	for off := int64(sectorSize); off+sectorSize <= end; {
		var h [24]byte
		if _, err := f.ReadAt(h[:], off); err != nil {
			return nil, err
		}
		e := entry{
			sector: binary.LittleEndian.Uint64(h[:]), n: binary.LittleEndian.Uint64(h[8:]), flags: binary.LittleEndian.Uint64(h[16:]),
			at: off, data: off + sectorSize, end: off + sectorSize,
		}
		if e.flags&flagDiscard == 0 {
			e.end += int64(e.n) * sectorSize
		}
		if e.end > end {
			break
		}
		all = append(all, e)
		off = e.end
	}
	return all, nil
}

// apply writes the first n sectors of e.
func apply(disk io.WriterAt, log io.ReaderAt, e entry, n uint64) error {
	b := make([]byte, n*sectorSize)
	if e.flags&flagDiscard == 0 {
		if _, err := log.ReadAt(b, e.data); err != nil && n > 0 {
			return err
		}
	}
	_, err := disk.WriteAt(b, int64(e.sector)*sectorSize)
	return err
}
