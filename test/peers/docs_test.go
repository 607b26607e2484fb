package peers

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/test/rig"
)

// shBlock is a fenced block marked sh.
var shBlock = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")

// TestEmulatorPage runs docs/emulator.md: all its sh blocks in their order, as
// one script, on ports of its own.
func TestEmulatorPage(t *testing.T) {
	t.Parallel()
	need(t, "curl", "curl")
	var script strings.Builder
	for _, block := range shBlock.FindAllStringSubmatch(read(t, "../../docs/emulator.md"), -1) {
		script.WriteString(block[1])
	}
	dir := rig.TempDir(t)
	if err := os.Symlink(filepath.Dir(rig.Bin(t, "jitr-agent")), filepath.Join(dir, "bin")); err != nil {
		t.Fatal(err)
	}
	mqtt, api := rig.FreePort(t), rig.FreePort(t)
	flags := "--dir sim --mqtt 127.0.0.1:8883 --api 127.0.0.1:8080"
	page := strings.NewReplacer("--dir sim", flags).Replace(script.String())
	page = strings.NewReplacer("8883", mqtt, "8080", api).Replace(page)
	// Whatever fails, nothing may stay behind.
	cmd := exec.CommandContext(t.Context(), "timeout", "60", "bash", "-euxo", "pipefail", "-c", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n"+page)
	cmd.WaitDelay = time.Minute
	cmd.Dir, cmd.Env = dir, rig.Environ()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := contains(string(out), "Error: The connection was lost.", `"status":"ACTIVE"`, `"outcome":"registered"`, `"outcome":"accepted"`); err != nil {
		t.Error(err)
	}
}
