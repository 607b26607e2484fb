package ca

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/atomicfile"
	"github.com/jitr-agent/jitr-agent/internal/ca/inventory"
	"github.com/jitr-agent/jitr-agent/internal/certs"
)

// group is how many requests share a transaction and its fsync: enough that
// the fsyncs do not count, few enough that a command that is killed has little
// to do again.
const group = 64

// Item is one request of a batch.
type Item struct {
	File string // of the request
	Name string // replaces the request's common name; empty: keep it
	Days int    // validity; 0: the batch's
}

// Batch is many requests to sign in one run.
type Batch struct {
	Items       []Item
	Out         string    // directory for the certificates, NAME.crt; it is made where there is none
	Days        int       // validity where the item has none
	RenewBefore time.Time // renew what ends before that; zero: nothing
	Now         time.Time // the time of signing

	// Progress is told how many items are done, Refused what was not signed
	// and why. Both may be nil. They are called by SignBatch's goroutine.
	Progress func(done int)
	Refused  func(Item, error)
}

// Outcome counts what became of a batch's items.
type Outcome struct{ Signed, Again, Capped, Refused int }

// SignBatch signs the items and writes each certificate with the CA's chain to
// NAME.crt. One request that is refused does not keep the others from being
// signed. An error is about the CA or the disk, and ends the batch.
//
// It can be killed at any time and given again: as with Sign, what was signed
// is not signed again, and a file is there wholly or not at all. One name for
// two keys or subjects in a batch is ErrNameTwice: their files would be one.
func (c *CA) SignBatch(ctx context.Context, b Batch) (o Outcome, err error) {
	if _, err := endOf(b.Now, b.Days); err != nil {
		return o, err
	}
	key, err := c.signer(b.Now)
	if err != nil {
		return o, err
	}
	if err := os.MkdirAll(b.Out, 0o755); err != nil {
		return o, withRoom(err)
	}
	st, err := c.open(ctx, b.Now)
	if err != nil {
		return o, err
	}
	defer st.Close()

	names := make(map[string]taken, len(b.Items))
	done := 0
	for items := range slices.Chunk(b.Items, group) {
		if err := ctx.Err(); err != nil {
			return o, err
		}
		jobs, errs := b.read(items)
		var open []*job
		for i, j := range jobs {
			if errs[i] == nil {
				errs[i] = claim(names, items[i].File, j)
			}
			if errs[i] == nil {
				open = append(open, j)
			}
		}
		if err := c.signJobs(st, key, open, b.Now); err != nil {
			return o, err
		}
		if err := c.hand(b.Out, open); err != nil {
			return o, withRoom(fmt.Errorf("write the certificates to %s: %w", b.Out, err))
		}
		for i, j := range jobs {
			if errs[i] == nil {
				errs[i] = j.err
			}
			o.count(j, errs[i])
			if errs[i] != nil && b.Refused != nil {
				b.Refused(items[i], errs[i])
			}
		}
		done += len(items)
		if b.Progress != nil {
			b.Progress(done)
		}
	}
	return o, nil
}

func (o *Outcome) count(j *job, err error) {
	switch {
	case err != nil:
		o.Refused++
		return
	case j.issued.Again:
		o.Again++
	default:
		o.Signed++
	}
	if j.issued.Capped {
		o.Capped++
	}
}

// read makes jobs of the items. A job is nil where its error is not.
func (b *Batch) read(items []Item) ([]*job, []error) {
	jobs, errs := make([]*job, len(items)), make([]error, len(items))
	inParallel(len(items), func(i int) {
		data, err := os.ReadFile(items[i].File)
		if err != nil {
			errs[i] = err
			return
		}
		csr, err := ParseRequest(data)
		if err != nil {
			errs[i] = err
			return
		}
		days := items[i].Days
		if days == 0 {
			days = b.Days
		}
		jobs[i], errs[i] = newJob(csr, SignOptions{Name: items[i].Name, Days: days, RenewBefore: b.RenewBefore, Now: b.Now})
	})
	return jobs, errs
}

// taken is who has a name in this batch.
type taken struct {
	file    string
	request inventory.Request
}

func claim(names map[string]taken, file string, j *job) error {
	if by, ok := names[j.name]; ok && by.request != j.request() {
		return fmt.Errorf("%w: %q is in %s too, with another key or subject; give each gateway a name of its own", ErrNameTwice, j.name, by.file)
	} else if !ok {
		names[j.name] = taken{file, j.request()}
	}
	return nil
}

// hand writes the certificates of the jobs, where they are not there already.
func (c *CA) hand(out string, jobs []*job) error {
	files := make(map[string][]byte, len(jobs))
	for _, j := range jobs {
		if j.issued == nil {
			continue
		}
		name, data := j.name+".crt", certs.EncodeChain(j.issued.Chain)
		if there, err := os.ReadFile(filepath.Join(out, name)); err == nil && bytes.Equal(there, data) {
			continue
		}
		files[name] = data
	}
	// The CA's lock is held, so the CA's own name is ours alone.
	return atomicfile.WriteMany(out, ".jitrctl-"+certs.ID(c.Certificate())[:16], files, 0o644)
}

// inParallel calls f with 0 to n-1 on all processors, and returns when all
// calls have.
func inParallel(n int, f func(i int)) {
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	workers.Wait()
}
