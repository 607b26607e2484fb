// Package version says which build this is. A release build is stamped by
// the Makefile through the linker; any other build (go run, go install) falls
// back to what the go command recorded from version control.
package version

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"
)

// Set by -ldflags "-X github.com/jitr-agent/jitr-agent/internal/version.NAME=…"
// and by nothing else; the linker can only set variables.
var (
	number string // "v1.2.3", as git describe has it
	commit string // abbreviated commit hash
	epoch  string // the commit's time, in seconds since 1970; SOURCE_DATE_EPOCH wins
)

// String is the line that `PROGRAM version` prints:
// "jitr-agent VERSION GOOS/GOARCH goX.Y COMMIT".
func String(program string) string {
	b := read()
	return fmt.Sprintf("%s %s %s/%s %s %s", program, b.number, runtime.GOOS, runtime.GOARCH, runtime.Version(), b.commit)
}

// Number is the version alone, such as "v1.2.3"; "devel" where it is unknown.
func Number() string { return read().number }

// BuildTime is the time of the commit this build was made from. The true time
// cannot be earlier, so it serves as a floor for the gateway's clock. It is
// the zero time where the build does not know.
func BuildTime() time.Time { return read().time }

type build struct {
	number, commit string
	time           time.Time
}

func read() build {
	info, _ := debug.ReadBuildInfo()
	return resolve(number, commit, epoch, info)
}

// resolve takes each fact from the linker's stamp, else from info, which may
// be nil.
func resolve(number, commit, epoch string, info *debug.BuildInfo) build {
	b := build{number: number, commit: commit}
	if s, err := strconv.ParseInt(epoch, 10, 64); err == nil {
		b.time = time.Unix(s, 0).UTC()
	}
	if info != nil {
		if b.number == "" && info.Main.Version != "(devel)" {
			b.number = info.Main.Version
		}
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				if b.commit == "" {
					b.commit = s.Value[:min(12, len(s.Value))]
				}
			case "vcs.time":
				if b.time.IsZero() {
					b.time, _ = time.Parse(time.RFC3339, s.Value) // unreadable leaves the zero time, "unknown"
				}
			}
		}
	}
	if b.number == "" {
		b.number = "devel"
	}
	if b.commit == "" {
		b.commit = "unknown"
	}
	return b
}
