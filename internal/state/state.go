// Package state is state.json: what the agent must still know after a power
// cut. Who accepted which certificate, whether the init was sent, how far the
// schedules are, and the earliest time it can be.
package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/atomicfile"
)

// version of the format. A file with a newer one is set aside, not read: it
// belongs to a newer agent that somebody may install again.
const version = 1

// File is the content of state.json.
type File struct {
	Version int `json:"version"`
	// Histories has what each endpoint thinks of each certificate, by Key.
	Histories map[string]History `json:"histories,omitempty"`
	// Steps is how far along each schedule we are since the last success.
	Steps map[string]int `json:"steps,omitempty"`
	// WaitingMS is the time since the first attempt after the last success.
	WaitingMS int64 `json:"waiting_ms,omitempty"`
	// ServerNotBefore is the latest start of validity of a server certificate
	// that was verified: it is not earlier than that.
	ServerNotBefore time.Time `json:"server_not_before,omitzero"`
	// Port443Host is the endpoint that was reached on port 443 only.
	Port443Host string `json:"port_443_host,omitempty"`
	// Totals since installation.
	Dropped     int64 `json:"dropped,omitempty"`
	Gaps        int64 `json:"gaps,omitempty"`
	DeadLetters int64 `json:"dead_letters,omitempty"`
}

// History is what one endpoint thinks of one certificate. Zero times are
// "not yet".
type History struct {
	AcceptedAt time.Time `json:"accepted_at,omitzero"`
	InitAt     time.Time `json:"init_at,omitzero"`
}

// Key is the key in Histories.
func Key(certificateID, host string) string { return certificateID + "@" + host }

// Store is the file and its content in memory. It is safe for concurrent use.
type Store struct {
	path string

	mu      sync.Mutex
	file    File
	written []byte // what is on disk, nil where that is not known
}

// Read gives the content of path, which another process may own. A missing
// file is an empty one.
func Read(path string) (File, error) {
	f, _, err := read(path)
	return f, err
}

func read(path string) (f File, data []byte, err error) {
	data, err = os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return File{}, nil, nil
	case err != nil:
		return File{}, nil, err
	}
	err = json.Unmarshal(data, &f)
	switch {
	case err != nil:
	case f.Version > version:
		err = fmt.Errorf("it has version %d, and this program knows up to %d", f.Version, version)
	case f.Version < 1:
		err = errors.New("it has no version")
	}
	if err != nil {
		return File{}, nil, err
	}
	return f, data, nil
}

// Open reads path. A missing file is an empty one. One that cannot be read or
// used, or is of a newer version, is set aside as path.bad: the store is then
// empty and setAside says why and where. err is for what cannot be helped: the
// agent must not overwrite what it could not set aside.
func Open(path string) (store *Store, setAside, err error) {
	f, data, useless := read(path)
	if useless == nil {
		return &Store{path: path, file: f, written: data}, nil, nil
	}
	bad, err := freeName(path + ".bad")
	if err != nil {
		return nil, nil, err
	}
	if err := atomicfile.Rename(path, bad); err != nil {
		return nil, nil, fmt.Errorf("set aside %s: %w", path, err)
	}
	return &Store{path: path}, fmt.Errorf("%s cannot be used (%w) and was moved to %s", path, useless, bad), nil
}

// freeName is name, or where that is taken name.2, name.3, …: what was set
// aside is never overwritten.
func freeName(name string) (string, error) {
	for i := 1; ; i++ {
		candidate := name
		if i > 1 {
			candidate += "." + strconv.Itoa(i)
		}
		_, err := os.Lstat(candidate)
		if errors.Is(err, fs.ErrNotExist) {
			return candidate, nil
		}
		if err != nil {
			return "", err
		}
	}
}

// Get is the content, for reading.
func (s *Store) Get() File {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.file.clone()
}

// Change edits the content in memory; Save writes it. The function must not
// call the store.
func (s *Store) Change(edit func(*File)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	edit(&s.file)
}

// Save writes the content where it differs from what is on disk, and returns
// when it is safe there. On an error the content stays in memory, to be
// written by the next Save.
func (s *Store) Save() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.file.Version = version
	data, err := json.MarshalIndent(s.file, "", "  ")
	if err != nil {
		return err
	}
	data = append(data, '\n')
	if bytes.Equal(data, s.written) {
		return nil
	}
	if err := atomicfile.Write(s.path, data, 0o600); err != nil {
		return err
	}
	s.written = data
	return nil
}

func (f File) clone() File {
	f.Histories = maps.Clone(f.Histories)
	f.Steps = maps.Clone(f.Steps)
	return f
}
