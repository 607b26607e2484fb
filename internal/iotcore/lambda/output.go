package lambda

import (
	"bytes"
	"crypto/rand"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/jitr-agent/jitr-agent/internal/iotcore/logs"
)

// logWriter takes what a process writes to the function's log group, line by
// line. Where the role does not allow it, it goes nowhere, as at AWS.
type logWriter struct {
	logs          *logs.Service
	group, stream string
	allowed       bool
	log           *zap.Logger

	mu   sync.Mutex
	rest []byte // a line without its end
}

// maxLine is where a line without an end is cut.
const maxLine = 256 << 10

func (s *Service) newLogWriter(f function) *logWriter {
	w := &logWriter{
		logs: s.Logs, group: f.LogGroup, log: s.Log,
		stream: time.Now().UTC().Format("2006/01/02") + "/[$LATEST]" + rand.Text(),
	}
	for _, action := range []string{"logs:CreateLogStream", "logs:PutLogEvents"} {
		if err := s.IAM.RoleMay(f.Role, f.Name, action, s.Logs.ARN(f.LogGroup)+":log-stream:"+w.stream); err != nil {
			s.Log.Warn("The function's log is lost: its role does not allow it.", zap.String("function", f.Name), zap.Error(err))
			return w
		}
	}
	if !s.Logs.Exists(f.LogGroup) {
		err := s.IAM.RoleMay(f.Role, f.Name, "logs:CreateLogGroup", s.Logs.ARN(f.LogGroup)+":log-stream:")
		if err == nil {
			err = s.Logs.Create(f.LogGroup, nil)
		}
		if err != nil && !s.Logs.Exists(f.LogGroup) { // another instance can be faster
			s.Log.Warn("The function's log is lost: its log group does not exist.", zap.String("function", f.Name), zap.Error(err))
			return w
		}
	}
	w.allowed = true
	return w
}

// Write never fails: a full disk must not end the function.
func (w *logWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest = append(w.rest, p...)
	now := time.Now().UnixMilli()
	var events []logs.Event
	for {
		line, rest, ok := bytes.Cut(w.rest, []byte{'\n'})
		if !ok && len(w.rest) < maxLine {
			break
		}
		if len(line) > 0 {
			events = append(events, logs.Event{At: now, Message: string(line)})
		}
		w.rest = append([]byte{}, rest...)
	}
	w.put(events)
	return len(p), nil
}

// flush writes a last line that has no end.
func (w *logWriter) flush() {
	w.mu.Lock()
	rest := string(w.rest)
	w.rest = nil
	w.mu.Unlock()
	if rest != "" {
		w.line(rest)
	}
}

// line writes a line of Lambda's own.
func (w *logWriter) line(text string) {
	w.put([]logs.Event{{At: time.Now().UnixMilli(), Message: text}})
}

func (w *logWriter) put(events []logs.Event) {
	if len(events) == 0 || !w.allowed {
		return
	}
	if err := w.logs.Put(w.group, w.stream, events...); err != nil {
		w.log.Warn("The function's log is lost.", zap.String("group", w.group), zap.Error(err))
	}
}
