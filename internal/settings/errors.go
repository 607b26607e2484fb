package settings

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrNoEndpoint is HostPort's answer to an empty endpoint.
var ErrNoEndpoint = errors.New("cloud.endpoint is empty")

// Error is everything that is wrong with a configuration. It wraps the error
// of the file system where the file could not be read, so that a missing file
// is errors.Is(err, fs.ErrNotExist).
type Error struct {
	Problems []Problem // those of the file in its order, then those of the environment; never empty
	cause    error
}

// Error is one line for each problem.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Unwrap is the error of reading the file, or nil.
func (e *Error) Unwrap() error { return e.cause }

// Problem is one thing that is wrong.
type Problem struct {
	Path         string // the file, or "environment"
	Line, Column int    // from 1, the column in characters; 0 where there is no place
	Message      string
}

// String is the problem as one line, PATH:LINE:COLUMN: MESSAGE.
func (p Problem) String() string {
	if p.Line == 0 {
		return fmt.Sprintf("%s: %s", p.Path, p.Message)
	}
	return fmt.Sprintf("%s:%d:%d: %s", p.Path, p.Line, p.Column, p.Message)
}

func sortProblems(all []Problem) {
	slices.SortStableFunc(all, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}
