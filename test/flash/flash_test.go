package flash

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/jitr-agent/jitr-agent/pkg/buffer/seglog"
)

// segments is the segment log as the buffer uses it: while it drains without
// anything new coming in, the cursor is flushed for every 1000 messages, 11 s
// at the 90 a second that are sent.
type segments struct {
	log  *seglog.Log
	acks int
}

func (s *segments) Append(batch [][]byte) error {
	_, _, err := s.log.Append(batch...)
	return err
}

func (s *segments) Ack(n int) error {
	s.log.Ack(s.log.Stats().Oldest + uint64(n) - 1)
	if s.acks += n; s.acks < 1000 {
		return nil
	}
	s.acks = 0
	return s.log.Flush()
}

func (s *segments) Close() error { return s.log.Close() }

// TestSegmentLog holds the log to its budget on the card. The peers are
// measured the same way in the module below, peers.
func TestSegmentLog(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a disk")
	}
	if _, err := exec.LookPath("mke2fs"); err != nil {
		t.Skip("there is no mke2fs; install e2fsprogs")
	}
	for _, tt := range []struct {
		perCommit, messages int
		most                float64 // bytes a message in steady state
	}{
		{1, 4000, 5000},
		{10, 20000, 700},
		{100, 20000, 300},
	} {
		d, err := NewDisk(t.Context(), t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = d.Close() })
		log, err := seglog.Open(filepath.Join(d.Folder, "buffer"), seglog.Options{})
		if err != nil {
			t.Fatal(err)
		}
		c, err := d.Measure(t.Context(), &segments{log: log}, tt.messages, tt.perCommit)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("segment log, %3d a commit: %6.0f B a message, %6.0f B in new files, %4.1f B an acknowledgement", tt.perCommit, c.Steady, c.FirstUse, c.Ack)
		if c.Steady > tt.most || c.Steady < messageSize {
			t.Errorf("%d a commit: %.0f bytes reach the card for a message of %d, at most %.0f may", tt.perCommit, c.Steady, messageSize, tt.most)
		}
		if c.Ack > 15 || c.Ack <= 0 {
			t.Errorf("%.1f bytes reach the card for an acknowledgement, at most 15 may", c.Ack)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
