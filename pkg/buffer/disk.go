package buffer

import (
	"errors"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/jitr-agent/jitr-agent/pkg/buffer/seglog"
)

// disk is what the committing goroutine alone has: files, and how they fare.
type disk struct {
	gaps  gapBook
	dead  *seglog.Log // nil until there is a dead letter
	arena []byte
	log   trial // of the log
	side  trial // of gap records and dead letters, which must not hold up the log
}

// trial is how writing goes, and paces it where it fails: 1 s doubling to 30 s.
// A message waits in memory meanwhile, or its producer does.
type trial struct {
	err      error // of the last attempt
	retryAt  time.Time
	failures *backoff.ExponentialBackOff
}

// ended notes how an attempt at now ended.
func (t *trial) ended(err error, now time.Time) {
	t.err, t.retryAt = err, time.Time{}
	if err == nil {
		t.failures = nil
		return
	}
	if t.failures == nil {
		t.failures = backoff.NewExponentialBackOff(
			backoff.WithInitialInterval(time.Second), backoff.WithMultiplier(2), backoff.WithMaxInterval(30*time.Second),
			backoff.WithMaxElapsedTime(0)) // its default gives up after 15 minutes
	}
	t.retryAt = now.Add(t.failures.NextBackOff())
}

// encode gives each entry its stamp and makes the records for the log, which
// are valid until the next call. The buffer's lock is held.
func (d *disk) encode(batch []*entry, now instant) [][]byte {
	records := make([][]byte, len(batch))
	ends := make([]int, len(batch))
	b := d.arena[:0]
	for i, e := range batch {
		e.stamp = now.stamp(e.at).of(e.stamp)
		b = appendRecord(b, &e.message, e.stamp)
		ends[i] = len(b)
	}
	start := 0
	for i, end := range ends {
		records[i] = b[start:end]
		start = end
	}
	if cap(b) <= 2*chunk { // a rare large one is not worth its memory
		d.arena = b
	}
	return records
}

func (d *disk) close() {
	if d.dead != nil {
		_ = d.dead.Close() // it loses nothing that was appended
	}
}

// segmentSize gives a log of a limit at least four segments where that is
// possible: 256 KiB, which holds the longest message, to 1 MiB.
func segmentSize(maxSize int64) int { return int(min(1<<20, max(256<<10, maxSize/4))) }

// open opens the log and what is beside it. Where that fails the buffer works
// in memory, and tries again.
func (b *Buffer) open() {
	err := b.reopen()
	b.disk.log.ended(err, time.Now())
	close(b.opened)
	b.tell()
}

// reopen is one attempt to open the log.
func (b *Buffer) reopen() error {
	gaps, setAside, err := openGaps(b.cfg.Dir)
	if setAside != nil && b.cfg.SetAside != nil {
		b.cfg.SetAside(setAside)
	}
	if err != nil {
		return err
	}
	b.mu.Lock()
	limits := b.limits
	b.mu.Unlock()
	log, err := seglog.Open(b.cfg.Dir, seglog.Options{
		SegmentSize: segmentSize(limits.MaxSize), MaxSize: limits.MaxSize, KeepFree: limits.KeepFree, FS: b.fs,
	})
	if err != nil {
		return err
	}
	stats := log.Stats()
	var oldest time.Time
	if stats.Oldest < stats.Next {
		if first, err := log.Read(0).Next(); err == nil && first.Lost == 0 {
			if _, s, err := parseRecord(first.Payload); err == nil {
				oldest = s.wall()
			}
		}
	}
	defer wake(b.changed) // there may be something to send
	b.mu.Lock()
	defer b.mu.Unlock()
	b.disk.gaps = gaps
	for _, g := range gaps.saved {
		b.gaps = append(b.gaps, &gapEntry{Gap: g})
	}
	b.log, b.oldest = log, oldest
	b.readNext, b.logNext, b.ackedTo = stats.Oldest, stats.Next, stats.Oldest-1
	b.generation++
	return nil
}

// overflow makes room after err, where that is what the disk lacks.
func (b *Buffer) overflow(err error) error {
	if s := b.log.Stats().State; s != seglog.Full && s != seglog.DiskFull {
		return err
	}
	before := b.acknowledged()
	if dropErr := b.settleDrops(); dropErr != nil {
		return errors.Join(err, dropErr)
	}
	if b.acknowledged() > before {
		return nil // that may have been enough
	}
	dropped, dropErr := b.dropOldest(err)
	switch {
	case dropErr != nil:
		return errors.Join(err, dropErr)
	case dropped && b.acknowledged() > before:
		return nil // the next round finds the room
	}
	b.mu.Lock()
	refuse := b.limits.RefuseNew && b.log.Stats().State == seglog.Full
	var (
		told []func(error)
		own  uint64
	)
	if refuse {
		_, b.refusing, _ = b.log.OldestSegment()
		b.refusing = max(1, b.refusing)
		told, own = b.refuse()
	}
	b.mu.Unlock()
	for _, done := range told {
		done(ErrFull)
	}
	if own > 0 && b.cfg.Lost != nil {
		b.cfg.Lost(own, Full, 0) // not promised to anybody, but counted
	}
	return err
}

// acknowledged is up to where the log is.
func (b *Buffer) acknowledged() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ackedTo
}

// refuse gives back what is in memory and was not sent: those who wait are to be
// told, and own is the number of those for which nobody waits. The lock is held.
func (b *Buffer) refuse() (told []func(error), own uint64) {
	for i := range b.queue.len() {
		e := b.queue.at(i)
		if e.log != 0 || e.settled {
			continue
		}
		if e.done != nil {
			told = append(told, e.done)
			e.done = nil
		} else {
			own++
		}
		b.settle(e)
	}
	return told, own
}
