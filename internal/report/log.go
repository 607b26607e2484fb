package report

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/coreos/go-systemd/v22/journal"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Log is the program's logger, whose format can be changed while it is used.
type Log struct {
	*zap.Logger
	core   *switched
	level  zap.AtomicLevel
	stderr zapcore.WriteSyncer
}

// NewLog makes the logger. format is a log.format of the configuration: journal
// (journald's own protocol, with fields), console (whole sentences, no fields)
// or json; auto is journal where systemd connected stderr to the journal, else
// console. level can be changed while it is used.
func NewLog(format string, level zap.AtomicLevel, stderr io.Writer) *Log {
	l := &Log{core: &switched{}, level: level, stderr: zapcore.Lock(zapcore.AddSync(stderr))}
	l.SetFormat(format)
	l.Logger = zap.New(l.core)
	return l
}

// SetFormat changes the format. It is safe for concurrent use.
func (l *Log) SetFormat(format string) {
	core := coreFor(format, l.level, l.stderr)
	l.core.now.Store(&core)
}

func coreFor(format string, level zapcore.LevelEnabler, sink zapcore.WriteSyncer) zapcore.Core {
	if format == "auto" {
		format = "console"
		if underJournal() {
			format = "journal"
		}
	}
	encoding := zapcore.EncoderConfig{
		TimeKey: "time", LevelKey: "level", NameKey: "logger", MessageKey: "message",
		EncodeTime:     zapcore.TimeEncoderOfLayout(timeFormat),
		EncodeLevel:    zapcore.LowercaseLevelEncoder,
		EncodeDuration: zapcore.StringDurationEncoder,
		LineEnding:     zapcore.DefaultLineEnding,
	}
	switch format {
	case "journal":
		return &journalCore{LevelEnabler: level, fallback: sink}
	case "json":
		return zapcore.NewCore(zapcore.NewJSONEncoder(encoding), sink, level)
	default:
		encoding.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05")
		encoding.EncodeLevel = func(l zapcore.Level, enc zapcore.PrimitiveArrayEncoder) {
			enc.AppendString(fmt.Sprintf("%-5s", l.String()))
		}
		encoding.NameKey = ""
		encoding.ConsoleSeparator = "  "
		return sentences{zapcore.NewCore(zapcore.NewConsoleEncoder(encoding), sink, level)}
	}
}

// switched is a core that can be exchanged.
type switched struct{ now atomic.Pointer[zapcore.Core] }

func (s *switched) core() zapcore.Core { return *s.now.Load() }

func (s *switched) Enabled(l zapcore.Level) bool                   { return s.core().Enabled(l) }
func (s *switched) With(fields []zapcore.Field) zapcore.Core       { return s.core().With(fields) }
func (s *switched) Write(e zapcore.Entry, f []zapcore.Field) error { return s.core().Write(e, f) }
func (s *switched) Sync() error                                    { return s.core().Sync() }

func (s *switched) Check(e zapcore.Entry, c *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	return s.core().Check(e, c)
}

// underJournal compares stderr with what systemd says it connected
// (systemd.exec(5), JOURNAL_STREAM).
func underJournal() bool {
	var st syscall.Stat_t
	if syscall.Fstat(int(os.Stderr.Fd()), &st) != nil {
		return false
	}
	return os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// sentences leaves the fields out: what a person must know is in the sentence.
// At debug level they stay.
type sentences struct{ zapcore.Core }

func (s sentences) With([]zapcore.Field) zapcore.Core { return s }

func (s sentences) Check(e zapcore.Entry, c *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if s.Enabled(e.Level) {
		return c.AddCore(e, s)
	}
	return c
}

func (s sentences) Write(e zapcore.Entry, fields []zapcore.Field) error {
	if e.Level > zapcore.DebugLevel {
		fields = nil
	}
	return s.Core.Write(e, fields)
}

// journalCore sends entries to journald, each field as JITR_NAME.
type journalCore struct {
	zapcore.LevelEnabler
	fields   []zapcore.Field
	fallback io.Writer // for when journald cannot be reached
}

func (c *journalCore) With(fields []zapcore.Field) zapcore.Core {
	clone := *c
	clone.fields = append(slices.Clip(clone.fields), fields...)
	return &clone
}

func (c *journalCore) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return checked.AddCore(e, c)
	}
	return checked
}

func (c *journalCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	if err := journal.Send(e.Message, priority(e.Level), c.variables(fields)); err != nil {
		_, err = fmt.Fprintf(c.fallback, "<%d>%s\n", priority(e.Level), e.Message)
		return err
	}
	return nil
}

// variables names the journal fields of an entry.
func (c *journalCore) variables(fields []zapcore.Field) map[string]string {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range c.fields {
		f.AddTo(enc)
	}
	for _, f := range fields {
		f.AddTo(enc)
	}
	vars := map[string]string{"SYSLOG_IDENTIFIER": "jitr-agent"}
	for k, v := range enc.Fields {
		name := "JITR_" + strings.ToUpper(k)
		if k == messageIDKey {
			name = "MESSAGE_ID"
		}
		vars[name] = fmt.Sprint(v)
	}
	return vars
}

func (c *journalCore) Sync() error { return nil }

func priority(l zapcore.Level) journal.Priority {
	switch {
	case l <= zapcore.DebugLevel:
		return journal.PriDebug
	case l == zapcore.InfoLevel:
		return journal.PriInfo
	case l == zapcore.WarnLevel:
		return journal.PriWarning
	default:
		return journal.PriErr
	}
}
