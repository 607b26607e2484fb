package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/cli"
	"github.com/jitr-agent/jitr-agent/internal/report"
)

func TestStatusText(t *testing.T) {
	pending := report.Status{
		Running: true, State: new("pending-activation"), Cause: new("pending"), StateForMS: new(int64(125_000)),
		Message: new("AWS IoT does not let it in yet"), Remedy: new("ask the operator"),
		Next: &report.Next{InMS: 12_000}, Attempts: report.Attempts{Count: 7, LastPhase: new("connack")},
		Identity: report.Identity{
			ThingName: new("gw-1"), CertificateID: new("aa11"), CACertificateID: new("bb22"), Provider: new("tpm"), Algorithm: new("ecdsa-p256"),
			NotAfterAt: report.At(time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)),
		},
		Cloud:     report.Cloud{Endpoint: new("a.example"), Port: new(8883), TLSVersion: new("1.2")},
		Buffer:    report.Buffer{Messages: new(int64(3)), Bytes: new(int64(300))},
		Counters:  report.Counters{Acked: new(int64(42))},
		Shadow:    report.Shadow{State: new("synced"), Version: new(int64(9))},
		Overrides: []report.Override{{Key: "telemetry.interval", Value: "7s", From: "shadow"}},
	}
	stopped := pending
	stopped.Running, stopped.Stopped, stopped.Next = false, &report.Stop{Message: new("it was stopped by signal terminated")}, nil
	foreign := report.Status{Running: true, State: new("online"), Identity: report.Identity{Provider: new("tpm")}}

	for name, c := range map[string]struct {
		status report.Status
		want   string
	}{
		"pending": {pending, `AWS IoT does not let it in yet.
What to do: ask the operator.

State        pending-activation (pending) for 2 min 5 s
Next try     in 12 s
Attempts     7 since the last success, the last one ended in phase connack
Thing        gw-1
Certificate  aa11
CA           bb22
Valid until  2027-01-02 03:04:05 UTC
Key          ecdsa-p256 in tpm
Endpoint     a.example:8883, TLS 1.2
Buffer       3 messages, 300 bytes
Sent         42 messages acknowledged
Shadow       synced, version 9
Overridden   telemetry.interval = 7s (shadow)
`},
		"never started": {report.Status{}, `The service does not run: it was never started since the gateway booted.
Start it: systemctl start jitr-agent
`},
		"another schema's nulls": {foreign, "-.\n\nState  online\nKey    unknown in tpm\n"},
	} {
		if got := statusText(c.status); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, c.want)
		}
	}
	text := statusText(stopped)
	if want := "The service does not run: it was stopped by signal terminated.\nStart it: systemctl start jitr-agent\n\nWhen it ended:\n"; !strings.HasPrefix(text, want) {
		t.Errorf("stopped:\n%s\nwant\n%s…", text, want)
	}
	if strings.Contains(text, " for 2 min") || strings.Contains(text, "Next try") {
		t.Errorf("stopped, and time goes on:\n%s", text)
	}
}

// 3 for a service that does not run, 1 where that cannot be told.
func TestStatusExitCodes(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("RUNTIME_DIRECTORY", dir)
	for _, asJSON := range []bool{false, true} {
		var exit *cli.ExitError
		if err := showStatus(io.Discard, asJSON); !errors.As(err, &exit) || exit.Code != 3 || exit.Err != nil {
			t.Errorf("no status: %v; want exit code 3 and no words", err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, report.StatusFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	var exit *cli.ExitError
	if err := showStatus(io.Discard, false); err == nil || errors.As(err, &exit) {
		t.Errorf("a damaged one: %v; want an error for exit code 1", err)
	}
	b := newBench(t, "")
	t.Setenv("RUNTIME_DIRECTORY", b.dir)
	b.report.Stopped("signal", 0, "it was stopped")
	if err := showStatus(io.Discard, false); !errors.As(err, &exit) || exit.Code != 3 {
		t.Errorf("stopped: %v; want exit code 3", err)
	}
}

func TestDirectory(t *testing.T) {
	for value, want := range map[string]string{"": "/usual", "/a": "/a", "/a:/b": "/a", ":/b": "/usual"} {
		t.Setenv("STATE_DIRECTORY", value)
		if got := directory("STATE_DIRECTORY", "/usual"); got != want {
			t.Errorf("%q: %s; want %s", value, got, want)
		}
	}
}
