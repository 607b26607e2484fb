// Package logs is the part of Amazon CloudWatch Logs that shows what a Lambda
// function said: log groups with a retention, their streams and events.
//
// The events are files, DIR/GROUP/STREAM.jsonl, so that they survive a
// restart and can be read without the API. Retention is kept as a setting;
// nothing is deleted because of it.
package logs

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/iotcore/awsapi"
)

// Service is the log groups of one account and Region. It is safe for
// concurrent use.
type Service struct {
	place   awsapi.Place
	dir     string
	changed func()

	mu     sync.Mutex
	groups map[string]*group
}

type group struct {
	Name      string            `json:"name"`
	CreatedAt time.Time         `json:"createdAt"`
	Retention int               `json:"retention,omitempty"` // days; 0: for ever
	Tags      map[string]string `json:"tags,omitempty"`
}

// Event is one line of a log.
type Event struct {
	At      int64  `json:"timestamp"` // ms since 1970
	Message string `json:"message"`
	Stream  string `json:"-"`
}

// New makes an account without log groups whose events are in dir. changed is
// told of every change that a restart has to remember; it must neither block
// nor call back.
func New(place awsapi.Place, dir string, changed func()) *Service {
	return &Service{place: place, dir: dir, changed: changed, groups: map[string]*group{}}
}

// ARN is the ARN of a log group.
func (s *Service) ARN(group string) string { return s.place.ARN("logs", "log-group:"+group) }

// Exists says whether there is such a group.
func (s *Service) Exists(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.groups[name]
	return ok
}

// validName is what CreateLogGroup takes, as the API reference has it.
var validName = regexp.MustCompile(`^[\w.\-/#]{1,512}$`)

// Create makes a group. A group comes to exist only here, so that no other
// function has to fear a name that leads out of Service.dir.
func (s *Service) Create(name string, tags map[string]string) error {
	if !validName.MatchString(name) || name == "." || name == ".." { // these two are ours: the group is a folder
		return invalid("1 validation error detected: Value '%s' at 'logGroupName' failed to satisfy constraint", name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.groups[name]; ok {
		return awsapi.Refuse(http.StatusBadRequest, "ResourceAlreadyExistsException", "The specified log group already exists")
	}
	s.groups[name] = &group{Name: name, CreatedAt: time.Now(), Tags: tags}
	s.changed()
	return nil
}

// Put appends to a stream, which comes to exist with its first event.
func (s *Service) Put(groupName, stream string, events ...Event) error {
	var lines bytes.Buffer
	encoder := json.NewEncoder(&lines)
	for _, e := range events {
		if err := encoder.Encode(e); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.groups[groupName]; !ok {
		return noGroup()
	}
	dir := s.groupDir(groupName)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, url.PathEscape(stream)+suffix), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(lines.Bytes())
	return errors.Join(err, f.Close())
}

const suffix = ".jsonl"

func (s *Service) groupDir(name string) string { return filepath.Join(s.dir, url.PathEscape(name)) }

func noGroup() error {
	return awsapi.Refuse(http.StatusBadRequest, "ResourceNotFoundException", "The specified log group does not exist.")
}

// streams are the names of a group's streams. The caller holds s.mu.
func (s *Service) streams(groupName string) ([]string, error) {
	if _, ok := s.groups[groupName]; !ok {
		return nil, noGroup()
	}
	files, err := os.ReadDir(s.groupDir(groupName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, f := range files {
		if name, ok := strings.CutSuffix(f.Name(), suffix); ok {
			if plain, err := url.PathUnescape(name); err == nil {
				names = append(names, plain)
			}
		}
	}
	return names, err
}

// events reads a stream. The caller holds s.mu.
func (s *Service) events(groupName, stream string) ([]Event, error) {
	data, err := os.ReadFile(filepath.Join(s.groupDir(groupName), url.PathEscape(stream)+suffix))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, awsapi.Refuse(http.StatusBadRequest, "ResourceNotFoundException", "The specified log stream does not exist.")
	}
	if err != nil {
		return nil, err
	}
	var out []Event
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		e := Event{Stream: stream}
		if json.Unmarshal(lines.Bytes(), &e) == nil { // a torn last line is lost
			out = append(out, e)
		}
	}
	return out, lines.Err()
}

// Events are all events of a group between two times, oldest first. A zero
// time is no bound.
func (s *Service) Events(groupName string, from, to time.Time) ([]Event, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	names, err := s.streams(groupName)
	if err != nil {
		return nil, err
	}
	var out []Event
	for _, name := range names {
		events, err := s.events(groupName, name)
		if err != nil {
			return nil, err
		}
		out = append(out, events...)
	}
	out = slices.DeleteFunc(out, func(e Event) bool {
		return !from.IsZero() && e.At < from.UnixMilli() || !to.IsZero() && e.At >= to.UnixMilli()
	})
	slices.SortStableFunc(out, func(x, y Event) int { return int(min(max(x.At-y.At, -1), 1)) })
	return out, nil
}

// MarshalJSON is the groups, for the store; the events have files of their own.
func (s *Service) MarshalJSON() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return json.Marshal(s.groups)
}

// UnmarshalJSON replaces the groups by stored ones.
func (s *Service) UnmarshalJSON(data []byte) error {
	groups := map[string]*group{}
	if err := json.Unmarshal(data, &groups); err != nil {
		return err
	}
	s.mu.Lock()
	s.groups = groups
	s.mu.Unlock()
	return nil
}
