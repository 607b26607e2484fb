package identity

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Volatile says whether the state directory is gone after a restart, and why;
// nil where it lasts, and where that cannot be told. It is gone on tmpfs and
// ramfs, and on an overlay whose writes go there: that is how raspi-config's
// "Overlay File System" makes a read-only system. An overlay alone says
// nothing, every container has one.
//
// A state directory below the temporary directory is somebody's experiment and
// not judged.
func Volatile(opts Options) *Warning {
	dir := resolved(opts.StateDir)
	if below(dir, resolved(os.TempDir())) {
		return nil
	}
	why := mountsOf(opts.Root).volatile(dir)
	if why == "" {
		return nil
	}
	return &Warning{WarnVolatile, opts.StateDir, why}
}

// resolved is the absolute path without symbolic links, as far as it exists.
func resolved(path string) string {
	path, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	if parent := filepath.Dir(path); parent != path {
		return filepath.Join(resolved(parent), filepath.Base(path))
	}
	return path
}

func below(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// mounts is what /proc says of the file systems.
type mounts struct {
	all         []mount // a later one covers an earlier one at the same point
	overlayBoot bool    // the kernel was told to put an overlay over its root
}

type mount struct {
	point, kind string
	upper       string // of an overlay: where its writes go
}

// mountsOf reads /proc; what cannot be read is empty.
func mountsOf(root string) (m mounts) {
	proc := filepath.Join(rooted(root), "proc")
	if cmdline, err := os.ReadFile(filepath.Join(proc, "cmdline")); err == nil {
		for word := range strings.FieldsSeq(string(cmdline)) {
			// The initramfs script of raspi-config, and the package overlayroot,
			// which it uses in later releases.
			m.overlayBoot = m.overlayBoot || word == "boot=overlay" || strings.HasPrefix(word, "overlayroot=tmpfs")
		}
	}
	info, err := os.ReadFile(filepath.Join(proc, "self/mountinfo"))
	if err != nil {
		return m
	}
	for line := range strings.Lines(string(info)) {
		if one, ok := parseMount(line); ok {
			m.all = append(m.all, one)
		}
	}
	return m
}

// parseMount reads a line of mountinfo (proc_pid_mountinfo(5)).
func parseMount(line string) (m mount, ok bool) {
	fields := strings.Fields(line)
	dash := slices.Index(fields, "-") // it ends the optional fields
	if dash < 6 || len(fields) < dash+4 {
		return m, false
	}
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	m.point, m.kind = unescape.Replace(fields[4]), fields[dash+1]
	if m.kind == "overlay" {
		for option := range strings.SplitSeq(fields[dash+3], ",") {
			if upper, is := strings.CutPrefix(option, "upperdir="); is {
				m.upper = unescape.Replace(upper)
			}
		}
	}
	return m, true
}

// at is the file system that a path lies on.
func (m mounts) at(path string) (found mount) {
	for _, one := range m.all {
		if below(path, one.point) && len(one.point) >= len(found.point) {
			found = one
		}
	}
	return found
}

// volatile says why what is written at path does not last; "" where it does.
func (m mounts) volatile(path string) string {
	on := m.at(path)
	switch on.kind {
	case "tmpfs", "ramfs":
		return "it is in memory (" + on.kind + " at " + on.point + ")"
	case "overlay":
		// Where the overlay was mounted by the initramfs or outside a
		// container, its upper directory is not to be seen from here, and the
		// path leads to the overlay itself.
		upper := m.at(on.upper)
		if upper.kind == "tmpfs" || upper.kind == "ramfs" || m.overlayBoot && on.point == "/" && upper == on {
			return "the overlay at " + on.point + " keeps what is written in memory"
		}
	}
	return ""
}
