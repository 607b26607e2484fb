package settings

import (
	"bytes"
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2/unstable"
)

// utf8BOM is what some editors put in front of a text.
const utf8BOM = "\xef\xbb\xbf"

// loadFile sets what the TOML document says, and returns all that is wrong
// with it in the order of the file.
//
// It walks the syntax tree itself, because toml.Unmarshal stops at the first
// wrong value.
func loadFile(s *Settings, path string, data []byte) []Problem {
	l := loader{
		path:   path,
		data:   data,
		fields: s.fields(),
		tables: map[string]table{},
		keys:   map[string]int{},
	}
	if bytes.HasPrefix(data, []byte(utf8BOM)) {
		l.start = len(utf8BOM)
	}
	l.run()
	sortProblems(l.problems)
	return l.problems
}

// loader is the state of reading one file. Offsets are bytes from its start.
type loader struct {
	path   string
	data   []byte
	fields []field

	parser unstable.Parser
	start  int // where the text begins that the parser has
	done   int // the end of the line that the last good expression ends in

	header string           // the table that keys now belong to; empty before the first [table]
	lost   bool             // the last [table] is wrong: the keys after it belong nowhere
	tables map[string]table // those that were opened
	keys   map[string]int   // the offset of each key that was set

	problems []Problem
}

// run parses expression by expression. After a syntax error it goes on with
// the next line, so that one typing error does not hide the others; but not
// from inside a value of several lines, the rest of which would all be wrong.
func (l *loader) run() {
	for {
		l.parser.Reset(l.data[l.start:])
		l.done = l.start
		for l.parser.NextExpression() {
			l.done = l.lineEnd(l.expression(l.parser.Expression()))
		}
		err := l.parser.Error()
		if err == nil {
			return
		}
		at := l.syntaxError(err)
		lines := bytes.Split(l.data[l.done:at], []byte("\n"))
		last := bytes.TrimSpace(lines[len(lines)-1])
		end := l.lineEnd(at)
		if end == len(l.data) || hasText(lines[:len(lines)-1]) {
			return
		}
		l.lost = l.lost || bytes.HasPrefix(last, []byte("["))
		l.start = end + 1
	}
}

// syntaxError records the parser's error and returns its offset.
func (l *loader) syntaxError(err error) int {
	at := l.done
	if perr, ok := errors.AsType[*unstable.ParserError](err); ok {
		at = l.offset(l.parser.Range(perr.Highlight))
	}
	if l.isBareWord(at) {
		l.fail(at, "this is not a value; a string must be in quotes")
	} else {
		l.fail(at, "%s", err.Error())
	}
	return at
}

// isBareWord tells whether a value begins at the offset, and with a letter:
// the usual slip of those who know other formats.
func (l *loader) isBareWord(at int) bool {
	r, _ := utf8.DecodeRune(l.data[at:])
	return unicode.IsLetter(r) && bytes.HasSuffix(bytes.TrimRight(l.data[:at], " \t"), []byte("="))
}

// hasText tells whether a line is anything but blank or a comment.
func hasText(lines [][]byte) bool {
	for _, line := range lines {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			return true
		}
	}
	return false
}

// offset is where a range of the parser's text begins.
func (l *loader) offset(r unstable.Range) int { return l.start + int(r.Offset) }

// fail records a problem at an offset.
func (l *loader) fail(at int, format string, args ...any) {
	line, column := position(l.data, at)
	l.problems = append(l.problems, Problem{Path: l.path, Line: line, Column: column, Message: fmt.Sprintf(format, args...)})
}

// position counts lines, and characters in the line, from 1, as editors do.
func position(data []byte, at int) (line, column int) {
	before := data[:at]
	begin := bytes.LastIndexByte(before, '\n') + 1
	text := before[begin:]
	if begin == 0 {
		text = bytes.TrimPrefix(text, []byte(utf8BOM))
	}
	return bytes.Count(before, []byte("\n")) + 1, utf8.RuneCount(text) + 1
}

// lineEnd is the end of the line that holds an offset.
func (l *loader) lineEnd(at int) int {
	if i := bytes.IndexByte(l.data[at:], '\n'); i >= 0 {
		return at + i
	}
	return len(l.data)
}

// line is the number of the line that holds an offset.
func (l *loader) line(at int) int {
	line, _ := position(l.data, at)
	return line
}
