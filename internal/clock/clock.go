// Package clock is what the agent knows about time on a gateway whose wall
// clock may be decades off: a clock that never steps, the id of this boot,
// whether somebody set the wall clock, and the earliest time it can be.
package clock

import (
	"bytes"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Boot is the time since the machine started, suspends included
// (CLOCK_BOOTTIME). It never steps.
func Boot() time.Duration {
	var ts unix.Timespec
	// The only error is EINVAL, for a kernel before 2.6.39.
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return time.Duration(ts.Nano())
}

// BootID is the kernel's random id of this boot, "" where /proc is absent.
func BootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(id))
}

// Synchronized says whether the kernel holds the wall clock to be
// synchronized with a time server. It is false where that cannot be told.
func Synchronized() bool {
	// A read-only adjtimex needs no privilege. Under a system call filter it
	// fails, and the file that systemd-timesyncd keeps is the second source.
	var tx unix.Timex
	if state, err := unix.Adjtimex(&tx); err == nil {
		return state != unix.TIME_ERROR && tx.Status&unix.STA_UNSYNC == 0
	}
	_, err := os.Stat("/run/systemd/timesync/synchronized")
	return err == nil
}

// Floor is the latest of times that are certainly past: when this program was
// built, a day before the device certificate was issued (CAs backdate, and
// their clocks differ), and when a server certificate that was verified
// became valid. A wall clock below it is wrong. A reading of the wall clock is
// never part of it: one wrong reading would keep a gateway silent for years.
func Floor(built, deviceNotBefore, serverNotBefore time.Time) time.Time {
	floor := built
	if !deviceNotBefore.IsZero() {
		floor = later(floor, deviceNotBefore.Add(-24*time.Hour))
	}
	return later(floor, serverNotBefore)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
