package e2e

import (
	"regexp"
	"strings"
	"testing"

	"github.com/jitr-agent/jitr-agent/test/rig"
)

// statusKeys is schema 1 of status --json, level by level.
var statusKeys = map[string][]string{
	"": {
		"schema", "running", "written_at", "started_at", "pid", "boot_id", "version", "stopped",
		"state", "state_since_at", "state_for_ms", "cause", "event", "message", "remedy", "next",
		"attempts", "identity", "cloud", "clock", "tpm", "buffer", "counters", "shadow", "overrides", "local",
		// Additions, which the schema allows.
		"written_boot_ms", "dialled_boot_ms", "pid_start",
	},
	"stopped":  {"at", "reason", "exit_code", "message"},
	"next":     {"action", "at", "in_ms"},
	"attempts": {"count", "first_at", "last_at", "last_phase"},
	"identity": {
		"thing_name", "client_id", "provider", "algorithm", "certificate_id", "ca_certificate_id",
		"not_before_at", "not_after_at", "accepted", "accepted_at", "init_at", "next",
	},
	"cloud": {
		"endpoint", "port", "alpn", "proxy", "tls_version", "connected_at", "session_for_ms", "receive_maximum",
	},
	"clock":  {"ok", "floor_at", "synchronized"},
	"tpm":    {"state", "device"},
	"buffer": {"state", "messages", "bytes", "max_bytes", "oldest_at", "memory_messages", "in_flight", "paused_for_ms"},
	"counters": {
		"connects", "acked", "refused_local", "dropped", "gaps", "dead_letters", "bytes_sent", "bytes_received", "tpm_commands",
	},
	"shadow": {"state", "version"},
	"local":  {"state", "socket", "listen", "clients"},
}

var utcMillis = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`)

// wantKeys: every key is always there and nothing else, times are RFC 3339 in
// UTC with milliseconds, _ms and _bytes are integers.
func wantKeys(t *testing.T, s rig.Status) {
	t.Helper()
	for level, keys := range statusKeys {
		object := map[string]any(s)
		if level != "" {
			switch value := s.At(t, level).(type) {
			case map[string]any:
				object = value
			case nil:
				if level != "stopped" && level != "next" {
					t.Errorf("status: %s is null", level)
				}
				continue
			default:
				t.Errorf("status: %s is %v", level, value)
				continue
			}
		}
		wantExactly(t, "status "+level, object, keys...)
		for key, value := range object {
			if value == nil {
				continue
			}
			number, isNumber := value.(float64)
			text, _ := value.(string)
			switch {
			case strings.HasSuffix(key, "_at") || key == "at":
				if !utcMillis.MatchString(text) {
					t.Errorf("status %s: %s is %v", level, key, value)
				}
			case strings.HasSuffix(key, "_ms"), strings.HasSuffix(key, "_bytes"), strings.HasPrefix(key, "bytes"):
				if !isNumber || number != float64(int64(number)) {
					t.Errorf("status %s: %s is %v, want an integer", level, key, value)
				}
			}
		}
	}
}
