// Package service proves the unit, the Debian package and what the agent tells
// systemd and journald, in a real systemd: each test boots a Debian 12 as a
// container, which takes about a second. The judges are systemctl, journalctl,
// dpkg and the emulator's registry.
//
// What a container cannot show: the TPM's device node and its udev rule, and
// DeviceAllow= on a machine with control groups of version 1.
package service

import (
	"os"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/test/rig"
)

func TestMain(m *testing.M) { rig.Main(m) }

// soon is enough for what needs no waiting in the agent, on a busy machine.
const soon = 15 * time.Second

// needRoot skips a test that boots a container where that is not possible.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a container can only be booted by root")
	}
}
