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

// store keeps the registry and the shadows in a file.
type store struct {
	path     string // empty: nowhere
	registry *registry
	shadows  *shadows
	dirty    chan struct{} // of capacity 1
	log      *zap.Logger
}

type storeFile struct {
	Version  int       `json:"version"`
	Registry *registry `json:"registry"`
	Shadows  *shadows  `json:"shadows"`
}

// openStore loads what dir holds into r and s, and lets them tell it their
// changes from then on.
func openStore(dir string, r *registry, s *shadows, log *zap.Logger) (*store, error) {
	st := &store{registry: r, shadows: s, dirty: make(chan struct{}, 1), log: log}
	if dir != "" {
		st.path = filepath.Join(dir, storeName)
		if err := st.load(); err != nil {
			return nil, fmt.Errorf("read %s: %w; move it away to start anew", st.path, err)
		}
	}
	r.changed, s.changed = st.mark, st.mark
	return st, nil
}

func (st *store) load() error {
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
	return json.Unmarshal(data, &storeFile{Registry: st.registry, Shadows: st.shadows})
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
	data, err := json.Marshal(storeFile{storeVersion, st.registry, st.shadows})
	if err == nil {
		err = atomicfile.Write(st.path, data, 0o600)
	}
	if err != nil {
		st.log.Error("The registry cannot be saved; a restart will forget the latest changes.", zap.String("file", st.path), zap.Error(err))
	}
}
