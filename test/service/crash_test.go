package service

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/test/rig"
)

// A process that does not get on is killed and started again; one that is fed
// no signal at all, like a gateway that waits for months, is not.
func TestWatchdog(t *testing.T) {
	t.Parallel()
	b := boot(t, privateNetwork)
	b.dpkg(deb(t))
	if got := b.property("WatchdogUSec"); got != "1min" {
		t.Errorf("the watchdog is set to %s", got)
	}
	b.dropIn("[Service]", "WatchdogSec=2", "TimeoutAbortSec=1", "RestartSec=100ms")
	b.run("systemctl", "restart", "jitr-agent.service")
	b.await("waiting-for-configuration")
	pid := b.property("MainPID")
	rig.Throughout(t, 5*time.Second, func() error { // more than two limits
		if got := b.property("MainPID"); got != pid {
			return fmt.Errorf("a service that only waits was restarted: %s, then %s", pid, got)
		}
		return nil
	})
	b.kill(syscall.SIGSTOP)
	rig.Eventually(t, soon, func() error {
		if got := b.property("MainPID"); got == pid || got == "0" {
			return fmt.Errorf("the stopped process %s was not replaced: %s", pid, got)
		}
		return nil
	})
	b.await("waiting-for-configuration")
	if log := b.run("journalctl", "--no-pager", "--unit=jitr-agent.service"); !strings.Contains(log, "Watchdog timeout") {
		t.Errorf("it was not the watchdog:\n%s", log)
	}
}

// A wrong configuration ends it for good, until somebody repairs it: a restart
// would fail in the same way. Every other end is followed by a restart.
func TestRestart(t *testing.T) {
	t.Parallel()
	b := boot(t, privateNetwork)
	b.dpkg(deb(t))
	b.await("waiting-for-configuration")
	if got := b.property("RestartUSec"); got != "10s" {
		t.Errorf("the restart comes after %s", got)
	}
	b.dropIn("[Service]", "RestartSec=100ms")
	b.run("systemctl", "restart", "jitr-agent.service")
	b.await("waiting-for-configuration")

	// More often than the default StartLimitBurst= of 5 in 10 s.
	for n := 1; n <= 7; n++ {
		b.kill(syscall.SIGKILL)
		b.awaitProperty(soon, "NRestarts", fmt.Sprint(n))
		b.awaitProperty(soon, "ActiveState", "active")
	}

	// What is running survives a broken file, and says that it is broken.
	b.configure(`cloud.endpoint = "cloud.test"`, `clout.endpoint = "cloud.test"`)
	pid := b.property("MainPID")
	b.run("systemctl", "reload", "jitr-agent.service")
	rig.Eventually(t, soon, func() error {
		for _, e := range b.journal() {
			if message, _ := e["MESSAGE"].(string); strings.Contains(message, "clout") {
				return nil
			}
		}
		return fmt.Errorf("the journal does not name the unknown key")
	})
	if got := b.property("MainPID"); got != pid {
		t.Errorf("a reload with a broken file changed the process: %s, then %s", pid, got)
	}

	b.try("systemctl", "restart", "jitr-agent.service")
	b.awaitProperty(soon, "ActiveState", "failed")
	if code, restarts := b.property("ExecMainStatus"), b.property("NRestarts"); code != "78" {
		t.Errorf("it ended with %s after %s restarts; want 78", code, restarts)
	}
	rig.Throughout(t, time.Second, func() error { // ten times RestartSec
		if got := b.property("ActiveState"); got != "failed" {
			return fmt.Errorf("with a wrong configuration it is %s again", got)
		}
		return nil
	})
	if log := b.run("journalctl", "--no-pager", "--unit=jitr-agent.service"); !strings.Contains(log, "agent.toml:2:1: ") {
		t.Errorf("the journal does not say where the mistake is:\n%s", log)
	}
	b.configure(`cloud.endpoint = "cloud.test"`)
	b.run("systemctl", "restart", "jitr-agent.service")
	b.await("waiting-for-identity")
}
