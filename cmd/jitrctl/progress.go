package main

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// longBatch is from how many requests on a batch shows its progress: a
// thousand take about a second.
const longBatch = 1000

// progress tells on w how far a long batch is: on a terminal by one line that
// changes, elsewhere by one line for each tenth.
func progress(w io.Writer, total int) (step func(done int), clear func()) {
	if total < longBatch {
		return func(int) {}, func() {}
	}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return func(done int) { fmt.Fprintf(w, "\r%d of %d requests, %d %%", done, total, 100*done/total) },
			func() { fmt.Fprint(w, "\r\x1b[K") }
	}
	tenth := 0
	return func(done int) {
		if now := 10 * done / total; now > tenth {
			tenth = now
			fmt.Fprintf(w, "%d of %d requests, %d %%\n", done, total, 10*tenth)
		}
	}, func() {}
}
