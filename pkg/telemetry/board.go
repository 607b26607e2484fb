package telemetry

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// processorZones are the types of the thermal zone that is the processor's:
// the Raspberry Pi's and most other ARM boards', and the PC's.
var processorZones = [...]string{"cpu-thermal", "cpu_thermal", "soc-thermal", "x86_pkg_temp"}

// temperature reads the thermal zone of the processor, or where none is known
// to be its, the first.
func (s *System) temperature(values map[string]any) error {
	zones, err := filepath.Glob(filepath.Join(s.opts.SysFS, "class/thermal/thermal_zone[0-9]*"))
	if err != nil || len(zones) == 0 {
		return fs.ErrNotExist
	}
	zone := zones[0]
	for _, z := range zones {
		if kind, err := readLine(filepath.Join(z, "type")); err == nil && slices.Contains(processorZones[:], kind) {
			zone = z
			break
		}
	}
	text, err := readLine(filepath.Join(zone, "temp"))
	if err != nil {
		return fmt.Errorf("read the temperature: %w", err)
	}
	milli, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return fmt.Errorf("read the temperature: %w", err)
	}
	values["temperature_celsius"] = round(float64(milli)/1000, 1)
	return nil
}

// throttled reads the firmware's record: bit 0 low voltage now, 1 frequency
// capped, 2 throttled, 3 soft temperature limit; bits 16 to 19 the same since
// the start (Raspberry Pi documentation, vcgencmd get_throttled).
func (s *System) throttled(values map[string]any) error {
	text, err := readLine(filepath.Join(s.opts.SysFS, "devices/platform/soc/soc:firmware/get_throttled"))
	if err != nil {
		return fmt.Errorf("read the firmware's throttled field: %w", err)
	}
	bits, err := strconv.ParseUint(strings.TrimPrefix(text, "0x"), 16, 32)
	if err != nil {
		return fmt.Errorf("read the firmware's throttled field: %w", err)
	}
	values["throttled"] = bits
	return nil
}

func readLine(path string) (string, error) {
	data, err := os.ReadFile(path)
	return strings.TrimSpace(string(data)), err
}
