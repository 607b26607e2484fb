package settings

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func problems(t *testing.T, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("%v (%T) is not an *Error", err, err)
	}
	var all []string
	for _, p := range e.Problems {
		all = append(all, p.String())
	}
	return all
}

func equalLines(t *testing.T, got, want []string) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestDefaultsAreTheContract(t *testing.T) {
	want := &Settings{
		Cloud:     Cloud{Port443: "fallback", TLSMax: "1.2", KeepAlive: Duration(time.Minute), Stall: Duration(20 * time.Second), PublishRate: 90},
		Identity:  Identity{Key: "auto", Algorithm: "ecdsa-p256", TPMDevice: "/dev/tpmrm0", PCRs: []int{}},
		Init:      Init{Topic: "init/{thing_name}"},
		Telemetry: Telemetry{Topic: "dt/{thing_name}/{source}", Interval: Duration(time.Minute), Sources: []string{"system"}},
		Buffer: Buffer{MaxSize: 64 << 20, MaxAge: Duration(168 * time.Hour), KeepFree: 64 << 20, WhenFull: "drop-oldest",
			SpillAfter: Duration(2 * time.Second), GapTopic: "dt/{thing_name}/gap"},
		Local:  Local{Socket: "mqtt.sock", Topic: "dt/{thing_name}/{topic}"},
		Shadow: Shadow{Enabled: true, Names: []string{}},
		Log:    Log{Level: "info", Format: "auto"},
	}
	if got := Default(); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestLoadFileAndEnvironment(t *testing.T) {
	file := filepath.Join(t.TempDir(), "agent.toml")
	text := "\xef\xbb\xbf# a comment\r\n[cloud]\r\nendpoint = \"x-ats.iot.eu-west-1.amazonaws.com\"\r\npublish_rate = 0x10\r\n" +
		"proxy = 'http://u:p@proxy:3128'\n[telemetry]\ninterval = \"90s\"\nsources = []\n[identity]\npcrs = [0, 7,\n  11]\n[shadow]\nenabled = false\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, overrides, err := Load(file, []string{
		"JITR_AGENT_TELEMETRY_INTERVAL=1h30m", "JITR_AGENT_IDENTITY_PCRS=", "JITR_AGENT_SHADOW_NAMES=a, b",
		"JITR_AGENT_CLOUD_PROXY=http://root:hunter2@other:8080", "JITR_AGENT_BUFFER_MAX_SIZE=1048576B",
		"PATH=/bin", "JITR_AGENTX=1", "JITR_AGENT_LOG_LEVEL=warn", "JITR_AGENT_LOG_LEVEL=debug",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Cloud.Endpoint = "x-ats.iot.eu-west-1.amazonaws.com"
	want.Cloud.PublishRate = 16
	want.Cloud.Proxy = got.Cloud.Proxy
	want.Telemetry.Interval = Duration(90 * time.Minute)
	want.Telemetry.Sources = []string{}
	want.Shadow = Shadow{Enabled: false, Names: []string{"a", "b"}}
	want.Buffer.MaxSize = 1 << 20
	want.Log.Level = "debug"
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if u := got.Cloud.Proxy.URL(); u == nil || u.String() != "http://root:hunter2@other:8080" {
		t.Errorf("proxy is %v", u)
	}
	wantOverrides := []Override{
		{"cloud.proxy", "http://root@other:8080", "environment"},
		{"identity.pcrs", "", "environment"},
		{"telemetry.interval", "90m", "environment"},
		{"buffer.max_size", "1MiB", "environment"},
		{"shadow.names", "a,b", "environment"},
		{"log.level", "debug", "environment"},
	}
	if !reflect.DeepEqual(overrides, wantOverrides) {
		t.Errorf("overrides:\n%v\nwant\n%v", overrides, wantOverrides)
	}
}

// TestAllProblemsInOneGo is the promise: everything at once, each at its place.
func TestAllProblemsInOneGo(t *testing.T) {
	const text = `endpoint = "a"
[cloud]
endpiont = "x"
  keep_alive = "5s"   # too short
tls_max = 1.2
thing_name = "gw 1"
stall = 20s
port_443 = always
publish_rate = "90"
[clod]
endpoint = "not looked at"
[identity]
key = "tmp"
pcrs = [1, 24, "3", 1]
[telemetry]
interval = "24h1s"
interval = "60s"
topic = "dt/{thing}/x"
sources = ["system",
  "weather"]
[shadow]
enabled = "true"
[[log]]
[log]
level = "INFO"
`
	_, _, err := load("agent.toml", []byte(text), []string{
		"JITR_AGENT_LOG_LEVELL=debug", "JITR_AGENT_CLOUD_PROXY=https://u:hunter2@p:1", "JITR_AGENT_IDENTITY_PCRS=1,x"})
	equalLines(t, problems(t, err), []string{
		`agent.toml:1:1: endpoint: there is no such key outside of a table; it belongs in [cloud]`,
		`agent.toml:3:1: cloud.endpiont: there is no such key; did you mean endpoint?`,
		`agent.toml:4:16: cloud.keep_alive: 5s is out of range; allowed: 30s to 20m`,
		`agent.toml:5:11: cloud.tls_max must be a string, not a number with a fraction; write it in quotes: "1.2"`,
		`agent.toml:6:14: cloud.thing_name: "gw 1" is not a thing name; 1 to 128 of a-z A-Z 0-9 : _ -`,
		`agent.toml:7:11: strings must be quoted`,
		`agent.toml:8:12: this is not a value; a string must be in quotes`,
		`agent.toml:9:16: cloud.publish_rate must be a whole number, not a string; write it without quotes: 90`,
		`agent.toml:10:2: there is no table [clod]; did you mean cloud?`,
		`agent.toml:13:7: identity.key: "tmp" is not allowed; allowed: auto, tpm, tpm-sealed, file`,
		`agent.toml:14:12: identity.pcrs: 24 is out of range; allowed: 0 to 23`,
		`agent.toml:14:16: identity.pcrs must be a whole number, not a string; write it without quotes: 3`,
		`agent.toml:14:21: identity.pcrs: "1" is listed twice`,
		`agent.toml:16:12: telemetry.interval: 24h1s is out of range; allowed: 1s to 24h`,
		`agent.toml:17:1: telemetry.interval is set twice; the first is in line 16`,
		`agent.toml:18:9: telemetry.topic: "dt/{thing}/x" has a variable that is not known here; known: {thing_name}, {source}`,
		`agent.toml:20:3: telemetry.sources: "weather" is not allowed; allowed: system`,
		`agent.toml:22:11: shadow.enabled must be true or false, not a string; write it without quotes`,
		`agent.toml:23:3: there are no lists of tables here; write [log] with single brackets`,
		`agent.toml:25:9: log.level: "INFO" is not allowed; allowed: debug, info, warn, error`,
		`environment: JITR_AGENT_CLOUD_PROXY: a proxy with https:// is not supported; write http://host:port`,
		`environment: JITR_AGENT_IDENTITY_PCRS: "x" is not a whole number`,
		`environment: JITR_AGENT_LOG_LEVELL: there is no such setting; did you mean JITR_AGENT_LOG_LEVEL?`,
	})
}

func TestSyntax(t *testing.T) {
	tests := []struct {
		name, text string
		want       []string // after the path
	}{
		{"dotted keys", "cloud.endpoint = 'h'\ncloud.publish_rate = 1\n", nil},
		{"inline table", "cloud = { endpoint = 'h', publish_rate = 1 }\n", nil},
		{"quoted keys", "['cloud']\n\"endpoint\" = 'h'\n", nil},
		{"no last line end", "[cloud]\nendpoint = 'h'", nil},
		{"nothing", "", nil},
		{"table twice", "[cloud]\n[log]\n[cloud]\n", []string{"3:2: the table cloud is there already, in line 1; put its keys together"}},
		{"inline and header", "cloud = {}\n[cloud]\n", []string{"2:2: the table cloud is there already, in line 1; put its keys together"}},
		{"dotted and header", "cloud.endpoint = 'h'\n[cloud]\n", []string{"2:2: the table cloud is there already, in line 1; put its keys together"}},
		{"inline and dotted", "cloud = {}\ncloud.endpoint = 'h'\n", []string{"2:1: the table cloud is there already, in line 1; put its keys together"}},
		{"a table as a value", "cloud = 'h'\n", []string{"1:1: cloud is a table; write [cloud] and its keys below"}},
		{"twice in an inline table", "log = { level = 'info', level = 'warn' }\n", []string{"1:25: log.level is set twice; the first is in line 1"}},
		{"sub-table", "[cloud.proxy]\nhost = 1\n", []string{"1:8: there is no table [cloud.proxy]; the keys of cloud stand under [cloud]"}},
		{"unknown sub-table", "[a.b]\nhost = 1\n", []string{"1:2: there is no table [a.b]"}},
		{"key of a key", "[cloud]\nproxy.host = 'h'\n", []string{"2:7: cloud.proxy is a single value and has no key host"}},
		{"key of another table", "[log]\nendpoint = 'h'\n", []string{"2:1: log.endpoint: there is no such key; it belongs in [cloud]"}},
		{"columns are characters", "cloud = { endpoint = 'h', thing_name = 'ü', tls_max = 'é' } \n", []string{
			`1:40: cloud.thing_name: "ü" is not a thing name; 1 to 128 of a-z A-Z 0-9 : _ -`,
			`1:55: cloud.tls_max: "é" is not allowed; allowed: 1.2, 1.3`}},
		{"two slips", "[cloud]\nendpoint \n[log]\nlevel = \"info\nformat = 'x'\n", []string{
			"2:10: expected '=' after key", "4:14: basic strings cannot have new lines", `5:10: log.format: "x" is not allowed; allowed: auto, journal, console, json`}},
		{"broken header", "[cloud\nendpoint = 'x y'\n[log]\nlevel = 'x'\n", []string{
			"1:7: expected ']' to close table name", `4:9: log.level: "x" is not allowed; allowed: debug, info, warn, error`}},
		{"list not closed", "[telemetry]\nsources = [\n'system'\n[log]\nlevel = 'x'\n", []string{"4:1: expected ',' or ']' after array value"}},
		{"text not closed", "[cloud]\nendpoint = \"\"\"\n[log]\nlevel = 'x'\n", []string{"4:12: multiline basic string not terminated by \"\"\""}},
		{"not a list", "[telemetry]\nsources = 'system'\n", []string{"2:11: telemetry.sources must be a list, not a string; write it in brackets"}},
		{"a list in a list", "[telemetry]\nsources = [['system']]\n", []string{"2:11: telemetry.sources must be a string, not a list"}},
		{"a date", "[telemetry]\ninterval = 2024-01-01\n", []string{`2:12: telemetry.interval must be a string, not a date or a time; write it in quotes: "2024-01-01"`}},
		{"a huge number", "[cloud]\npublish_rate = 99999999999999999999\n", []string{"2:16: cloud.publish_rate: 99999999999999999999 is out of range; allowed: 0 to 100000"}},
		{"bad UTF-8", "[cloud]\nendpoint = '\xff'\n", []string{"2:13: invalid UTF-8 character in literal string"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := load("f", []byte(tt.text), nil)
			var want []string
			for _, w := range tt.want {
				want = append(want, "f:"+w)
			}
			equalLines(t, problems(t, err), want)
		})
	}
}

func TestValues(t *testing.T) {
	tests := []struct {
		key  string
		good []string // in the environment's form
		bad  []string
	}{
		{"CLOUD_ENDPOINT", []string{"", "h", "h.example.com:443", "127.0.0.1:1", "[::1]:8883", "::1", "localhost:65535"},
			[]string{"https://h", "h/path", " h", "h:0", "h:65536", "h:", "h:x", ":8883", "h h", "h\n", "-h", "h..x", "a:b:c", "üh"}},
		{"CLOUD_SERVER_CA", []string{"", "/etc/ca.pem"}, []string{"ca.pem", "./ca.pem"}},
		{"CLOUD_THING_NAME", []string{"", "gw-1", "a:b_c", strings.Repeat("x", 128)}, []string{"gw 1", "gw/1", "ü", strings.Repeat("x", 129)}},
		{"CLOUD_PORT_443", []string{"never", "fallback", "always"}, []string{"", "Never", "yes"}},
		{"CLOUD_PROXY", []string{"", "http://p:3128", "http://u:p%40@p:3128", "http://[::1]:3128/"},
			[]string{"p:3128", "http://p", "http://:3128", "https://p:3128", "socks5://p:1", "http://p:3128/x", "http://p:3128?x", "http://p:0", "http://p:70000", "http://u:a b@p:1"}},
		{"CLOUD_KEEP_ALIVE", []string{"30s", "20m", "1m30s", "1200s"}, []string{"", "29s", "20m1s", "45.5s", "60", "-60s", "+60s", "60 s", "1d", "60S"}},
		{"CLOUD_PUBLISH_RATE", []string{"0", "90"}, []string{"", "-1", "1.5", "ninety", "100001"}},
		{"IDENTITY_TPM_DEVICE", []string{"/dev/tpm0", "unix:/run/tpm.sock", "tcp:127.0.0.1:2321", "tcp:[::1]:2321"},
			[]string{"", "tpmrm0", "unix:", "unix:tpm.sock", "tcp:host", "tcp::2321", "tcp:host:0", "unix:/" + strings.Repeat("x", 108)}},
		{"IDENTITY_PCRS", []string{"", "0", "7, 23"}, []string{"24", "-1", "1,1", "1,,2", "x"}},
		{"INIT_TOPIC", []string{"a", "a/b/c/d/e/f/g/h", "{thing_name}", strings.Repeat("x", 256)},
			[]string{"", "a/b/c/d/e/f/g/h/i", "a/+", "a/#", "$aws/x", "{source}", "{thing_name", "}", "a\tb", strings.Repeat("x", 257)}},
		{"TELEMETRY_INTERVAL", []string{"1s", "24h", "1500ms"}, []string{"999ms", "24h1s", "0s"}},
		{"BUFFER_MAX_SIZE", []string{"1MiB", "1GiB", "1048576B"}, []string{"", "64MB", "64M", "64", "1.5MiB", "-1MiB", "1023KiB", "2TiB", "9999999999999999999TiB", "8388608TiB"}},
		{"BUFFER_KEEP_FREE", []string{"0B", "64MiB"}, []string{"0"}},
		{"LOCAL_SOCKET", []string{"", "mqtt.sock", "/run/x/mqtt.sock"}, []string{"a/b", "..", "/" + strings.Repeat("x", 107)}},
		{"LOCAL_LISTEN", []string{"", "127.0.0.1:1883", "[::1]:1883", "localhost:1883"}, []string{"0.0.0.0:1883", ":1883", "1883", "10.0.0.1:1883", "127.0.0.1", "127.0.0.1:0"}},
		{"LOCAL_TOPIC", []string{"dt/{thing_name}/{topic}"}, []string{"{source}"}},
		{"SHADOW_ENABLED", []string{"true", "false"}, []string{"", "1", "yes", "True"}},
		{"SHADOW_NAMES", []string{"", "a", "a,b:c"}, []string{"a,a", "a b", "a,", strings.Repeat("x", 65)}},
	}
	for _, tt := range tests {
		for _, v := range tt.good {
			if _, _, err := load("f", nil, []string{"JITR_AGENT_" + tt.key + "=" + v}); err != nil {
				t.Errorf("%q is refused: %v", v, err)
			}
		}
		for _, v := range tt.bad {
			if _, _, err := load("f", nil, []string{"JITR_AGENT_" + tt.key + "=" + v}); err == nil {
				t.Errorf("%s=%q is taken", tt.key, v)
			}
		}
	}
}

func TestUnreadableFile(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "none.toml")
	s, overrides, err := Load(missing, []string{"JITR_AGENT_LOG_LEVEL=debug"})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is not fs.ErrNotExist", err)
	}
	if s == nil || s.Log.Level != "debug" || len(overrides) != 1 {
		t.Errorf("a missing file alone gives %+v %v; want defaults and environment", s, overrides)
	}
	equalLines(t, problems(t, err), []string{missing + ": the configuration cannot be read: no such file or directory; check the path given with --config"})

	if s, _, err = Load(missing, []string{"JITR_AGENT_LOG_LEVEL=x"}); s != nil || len(problems(t, err)) != 2 {
		t.Errorf("a missing file and a wrong variable: %+v %v", s, err)
	}
	if s, _, err = Load(dir, nil); s != nil || err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory as file: %+v %v", s, err)
	}
}

func TestHostPort(t *testing.T) {
	for endpoint, want := range map[string]string{
		"h": "h 8883", "h:443": "h 443", "::1": "::1 8883", "[::1]:1": "::1 1", "10.0.0.1": "10.0.0.1 8883",
	} {
		host, port, err := Cloud{Endpoint: endpoint}.HostPort()
		if got := fmt.Sprint(host, " ", port); err != nil || got != want {
			t.Errorf("%q gives %s, %v; want %s", endpoint, got, err, want)
		}
	}
	if _, _, err := (Cloud{}).HostPort(); !errors.Is(err, ErrNoEndpoint) {
		t.Errorf("an empty endpoint gives %v", err)
	}
}

func TestWarnings(t *testing.T) {
	s := Default()
	s.Cloud.Endpoint = "x-ats.iot.eu-west-1.amazonaws.com"
	if w := s.Warnings("f"); len(w) != 0 {
		t.Errorf("warns without a reason: %v", w)
	}
	for want, change := range map[string]func(*Settings){
		"cloud.endpoint is empty": func(s *Settings) { s.Cloud.Endpoint = "" },
		"without -ats":            func(s *Settings) { s.Cloud.Endpoint = "x.iot.eu-west-1.amazonaws.com:443" },
		"identity.pcrs":           func(s *Settings) { s.Identity.PCRs = []int{7} },
	} {
		c := *s
		change(&c)
		if w := c.Warnings("f"); len(w) != 1 || !strings.Contains(w[0], want) || !strings.HasPrefix(w[0], "f: ") {
			t.Errorf("want one warning with %q, got %v", want, w)
		}
	}
}

func TestExpand(t *testing.T) {
	vars := map[string]string{"thing_name": "gw", "topic": "a/{thing_name}"}
	if got, want := Expand("dt/{thing_name}/{topic}/{other}", vars), "dt/gw/a/{thing_name}/{other}"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestTextRoundTrips(t *testing.T) {
	for _, d := range []time.Duration{0, time.Millisecond, 1500 * time.Millisecond, time.Second, time.Minute, 90 * time.Second,
		2 * time.Minute, time.Hour, 90 * time.Minute, 168 * time.Hour, time.Hour + time.Second, 25 * time.Hour, 100 * time.Hour * 100} {
		var back Duration
		if text := Duration(d).String(); back.UnmarshalText([]byte(text)) != nil || time.Duration(back) != d {
			t.Errorf("%v is written %s and read %v", d, text, time.Duration(back))
		}
	}
	for d, want := range map[time.Duration]string{time.Minute: "60s", 168 * time.Hour: "168h", 20 * time.Minute: "20m", 5 * time.Millisecond: "5ms"} {
		if got := Duration(d).String(); got != want {
			t.Errorf("%v is written %s, want %s", d, got, want)
		}
	}
	for _, s := range []Size{0, 1, 1023, 1024, 64 << 20, 1<<40 + 1, 1<<63 - 1} {
		var back Size
		if text := s.String(); back.UnmarshalText([]byte(text)) != nil || back != s {
			t.Errorf("%d is written %s and read %d", int64(s), text, int64(back))
		}
	}
}

// TestPasswordNeverShows prints and marshals a password in every way that a
// log or a status could.
func TestPasswordNeverShows(t *testing.T) {
	s, overrides, err := load("f", []byte("cloud.proxy = 'http://user:hunter2@p:3128'"), []string{"JITR_AGENT_CLOUD_PROXY=http://user:hunter2@p:3128"})
	if err != nil {
		t.Fatal(err)
	}
	hidden := struct{ proxy Proxy }{s.Cloud.Proxy}
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	all := []string{string(data), fmt.Sprint(overrides), s.Cloud.Proxy.GoString()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		all = append(all, fmt.Sprintf(verb, s), fmt.Sprintf(verb, *s), fmt.Sprintf(verb, s.Cloud.Proxy), fmt.Sprintf(verb, hidden))
	}
	for _, bad := range []string{"http://user:hunter2@p", "https://user:hunter2@p:1", "user:hunter2@p:1", "http://user:hunter2 @p:1", "http://p:hunter2", "http://u:%hunter2@p:1"} {
		_, _, err := load("f", []byte(fmt.Sprintf("[cloud]\nproxy = %q", bad)), []string{"JITR_AGENT_CLOUD_PROXY=" + bad})
		if len(problems(t, err)) != 2 {
			t.Errorf("%s is taken", bad)
		}
		all = append(all, fmt.Sprint(err))
	}
	for _, text := range all {
		if strings.Contains(text, "hunter2") || strings.Contains(text, fmt.Sprintf("%x", "hunter2")) {
			t.Errorf("a password shows: %s", text)
		}
	}
	if !strings.Contains(string(data), "http://user@p:3128") {
		t.Errorf("the proxy itself does not show: %s", data)
	}
}
