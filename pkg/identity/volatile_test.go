package identity

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What mountinfo says on the systems that were looked at.
const (
	sdCard = "25 1 179:2 / / rw,noatime shared:1 - ext4 /dev/mmcblk0p2 rw\n" +
		"30 25 0:22 / /run rw,nosuid,nodev shared:5 - tmpfs tmpfs rw,size=93M\n" +
		"31 25 0:23 / /var/with\\040space rw - tmpfs tmpfs rw\n"
	// raspi-config through the package overlayroot: the tmpfs is moved into the
	// new root.
	overlayroot = "25 1 0:21 / / rw,relatime - overlay overlayroot rw,lowerdir=/media/root-ro,upperdir=/media/root-rw/overlay,workdir=/media/root-rw/overlay-workdir/_\n" +
		"26 25 179:2 / /media/root-ro ro,relatime - ext4 /dev/mmcblk0p2 ro\n" +
		"27 25 0:20 / /media/root-rw rw,relatime - tmpfs tmpfs-root rw\n" +
		"28 25 179:3 / /data rw - ext4 /dev/mmcblk0p3 rw\n"
	// raspi-config with a script of its own: the tmpfs stayed in the initramfs.
	bootOverlay = "25 1 0:21 / / rw,noatime - overlay overlay rw,lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work\n"
	docker      = "900 800 0:50 / / rw,relatime - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/A:/var/lib/docker/overlay2/l/B,upperdir=/var/lib/docker/overlay2/c/diff,workdir=/var/lib/docker/overlay2/c/work\n" +
		"901 900 0:51 / /dev rw,nosuid - tmpfs tmpfs rw\n"
	// An overlay on a partition of its own lasts.
	onDisk = "25 1 0:21 / / rw - overlay overlay rw,lowerdir=/ro,upperdir=/rw/upper,workdir=/rw/work\n" +
		"26 25 179:3 / /rw rw - ext4 /dev/mmcblk0p3 rw\n"
	covered = "25 1 179:2 / / rw - ext4 /dev/mmcblk0p2 rw\n" +
		"26 25 0:30 / /var/lib rw - tmpfs tmpfs rw\n" +
		"27 26 179:3 / /var/lib rw - ext4 /dev/mmcblk0p3 rw\n"
)

func TestVolatile(t *testing.T) {
	for _, test := range []struct {
		name, mountinfo, cmdline, dir string
		says                          string // "": it lasts
	}{
		{"an SD card", sdCard, "root=/dev/mmcblk0p2", "/var/lib/jitr-agent", ""},
		{"tmpfs", sdCard, "", "/run/jitr-agent/state", "it is in memory (tmpfs at /run)"},
		{"beside tmpfs", sdCard, "", "/runaway", ""},
		{"an escaped name", sdCard, "", "/var/with space/x", "it is in memory (tmpfs at /var/with space)"},
		{"ramfs", "25 1 0:2 / / rw - ramfs none rw\n", "", "/var", "it is in memory (ramfs at /)"},
		{"overlayroot", overlayroot, "overlayroot=tmpfs:recurse=0 quiet", "/var/lib/jitr-agent", "the overlay at / keeps"},
		{"a partition beside overlayroot", overlayroot, "overlayroot=tmpfs", "/data/jitr-agent", ""},
		{"boot=overlay", bootOverlay, "console=tty1 boot=overlay root=x", "/var/lib/jitr-agent", "the overlay at / keeps"},
		{"an overlay of the initramfs that is another's", bootOverlay, "console=tty1 reboot=overlay", "/var/lib/jitr-agent", ""},
		{"a container", docker, "root=/dev/sda1", "/var/lib/jitr-agent", ""},
		{"an overlay that lasts", onDisk, "", "/var/lib/jitr-agent", ""},
		{"a mount over a mount", covered, "", "/var/lib/jitr-agent", ""},
		{"no /proc", "", "", "/var/lib/jitr-agent", ""},
		{"not mountinfo", "what is this\n- - - -\n", "", "/var/lib/jitr-agent", ""},
		{"the temporary directory", "25 1 0:2 / / rw - tmpfs none rw\n", "", filepath.Join(os.TempDir(), "x"), ""},
	} {
		opts := Options{StateDir: test.dir, Root: t.TempDir()}
		plant(t, opts, "proc/self/mountinfo", test.mountinfo)
		plant(t, opts, "proc/cmdline", test.cmdline)
		w := Volatile(opts)
		switch {
		case test.says == "" && w != nil:
			t.Errorf("%s: %s", test.name, w)
		case test.says != "" && (w == nil || !strings.HasPrefix(w.Why, test.says) || w.ID != WarnVolatile || w.Object != test.dir):
			t.Errorf("%s: %v", test.name, w)
		}
	}
}

// No key is made where it would be lost, unless that is known; one that is
// there is used, with a warning.
func TestCSRWhereAKeyIsLost(t *testing.T) {
	opts := options(t)
	plant(t, opts, "proc/self/mountinfo", "25 1 0:2 / / rw - tmpfs none rw\n")
	t.Setenv("TMPDIR", t.TempDir()) // the state directory is not below it
	_, err := MakeCSR(t.Context(), opts, "CN=gw-1")
	if err == nil || !strings.Contains(err.Error(), "would be lost: it is in memory (tmpfs at /)") || !strings.Contains(err.Error(), "--force") {
		t.Errorf("got %v", err)
	}
	if exists(opts.path(KeyFile)) {
		t.Fatal("a key was made")
	}
	opts.AllowVolatile = true
	for range 2 {
		csr, err := MakeCSR(t.Context(), opts, "CN=gw-1")
		if err != nil || len(csr.Warnings) != 1 || !strings.Contains(csr.Warnings[0], "lost at the next restart") {
			t.Errorf("%q, %v", csr.Warnings, err)
		}
		opts.AllowVolatile = false // the key is there now
	}
	ca := newCA(t, "Test CA")
	if res := importChain(t, opts, ca.leaf(t, "gw-1", csrKey(t, opts)), ca.cert); len(res.Warnings) != 1 {
		t.Errorf("import: %q", res.Warnings)
	}
}

// Real mounts, in a mount namespace of its own: the test runs itself there.
func TestVolatileMounts(t *testing.T) {
	if dir := os.Getenv("VOLATILE_TEST_DIR"); dir != "" {
		why := ""
		if w := Volatile(Options{StateDir: dir}); w != nil {
			why = w.Why
		}
		t.Logf("why=%q", why)
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	base, err := os.MkdirTemp("/var/tmp", "x") //nolint:usetesting // it must not lie below $TMPDIR
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	for _, d := range []string{"lower", "disk/upper", "disk/work", "memory", "merged", "link"} {
		if err := os.MkdirAll(filepath.Join(base, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	overlay := func(over string) string {
		return "mount -t overlay -o lowerdir=lower,upperdir=" + base + "/" + over + "/upper,workdir=" + base + "/" + over + "/work overlay merged"
	}
	memory := "mount -t tmpfs tmpfs memory; mkdir memory/upper memory/work"
	for _, test := range []struct{ name, mounts, dir, says string }{
		{"the disk", "true", "merged/state", `why=""`},
		{"tmpfs", memory, "memory/not/there/yet", `why="it is in memory (tmpfs at ` + base + `/memory)"`},
		{"a link to tmpfs", memory + "; ln -s ../memory link/m", "link/m/state", `why="it is in memory`},
		{"an overlay that writes to tmpfs", memory + "; " + overlay("memory"), "merged/state", `why="the overlay at ` + base + `/merged keeps what is written in memory"`},
		{"an overlay that writes to the disk", overlay("disk"), "merged/state", `why=""`},
	} {
		cmd := exec.CommandContext(t.Context(), "unshare", "-m", "sh", "-ec",
			`cd "$1"; eval "$2"; exec "$3" -test.run='^TestVolatileMounts$' -test.v`, "sh", base, test.mounts, os.Args[0])
		cmd.Env = append(os.Environ(), "VOLATILE_TEST_DIR="+filepath.Join(base, test.dir), "TMPDIR=/nowhere")
		out, err := cmd.CombinedOutput()
		if err := errors.Join(err, os.RemoveAll(filepath.Join(base, "link/m"))); err != nil {
			t.Errorf("%s: %v\n%s", test.name, err, out)
		}
		if !strings.Contains(string(out), test.says) {
			t.Errorf("%s: want %s in\n%s", test.name, test.says, out)
		}
	}
}
