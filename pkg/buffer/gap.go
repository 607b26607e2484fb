package buffer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/atomicfile"
	"github.com/jitr-agent/jitr-agent/pkg/buffer/seglog"
)

// Why says for what reason messages were lost.
type Why string

// The reasons of contract §9.
const (
	Full    Why = "full"    // they gave way to newer ones
	Aged    Why = "aged"    // older than the buffer's max_age
	Expired Why = "expired" // older than their own message expiry interval
	Damaged Why = "damaged" // what was stored cannot be read any more
)

// Gap is a gap record: messages that were acknowledged and will not be
// delivered. It is the JSON that goes to the gap topic.
type Gap struct {
	Schema   int        `json:"schema"` // 1
	Stream   string     `json:"stream"`
	From     uint64     `json:"from_seq"`
	To       uint64     `json:"to_seq"`
	Messages uint64     `json:"messages"`
	Why      Why        `json:"why"`
	FromAt   *time.Time `json:"from_at"` // null where the clock was wrong
	ToAt     *time.Time `json:"to_at"`
}

// gapOf counts one message.
func gapOf(s stamp, why Why) Gap {
	g := Gap{Schema: 1, Stream: s.streamID(), From: s.seq, To: s.seq, Messages: 1, Why: why}
	if at := s.wall(); !at.IsZero() {
		g.FromAt, g.ToAt = &at, &at
	}
	return g
}

// add makes g one with other, if both are of one stream and reason.
func (g *Gap) add(other Gap) bool {
	if g.Stream != other.Stream || g.Why != other.Why {
		return false
	}
	g.From, g.To = min(g.From, other.From), max(g.To, other.To)
	g.Messages += other.Messages
	if g.FromAt == nil || other.FromAt != nil && other.FromAt.Before(*g.FromAt) {
		g.FromAt = other.FromAt
	}
	if g.ToAt == nil || other.ToAt != nil && other.ToAt.After(*g.ToAt) {
		g.ToAt = other.ToAt
	}
	return true
}

// gapEntry is a gap record that the cloud does not have yet.
type gapEntry struct {
	Gap
	sent      bool // on the present connection
	acked     bool
	refusedOn int // the connection on which the server would not have it
}

// withGaps is list without what was delivered, and with more. A record that is
// on its way is not changed; one that grows is replaced, so that list stays as
// it is. added is how many are new.
func withGaps(list []*gapEntry, more []Gap) (next []*gapEntry, added int) {
	for _, g := range list {
		if !g.acked {
			next = append(next, g)
		}
	}
	for _, m := range more {
		i := slices.IndexFunc(next, func(g *gapEntry) bool { return !g.sent && g.Stream == m.Stream && g.Why == m.Why })
		if i < 0 {
			next = append(next, &gapEntry{Gap: m})
			added++
			continue
		}
		grown := &gapEntry{Gap: next[i].Gap, refusedOn: next[i].refusedOn}
		grown.add(m)
		next[i] = grown
	}
	return next, added
}

// gapBook is gaps.json: the gap records that the cloud does not have yet. It
// is a file of its own, so that the log can be full and yet nothing is dropped
// from it that is not counted here first.
type gapBook struct {
	path  string
	saved []Gap // as on the disk
}

// gapFile is the content of the file.
type gapFile struct {
	Version int   `json:"version"` // 1
	Gaps    []Gap `json:"gaps"`
}

const gapFileName = "gaps.json"

// openGaps reads the file of dir. One that cannot be read is set aside, which
// setAside tells.
func openGaps(dir string) (b gapBook, setAside, err error) {
	b.path = filepath.Join(dir, gapFileName)
	data, err := os.ReadFile(b.path)
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil, nil
	}
	if err != nil {
		return b, nil, err
	}
	var f gapFile
	useless := json.Unmarshal(data, &f)
	if useless == nil && f.Version != 1 {
		useless = fmt.Errorf("it has version %d, and this program knows 1", f.Version)
	}
	if useless != nil {
		return b, fmt.Errorf("%s was not readable and is now %s.bad: %w", b.path, b.path, useless), atomicfile.Rename(b.path, b.path+".bad")
	}
	b.saved = f.Gaps
	return b, nil, nil
}

// save makes list last.
func (b *gapBook) save(list []*gapEntry) error {
	gaps := make([]Gap, len(list))
	for i, g := range list {
		gaps[i] = g.Gap
	}
	if len(gaps) == 0 && len(b.saved) == 0 {
		return nil
	}
	if err := seglog.Disk().MkdirAll(filepath.Dir(b.path)); err != nil {
		return err
	}
	data, err := json.MarshalIndent(gapFile{Version: 1, Gaps: gaps}, "", "  ")
	if err != nil {
		return err
	}
	if err := atomicfile.Write(b.path, append(data, '\n'), 0o600); err != nil {
		return err
	}
	b.saved = gaps
	return nil
}
