package promise

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/test/rig"
)

// TestReadOnlyOnline: the file system of the buffer cannot be written. The link
// works, so messages go through, and nothing is wrong until one must be stored.
// Then the state says it, nobody is told "safe", and it heals.
func TestReadOnlyOnline(t *testing.T) {
	t.Parallel()
	d := newDisk(t)
	g := newGateway(t, "", nil)
	mount(t, d, g)
	d.remount("ro") // nothing of ours is open there: nothing was ever stored
	g.must(load{n: 500, size: kib})
	g.buffer(0, "ok")

	g.goOffline()
	p := g.produce(load{from: 500, n: 500, size: kib})
	g.buffer(soon, "read-only")
	g.said("buffer-read-only")
	g.none(p)
	g.goOnline() // the cloud makes them safe
	g.finish(p, soon)

	g.goOffline()
	p = g.produce(load{from: 1000, n: 500, size: kib})
	g.buffer(soon, "read-only")
	g.none(p)
	d.remount("rw")
	g.finish(p, 2*soon) // and so does the disk, when it can
	g.buffer(soon, "ok")
	g.said("buffer-ok")
	g.goOnline()
	if _, missing := g.judge(soon); missing != 0 || g.cloud.counted("") != 0 {
		t.Errorf("%d messages are missing, %d are counted", missing, g.cloud.counted(""))
	}
}

// TestReadOnlyStart: the service starts on a buffer that has messages and
// cannot be written. They are delivered, and it heals when it can.
func TestReadOnlyStart(t *testing.T) {
	t.Parallel()
	d := newDisk(t)
	g := newGateway(t, "", nil)
	mount(t, d, g)
	g.goOffline()
	g.must(load{n: 500, size: kib})
	g.Stop()
	d.remount("ro")
	g.again()
	g.Await(soon, "offline")
	p := g.produce(load{from: 500, n: 100, size: kib})
	g.buffer(soon, "read-only")
	g.none(p)
	g.goOnline()
	g.finish(p, soon)
	g.judge(soon)
	d.remount("rw")
	g.goOffline()
	g.must(load{from: 600, n: 500, size: kib})
	g.buffer(soon, "ok")
	g.goOnline()
	if _, missing := g.judge(soon); missing != 0 || g.cloud.counted("") != 0 {
		t.Errorf("%d messages are missing, %d are counted", missing, g.cloud.counted(""))
	}
}

// TestWornCard: ext4 finds an error on the card and goes read-only below the
// running service, for good: only a new mount helps.
func TestWornCard(t *testing.T) {
	t.Parallel()
	d := newDisk(t)
	trigger := filepath.Join("/sys/fs/ext4", d.device(), "trigger_fs_error")
	if _, err := os.Stat(trigger); err != nil {
		t.Skipf("skipped: this kernel plays no errors of ext4: %v", err)
	}
	g := newGateway(t, d.Folder, nil)
	d.remount("errors=remount-ro")
	g.goOffline()
	g.must(load{n: 500, size: kib})
	if err := os.WriteFile(trigger, []byte("1"), 0o200); err != nil {
		t.Fatal(err)
	}
	p := g.produce(load{from: 500, n: 500, size: kib})
	rig.Eventually(t, soon, func() error {
		if s := g.Status().At(t, "buffer.state"); s != "read-only" && s != "damaged" {
			return fmt.Errorf("the buffer is %v", s)
		}
		return nil
	})
	t.Logf("on the worn card the buffer is %v", g.Status().At(t, "buffer.state"))
	g.none(p)
	g.goOnline()
	g.finish(p, soon)
	if _, missing := g.judge(soon); missing != 0 || g.cloud.counted("") != 0 {
		t.Errorf("%d messages are missing, %d are counted", missing, g.cloud.counted(""))
	}
	g.Stop()

	// The technician's way out.
	rig.MustRun(t, "umount", d.Folder)
	if r := rig.Run(t, "e2fsck", "-fy", d.image); r.Code > 1 { // 1: errors were corrected
		t.Fatal(r)
	}
	rig.MustRun(t, "mount", "-o", "loop,noatime", d.image, d.Folder)
	g.gate.Shut()
	g.again()
	g.Await(soon, "offline")
	g.must(load{from: 1000, n: 500, size: kib})
	g.buffer(soon, "ok")
	g.goOnline()
	if _, missing := g.judge(soon); missing != 0 || g.cloud.counted("") != 0 {
		t.Errorf("after the repair %d messages are missing, %d are counted", missing, g.cloud.counted(""))
	}
}

// mount puts the buffer's folder on a disk of its own; the rest of the state
// stays where it is.
func mount(t *testing.T, d *disk, g *gateway) {
	t.Helper()
	folder := filepath.Join(g.StateDir, "buffer")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	g.Stop()
	rig.MustRun(t, "mount", "--bind", d.Folder, folder)
	t.Cleanup(func() {
		g.Kill()
		if out, err := exec.Command("umount", folder).CombinedOutput(); err != nil { //nolint:noctx // the test's context has ended here
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	g.Start()
	g.Await(soon, "online")
}

// none sees that for 3 s a producer is not told that a message more is safe.
func (g *gateway) none(p *producer) {
	g.t.Helper()
	before := len(p.acked())
	rig.Throughout(g.t, 3*time.Second, func() error {
		if n := len(p.acked()); n != before {
			return fmt.Errorf("%d messages were acknowledged that are nowhere", n-before)
		}
		return nil
	})
}

// finish waits until a producer has all its acknowledgements.
func (g *gateway) finish(p *producer, d time.Duration) {
	g.t.Helper()
	p.Wait(d)
	if n := len(p.acked()); n != p.n {
		g.t.Fatalf("%d of %d messages are acknowledged", n, p.n)
	}
}

// TestReadOnlyGateway: all that the service has lies on a file system that
// cannot be written, as after a reboot with a worn card. It runs, and delivers.
func TestReadOnlyGateway(t *testing.T) {
	t.Parallel()
	d := newDisk(t)
	g := newGateway(t, d.Folder, nil)
	g.goOffline()
	g.must(load{n: 100, size: kib})
	g.Stop()
	d.remount("ro")
	g.again()
	g.goOnline()
	g.must(load{from: 100, n: 100, size: kib})
	if _, missing := g.judge(soon); missing != 0 || g.cloud.counted("") != 0 {
		t.Errorf("%d messages are missing, %d are counted", missing, g.cloud.counted(""))
	}
	g.said("state-not-saved")
	g.Stop()
	d.remount("rw")
}
