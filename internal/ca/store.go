package ca

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/ca/inventory"
	"github.com/jitr-agent/jitr-agent/internal/certs"
	"github.com/jitr-agent/jitr-agent/internal/filelock"
)

// store is the CA's inventory while nobody else uses it.
type store struct {
	*inventory.Inventory
	held *filelock.Lock
}

// open waits for its turn and opens the inventory. The first time it takes
// over what a jitrctl without one left in issued/.
func (c *CA) open(ctx context.Context, now time.Time) (*store, error) {
	held, err := filelock.Wait(ctx, filepath.Join(c.dir, "lock"))
	if err != nil {
		return nil, err
	}
	inv, err := inventory.Open(c.dir, func(tx *inventory.Tx) error { return c.takeOver(tx, now) })
	if err != nil {
		held.Unlock()
		return nil, withRoom(err)
	}
	return &store{inv, held}, nil
}

// Close gives the inventory back. What was committed is on the disk already.
func (s *store) Close() {
	s.Inventory.Close()
	s.held.Unlock()
}

// takeOver reads issued/ID.crt: all certificates for one request, the newest
// first. The files stay; nothing reads them any more.
func (c *CA) takeOver(tx *inventory.Tx, now time.Time) error {
	files, err := filepath.Glob(filepath.Join(c.dir, "issued", "*.crt"))
	if err != nil {
		return err
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		all, err := certs.ParseChain(data)
		if err != nil {
			return fmt.Errorf("%s: %w; restore it, or move it away to have a new certificate made", file, err)
		}
		for _, leaf := range all {
			if _, err := tx.Add(leaf, inventory.Imported, now); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
		}
	}
	return nil
}

// readIfThere is the file's content, nil where there is no file.
func readIfThere(file string) ([]byte, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}
