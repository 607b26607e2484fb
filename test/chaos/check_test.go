package chaos

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jitr-agent/jitr-agent/test/rig"
)

// A run of three messages on a topic, without a time in front of each line.
var (
	producer = []string{"sent p/0 1", "ack p/0 1", "sent p/0 2", "ack p/0 2", "sent p/0 3", "ack p/0 3"}
	calmRun  = []string{
		"session",
		"got p/0 1 s 1", "puback 0x00 p/0 1",
		"got p/0 2 s 2", "puback 0x00 p/0 2",
		"got p/0 3 s 3", "puback 0x00 p/0 3",
	}
)

// TestCheck: the checker sees each kind of fault in a capture that was tampered
// with, and finds none where there is a reason.
func TestCheck(t *testing.T) {
	t.Parallel()
	join := slices.Concat[[]string]
	for _, tt := range []struct {
		name     string
		producer []string // behind the usual one
		capture  []string
		want     string // a fault, "" for none
	}{
		{"calm", nil, calmRun, ""},

		{"lost", nil, calmRun[:5], "1 acknowledged messages are lost"},
		{"arrived and never answered", nil, calmRun[:6], "1 acknowledged messages are lost"},
		{"all lost", nil, []string{"session"}, "3 acknowledged messages are lost"},
		{"counted in a gap record", nil, join(calmRun[:5], []string{"gap s 3 3 1"}), ""},
		{"two lost, one counted", nil, join(calmRun[:3], []string{"gap s 3 3 1"}), "1 acknowledged messages are lost"},
		{"two lost, one gap record that came twice", nil, join(calmRun[:3], []string{"gap s 3 3 1", "gap s 3 3 1"}), "1 acknowledged messages are lost"},

		{
			"dead letter", []string{"sent p/denied 1", "ack p/denied 1"},
			join(calmRun, []string{"got p/denied 1 s 4", "puback 0x87 p/denied 1", "dead p/denied 1"}), "",
		},
		{
			"dead letter dropped", []string{"sent p/denied 1", "ack p/denied 1"},
			join(calmRun, []string{"got p/denied 1 s 4", "puback 0x87 p/denied 1"}), "1 acknowledged messages are lost",
		},
		{"dead letter that nobody refused", nil, join(calmRun[:5], []string{"dead p/0 3"}), "dead letter that nobody refused: ('p/0', '3')"},

		{"out of order", nil, join(calmRun[:1], calmRun[3:5], calmRun[1:3], calmRun[5:]), "out of order: ('p/0', '1') after 2"},
		{
			"out of order after 0x97", nil,
			join(calmRun[:1], []string{"got p/0 1 s 1", "puback 0x97 p/0 1"}, calmRun[3:5], calmRun[1:3], calmRun[5:]), "",
		},
		{
			"out of order after 0x97 of another message", nil,
			join(calmRun[:1], []string{"got p/1 1 s 1", "puback 0x97 p/1 1"}, calmRun[3:5], calmRun[1:3], calmRun[5:]), "out of order",
		},
		{"out of order as the producer repeated it", []string{"again p/0 1"}, join(calmRun[:1], calmRun[3:5], calmRun[1:3], calmRun[5:]), ""},

		{"twice", nil, join(calmRun, []string{"got p/0 3 s 3"}), "duplicate without a reason: ('p/0', '3')"},
		{"twice as another entry", nil, join(calmRun, []string{"got p/0 3 s 4"}), "duplicate without a reason"},
		{"twice after a cut", nil, join(calmRun, []string{"cut", "session", "got p/0 3 s 3"}), ""},
		{"twice after a kill", nil, join(calmRun, []string{"kill", "session", "got p/0 3 s 3"}), ""},
		{"three times, one cut", nil, join(calmRun, []string{"cut", "session", "got p/0 3 s 3", "got p/0 3 s 3"}), "duplicate without a reason"},
		{"twice after 0x97", nil, join(calmRun[:6], []string{"puback 0x97 p/0 3", "got p/0 3 s 3", "puback 0x00 p/0 3"}), ""},
		{"three times after 0x97", nil, join(calmRun[:6], []string{"puback 0x97 p/0 3", "got p/0 3 s 3", "puback 0x00 p/0 3", "got p/0 3 s 3"}), "duplicate without a reason"},
		{"twice as the producer repeated it", []string{"again p/0 3"}, join(calmRun, []string{"got p/0 3 s 4"}), ""},
		{"one entry twice, and the producer repeated it", []string{"again p/0 3"}, join(calmRun, []string{"got p/0 3 s 3"}), "duplicate without a reason"},

		{"a connection that nothing explains", nil, join(calmRun, []string{"session"}), "more connections than cuts and kills"},
		{"against MQTT", nil, join(calmRun, []string{"violation packet identifier 3 is in use"}), "violation: packet identifier 3 is in use"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := rig.TempDir(t)
			file := func(name string, from int, lines []string) string {
				var text strings.Builder
				for i, line := range lines {
					fmt.Fprintln(&text, from+i, line)
				}
				return write(t, filepath.Join(dir, name), text.String())
			}
			v := check(t, file("p.log", 1, join(producer, tt.producer)), file("cloud.log", 100, tt.capture))
			switch {
			case tt.want == "" && !v.OK:
				t.Errorf("the checker finds faults:\n%s", v.Output)
			case tt.want != "" && (v.OK || !strings.Contains(v.Output, tt.want)):
				t.Errorf("the checker does not say %q:\n%s", tt.want, v.Output)
			}
		})
	}
}
