package iotcore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/jitr-agent/jitr-agent/internal/atomicfile"
)

const (
	storeName    = "registry.json"
	storeVersion = 1
	// storeDelay gathers changes: ten thousand registrations a minute must
	// not mean ten thousand writes of a growing file.
	storeDelay = 100 * time.Millisecond
)

// store keeps the parts of the server that survive a restart in a file, one
// JSON object with a key for each.
type store struct {
	path  string // empty: nowhere
	parts map[string]part
	dirty chan struct{} // of capacity 1
	log   *zap.Logger
}

// part is something that a restart must not forget. It tells store.mark of
// its changes.
type part interface {
	json.Marshaler
	json.Unmarshaler
}

func newStore(dir string, log *zap.Logger) *store {
	st := &store{parts: map[string]part{}, dirty: make(chan struct{}, 1), log: log}
	if dir != "" {
		st.path = filepath.Join(dir, storeName)
	}
	return st
}

// load fills the parts with what the file holds. A part that it does not know
// stays as it is.
func (st *store) load() error {
	if st.path == "" {
		return nil
	}
	if err := st.read(); err != nil {
		return fmt.Errorf("read %s: %w; move it away to start anew", st.path, err)
	}
	return nil
}

func (st *store) read() error {
	data, err := os.ReadFile(st.path)
	if errors.Is(err, fs.ErrNotExist) {
		st.mark() // so that the registration code lasts
		return nil
	}
	if err != nil {
		return err
	}
	var head struct{ Version int }
	if err := json.Unmarshal(data, &head); err != nil {
		return err
	}
	if head.Version != storeVersion {
		return fmt.Errorf("it has version %d, and this program knows version %d", head.Version, storeVersion)
	}
	var stored map[string]json.RawMessage
	if err := json.Unmarshal(data, &stored); err != nil {
		return err
	}
	for name, p := range st.parts {
		if raw, ok := stored[name]; ok {
			if err := p.UnmarshalJSON(raw); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

func (st *store) mark() {
	select {
	case st.dirty <- struct{}{}:
	default:
	}
}

// run writes after changes until ctx ends, and then once more where there is
// something to write.
func (st *store) run(ctx context.Context) {
	for {
		select {
		case <-st.dirty:
		case <-ctx.Done():
			select {
			case <-st.dirty:
				st.save()
			default:
			}
			return
		}
		wait := time.NewTimer(storeDelay)
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
		}
		st.save()
	}
}

func (st *store) save() {
	if st.path == "" {
		return
	}
	all := map[string]any{"version": storeVersion}
	for name, p := range st.parts {
		all[name] = p
	}
	data, err := json.Marshal(all)
	if err == nil {
		err = atomicfile.Write(st.path, data, 0o600)
	}
	if err != nil {
		st.log.Error("The registry cannot be saved; a restart will forget the latest changes.", zap.String("file", st.path), zap.Error(err))
	}
}
