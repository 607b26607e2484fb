package service

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// exposureLimit is the issue's, for systemd 252. 10 is no sandbox at all.
const exposureLimit = 1.3

func TestSandbox(t *testing.T) {
	t.Parallel()
	b := boot(t, privateNetwork)
	b.dpkg(deb(t))
	b.await("waiting-for-configuration")

	if r := b.try("systemd-analyze", "verify", "--man=no", "jitr-agent.service"); r.Code != 0 || r.Stderr != "" {
		t.Error(r)
	}
	out := b.run("systemd-analyze", "security", "--no-pager", "jitr-agent.service")
	level := regexp.MustCompile(`Overall exposure level for jitr-agent.service: ([0-9.]+)`).FindStringSubmatch(out)
	if level == nil {
		t.Fatalf("no exposure level:\n%s", out)
	}
	if got, err := strconv.ParseFloat(level[1], 64); err != nil || got > exposureLimit {
		t.Errorf("the exposure is %s; want at most %v", level[1], exposureLimit)
	}

	// What systemd says is set is also in force: a shell in the service's place
	// tries it.
	b.sh("mkdir -p /etc/credstore && echo secret >/etc/credstore/proxy-password && chmod 600 /etc/credstore/proxy-password && echo x >/etc/world && chmod 666 /etc/world && mkdir -m 777 /srv/world")
	tries := []struct{ name, command, want string }{
		{"user", "id -un", "jitr-agent"},
		{"state directory", `echo x >"$STATE_DIRECTORY/tried" && rm "$STATE_DIRECTORY/tried" && echo can`, "can"},
		{"run-time directory", `echo x >"$RUNTIME_DIRECTORY/tried" && rm "$RUNTIME_DIRECTORY/tried" && echo can`, "can"},
		{"configuration", "grep -c endpoint /etc/jitr-agent/agent.toml", "1"},
		{"its credential", `cat "$CREDENTIALS_DIRECTORY/proxy-password"`, "secret"},
		{"a credential that is not there", `cat "$CREDENTIALS_DIRECTORY/tpm-owner-auth"`, "cannot"},
		{"the vitals' source", "grep -o MemTotal: /proc/meminfo", "MemTotal:"},
		{"the credential's source", "cat /etc/credstore/proxy-password", "cannot"},
		{"a file for everybody in /etc", "echo x >/etc/world && echo can", "cannot"},
		{"a directory for everybody", "echo x >/srv/world/tried && echo can", "cannot"},
		{"a kernel setting", "echo 1 >/proc/sys/kernel/sysrq && echo can", "cannot"},
		{"another process", "test -d /proc/1 && echo can", "cannot"},
		{"kernel messages", "test -e /dev/kmsg && echo can", "cannot"},
		{"a new namespace", "unshare --user true && echo can", "cannot"},
		{"the clock", "date -s 2000-01-01 >/dev/null && echo can", "cannot"},
	}
	var script strings.Builder
	script.WriteString("exec >$RUNTIME_DIRECTORY/tries 2>/dev/null\n")
	for _, try := range tries {
		fmt.Fprintf(&script, "(%s) || echo cannot\n", try.command)
	}
	b.sh("cat >/srv/tries <<'END'\n" + script.String() + "END\n")
	b.dropIn("[Service]", "ExecStartPre=/bin/sh /srv/tries")
	b.configure(`cloud.endpoint = ""`)
	b.run("systemctl", "restart", "jitr-agent.service")
	got := strings.Split(b.sh("cat /run/jitr-agent/tries"), "\n")
	for i, try := range tries {
		if i >= len(got) || got[i] != try.want {
			t.Fatalf("%s: want %q in line %d of\n%s", try.name, try.want, i+1, strings.Join(got, "\n"))
		}
	}
}

// The container has no device node, so this only shows what systemd and udev
// are asked for.
func TestSandbox_device(t *testing.T) {
	needRoot(t)
	b := boot(t, privateNetwork)
	b.dpkg(deb(t))
	rule := b.sh("cat /usr/lib/udev/rules.d/60-jitr-agent.rules")
	for _, want := range []string{`GROUP="tss", MODE="0660"`, `ACTION=="add", SUBSYSTEM=="tpmrm", RUN+="/bin/systemctl --no-block try-restart jitr-agent.service"`} {
		if !strings.Contains(rule, want) {
			t.Errorf("the udev rule lacks %s", want)
		}
	}
	if got := b.run("id", "--name", "--groups", "tss"); got != "tss\n" {
		t.Errorf("the groups of tss: %s", got)
	}
	for _, want := range []string{"DevicePolicy=closed", "DeviceAllow=/dev/tpmrm0 rw", "BindPaths=-/dev/tpmrm0:/dev/tpmrm0:rbind"} {
		name, _, _ := strings.Cut(want, "=")
		if got := name + "=" + b.property(name); !strings.Contains(got, strings.TrimPrefix(want, name+"=")) {
			t.Errorf("systemd has %s; want %s", got, want)
		}
	}
}
