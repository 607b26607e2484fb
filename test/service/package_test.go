package service

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jitr-agent/jitr-agent/test/rig"
)

// release is the version of the package that the tests install.
const release = "v1.0.0"

// makeDeb makes packages as make packages does, and returns their paths.
func makeDeb(t *testing.T, dir, version string, architectures ...string) []string {
	t.Helper()
	r := rig.RunEnv(t, []string{"MAKEFLAGS=", "MAKELEVEL="}, "make", "--no-print-directory", "-C", "../..", "packages",
		"debs="+strings.Join(architectures, " "), "dist="+dir, "VERSION="+version, "SOURCE_DATE_EPOCH=1795000000")
	if r.Code != 0 {
		t.Fatal(r)
	}
	return strings.Fields(r.Stdout)
}

func native(t *testing.T) string {
	t.Helper()
	return strings.TrimSpace(rig.MustRun(t, "dpkg", "--print-architecture"))
}

// theDeb is made once for the process.
var theDeb struct {
	sync.Mutex
	dir, path string
}

// deb is the package of release for this machine.
func deb(t *testing.T) string {
	t.Helper()
	theDeb.Lock()
	defer theDeb.Unlock()
	if theDeb.path == "" {
		theDeb.path = makeDeb(t, filepath.Join(os.Getenv("RIG_BIN"), "dist"), release, native(t))[0]
	}
	return theDeb.path
}

func TestPackages_lintian(t *testing.T) {
	debs := makeDeb(t, rig.TempDir(t), release, "amd64", "arm64", "armhf")
	if len(debs) != 3 {
		t.Fatalf("packages: %q; want 3", debs)
	}
	// What it says is only what packaging/lintian-overrides expects.
	out := rig.MustRun(t, "lintian", append([]string{"--allow-root", "--show-overrides", "--fail-on", "none"}, debs...)...)
	said := map[string]int{}
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, "N: ") { // the reason of an override
			said[strings.TrimSpace(line)]++
		}
	}
	want := map[string]int{
		"O: jitr-agent: non-standard-file-perm 0640 != 0644 [etc/jitr-agent/agent.toml]": len(debs),
		"O: jitr-agent: statically-linked-binary [usr/bin/jitr-agent]":                   len(debs),
	}
	if !maps.Equal(said, want) {
		t.Errorf("lintian says\n%s\nwant, for each package: %v", out, want)
	}
	for i, arch := range []string{"amd64", "arm64", "armhf"} {
		if got := rig.MustRun(t, "dpkg-deb", "--field", debs[i], "Architecture"); got != arch+"\n" {
			t.Errorf("%s is for %s", debs[i], got)
		}
	}
}

// Both ways to install give the same files, but for the operator's programs
// and for what only a package has.
func TestPackages_sameFilesAsMakeInstall(t *testing.T) {
	dir := rig.TempDir(t)
	rig.MustRun(t, "../../packaging/install", "--gateway", os.Getenv("RIG_BIN"), dir, "/usr")
	installed := map[string]bool{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			info, err := d.Info()
			if err != nil {
				return err
			}
			installed[fmt.Sprintf("%s .%s", info.Mode(), strings.TrimPrefix(path, dir))] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(rig.MustRun(t, "dpkg-deb", "--contents", deb(t))) {
		f := strings.Fields(line)
		mode, name := f[0], f[len(f)-1]
		if owner := f[1]; owner != "root/root" {
			t.Errorf("%s belongs to %s", name, owner)
		}
		switch {
		case strings.HasPrefix(mode, "d"), strings.HasSuffix(name, "/changelog.gz"), strings.Contains(name, "/lintian/"):
		case !installed[mode+" "+name]:
			t.Errorf("%s %s is only in the package", mode, name)
		default:
			delete(installed, mode+" "+name)
		}
	}
	for file := range installed {
		t.Errorf("%s is only in make install", file)
	}
}

// Upgrades go the way that people expect.
func TestVersion_order(t *testing.T) {
	older := ""
	for _, describe := range []string{
		"49d734a", "v1.2.3-rc.1", "v1.2.3-rc.1-2-gabcdef0", "v1.2.3-rc.2", "v1.2.3", "v1.2.3-dirty",
		"v1.2.3-4-gabcdef0", "v1.2.3-10-g0000000", "v1.2.4", "v1.10.0",
	} {
		version := strings.TrimSpace(rig.MustRun(t, "../../packaging/version", describe, "1795000000"))
		if r := rig.Run(t, "dpkg", "--validate-version", version); r.Code != 0 {
			t.Error(r)
		}
		if r := rig.Run(t, "dpkg", "--compare-versions", older, "lt", version); older != "" && r.Code != 0 {
			t.Errorf("%s (%s) is not newer than %s", version, describe, older)
		}
		older = version
	}
}

// A package's life on a gateway without a network.
func TestPackage_life(t *testing.T) {
	t.Parallel()
	b := boot(t, privateNetwork)
	newer := makeDeb(t, rig.TempDir(t), "v1.1.0", native(t))[0]

	// A fresh install is not red, and says what to do next.
	b.dpkg(deb(t))
	if got := b.run("systemctl", "is-enabled", "jitr-agent.service"); got != "enabled\n" {
		t.Errorf("after the installation it is %s", got)
	}
	b.await("waiting-for-configuration")
	b.healthy()
	b.says("cloud.endpoint", "/etc/jitr-agent/agent.toml")
	if got := b.run("stat", "--format=%U:%G %a", "/etc/jitr-agent/agent.toml", "/var/lib/jitr-agent", "/run/jitr-agent"); got != "root:jitr-agent 640\njitr-agent:jitr-agent 700\njitr-agent:jitr-agent 755\n" {
		t.Errorf("owners and modes:\n%s", got)
	}
	if got := b.run("id", "--name", "--groups", "jitr-agent"); got != "jitr-agent tss\n" {
		t.Errorf("the user's groups: %s", got)
	}

	// The endpoint counts without a restart.
	pid := b.property("MainPID")
	b.configure(`cloud.endpoint = "cloud.test"`, `identity.key = "file"`)
	b.run("systemctl", "reload", "jitr-agent.service")
	b.await("waiting-for-identity")
	b.healthy()
	b.says("jitr-agent csr")
	if got := b.property("MainPID"); got != pid {
		t.Errorf("the reload changed the process: %s, then %s", pid, got)
	}
	b.run("jitr-agent", "csr", "--subject", "CN=gw-1", "--out", "/root/gw-1.csr")
	rig.Eventually(t, soon, func() error {
		if cause := b.status().At(t, "cause"); cause != "no-certificate" {
			return fmt.Errorf("the cause is %v", cause)
		}
		return nil
	})
	b.says("jitr-agent import")

	// An upgrade restarts it, and keeps what is the gateway's.
	before := b.sh("cd /var/lib/jitr-agent && stat -c '%n %U %a' device.key && sha256sum device.key /etc/jitr-agent/agent.toml")
	b.dpkg(newer)
	b.await("waiting-for-identity")
	if got := b.property("MainPID"); got == pid {
		t.Error("the upgrade did not restart the service")
	}
	if got := b.run("jitr-agent", "version"); !strings.Contains(got, "1.1.0") {
		t.Errorf("after the upgrade: %s", got)
	}
	if after := b.sh("cd /var/lib/jitr-agent && stat -c '%n %U %a' device.key && sha256sum device.key /etc/jitr-agent/agent.toml"); after != before {
		t.Errorf("the upgrade changed\n%s\nto\n%s", before, after)
	}
	if got := b.run("stat", "--format=%U:%G %a", "/etc/jitr-agent/agent.toml"); got != "root:jitr-agent 640\n" {
		t.Errorf("after the upgrade the configuration is %s", got)
	}

	// It stays stopped and disabled where somebody wanted that.
	b.run("systemctl", "disable", "--now", "jitr-agent.service")
	b.run("dpkg", "--install", b.give(newer))
	if r := b.try("systemctl", "is-enabled", "jitr-agent.service"); r.Stdout != "disabled\n" {
		t.Errorf("an upgrade enabled it again: %s", r)
	}
	b.run("systemctl", "enable", "--now", "jitr-agent.service")

	// Removed, it is gone but for the identity.
	b.run("dpkg", "--remove", "jitr-agent")
	if got := b.property("ActiveState"); got != "inactive" {
		t.Errorf("after its removal it is %s", got)
	}
	b.sh("test -e /var/lib/jitr-agent/device.key && test -e /etc/jitr-agent/agent.toml")
	b.dpkg(newer)
	b.await("waiting-for-identity")

	// Purged, it is gone, and it says what that means.
	b.run("dpkg", "--remove", "jitr-agent")
	if got := b.run("dpkg", "--purge", "jitr-agent"); !strings.Contains(got, "device key") || !strings.Contains(got, "enrol it anew") {
		t.Errorf("purge does not say that the key goes: %s", got)
	}
	if left := b.sh("find / -xdev -path /proc -prune -o -name '*jitr-agent*' -not -path '/share/*' -not -path '/var/lib/dpkg/*' -not -path '/var/log/*' -print"); left != "" {
		t.Errorf("purge leaves\n%s", left)
	}
	b.dpkg(deb(t))
	b.await("waiting-for-configuration")
	b.healthy()
}

// make install, and then what docs/service.md says.
func TestMakeInstall(t *testing.T) {
	t.Parallel()
	b := boot(t, privateNetwork)
	rig.MustRun(t, "../../packaging/install", os.Getenv("RIG_BIN"), filepath.Join(b.share, "root"), "/usr/local")
	b.sh("cp -a /share/root/. /")
	b.sh(`systemd-sysusers
		chgrp jitr-agent /etc/jitr-agent/agent.toml
		journalctl --update-catalog
		systemctl daemon-reload
		systemctl enable --now jitr-agent.service`)
	b.await("waiting-for-configuration")
	b.healthy()
	if got := b.run("journalctl", "-x", "--no-pager", "--identifier=jitr-agent"); !strings.Contains(got, "Defined-By: jitr-agent") {
		t.Errorf("the catalog is not there:\n%s", got)
	}
	b.run("jitrctl", "version")

	// Again, over a configuration that somebody has changed.
	changed := filepath.Join(b.share, "root/etc/jitr-agent/agent.toml")
	if err := os.WriteFile(changed, []byte("cloud.endpoint = \"cloud.test\"\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	rig.MustRun(t, "../../packaging/install", os.Getenv("RIG_BIN"), filepath.Join(b.share, "root"), "/usr/local")
	if data, err := os.ReadFile(changed); err != nil || string(data) != "cloud.endpoint = \"cloud.test\"\n" {
		t.Errorf("make install overwrote the configuration: %s %v", data, err)
	}
}

// healthy fails the test if systemd shows anything in red.
func (b *box) healthy() {
	b.t.Helper()
	if r := b.try("systemctl", "is-system-running"); r.Stdout != "running\n" {
		b.t.Errorf("%s%s", r, b.try("systemctl", "list-units", "--failed").Stdout)
	}
	if got := b.property("NRestarts"); got != "0" {
		b.t.Errorf("systemd restarted it %s times", got)
	}
}

// says fails the test if systemctl status and jitr-agent status do not show
// what is to be done.
func (b *box) says(words ...string) {
	b.t.Helper()
	rig.Eventually(b.t, soon, func() (err error) {
		for _, command := range [][]string{{"systemctl", "status", "--no-pager", "--full", "--lines=0", "jitr-agent.service"}, {"jitr-agent", "status"}} {
			out := b.try(command...).Stdout
			for _, word := range words {
				if !strings.Contains(out, word) {
					err = errors.Join(err, fmt.Errorf("%q does not say %q:\n%s", command, word, out))
				}
			}
		}
		return err
	})
}
