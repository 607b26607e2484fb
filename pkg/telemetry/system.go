package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"sync"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"github.com/jitr-agent/jitr-agent/internal/clock"
)

// SystemOptions says where System reads. The zero value of each is the default.
type SystemOptions struct {
	ProcFS   string               // the mounted proc; "/proc"
	SysFS    string               // the mounted sys; "/sys"
	StateDir string               // the directory whose file system is measured; empty: none
	BootTime func() time.Duration // the uptime; CLOCK_BOOTTIME
}

// System measures the gateway itself: load, processor, memory, disk,
// temperature, and the Raspberry Pi firmware's record of low voltage and heat.
// It is safe for concurrent use.
type System struct {
	opts SystemOptions

	mu  sync.Mutex
	cpu *procfs.CPUStat // the sample before this one
}

// NewSystem makes the source "system".
func NewSystem(opts SystemOptions) *System {
	if opts.ProcFS == "" {
		opts.ProcFS = procfs.DefaultMountPoint
	}
	if opts.SysFS == "" {
		opts.SysFS = "/sys"
	}
	if opts.BootTime == nil {
		opts.BootTime = clock.Boot
	}
	return &System{opts: opts}
}

// Name is "system".
func (s *System) Name() string { return "system" }

// Measure gives
//
//	uptime_ms                               since the kernel started
//	load_1m load_5m                         as /proc/loadavg has them
//	cpu_percent                             of all processors, since the call before; absent in the first
//	memory_total_bytes memory_available_bytes
//	disk_total_bytes disk_free_bytes        of the state directory; free for those who are not root
//	temperature_celsius                     of the processor
//	throttled                               the Pi firmware's bit field
//
// What this gateway does not have is absent. What it has and what could not be
// read is absent too, and named in the error, beside which the other values
// are good.
func (s *System) Measure(context.Context) (map[string]any, error) {
	values := map[string]any{"uptime_ms": s.opts.BootTime().Milliseconds()}
	var errs []error
	for _, measure := range []func(map[string]any) error{
		s.load, s.memory, s.processor, s.disk, s.temperature, s.throttled,
	} {
		if err := measure(values); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return values, errors.Join(errs...)
}

func (s *System) load(values map[string]any) error {
	proc, err := procfs.NewFS(s.opts.ProcFS)
	if err != nil {
		return fmt.Errorf("read the load: %w", err)
	}
	load, err := proc.LoadAvg()
	if err != nil {
		return fmt.Errorf("read the load: %w", err)
	}
	values["load_1m"], values["load_5m"] = load.Load1, load.Load5
	return nil
}

func (s *System) memory(values map[string]any) error {
	proc, err := procfs.NewFS(s.opts.ProcFS)
	if err != nil {
		return fmt.Errorf("read the memory: %w", err)
	}
	mem, err := proc.Meminfo()
	if err != nil {
		return fmt.Errorf("read the memory: %w", err)
	}
	put(values, "memory_total_bytes", mem.MemTotalBytes)
	put(values, "memory_available_bytes", mem.MemAvailableBytes)
	return nil
}

func put(values map[string]any, name string, v *uint64) {
	if v != nil {
		values[name] = *v
	}
}

func (s *System) processor(values map[string]any) error {
	proc, err := procfs.NewFS(s.opts.ProcFS)
	if err != nil {
		return fmt.Errorf("read the processor's times: %w", err)
	}
	stat, err := proc.Stat()
	if err != nil {
		return fmt.Errorf("read the processor's times: %w", err)
	}
	if percent, ok := s.cpuPercent(stat.CPUTotal); ok {
		values["cpu_percent"] = percent
	}
	return nil
}

// cpuPercent is the share of time that the processors worked since the sample
// before. Guest time is part of user time already. Iowait may run backwards
// (proc(5)), hence the clamp.
func (s *System) cpuPercent(now procfs.CPUStat) (float64, bool) {
	s.mu.Lock()
	before := s.cpu
	s.cpu = &now
	s.mu.Unlock()
	if before == nil {
		return 0, false
	}
	idle := func(c procfs.CPUStat) float64 { return c.Idle + c.Iowait }
	all := func(c procfs.CPUStat) float64 {
		return idle(c) + c.User + c.Nice + c.System + c.IRQ + c.SoftIRQ + c.Steal
	}
	total := all(now) - all(*before)
	if total <= 0 {
		return 0, false // two samples within one tick
	}
	busy := 1 - (idle(now)-idle(*before))/total
	return round(100*min(max(busy, 0), 1), 1), true
}

// disk measures the file system of the state directory.
func (s *System) disk(values map[string]any) error {
	if s.opts.StateDir == "" {
		return nil
	}
	var st unix.Statfs_t
	if err := unix.Statfs(s.opts.StateDir, &st); err != nil {
		return fmt.Errorf("statfs %s: %w", s.opts.StateDir, err)
	}
	unit := uint64(st.Frsize) // what the counts are in, statfs(2); old kernels leave it 0
	if unit == 0 {
		unit = uint64(st.Bsize)
	}
	values["disk_total_bytes"] = st.Blocks * unit
	values["disk_free_bytes"] = st.Bavail * unit
	return nil
}

func round(v float64, digits int) float64 {
	unit := math.Pow10(digits)
	return math.Round(v*unit) / unit
}
