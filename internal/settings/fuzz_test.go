package settings

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"github.com/pelletier/go-toml/v2"
)

// FuzzLoad: no document makes Load panic, every problem has a place inside the
// document, and what we take is TOML to a whole parser too.
func FuzzLoad(f *testing.F) {
	if data, err := os.ReadFile("../../packaging/agent.toml"); err == nil {
		f.Add(data, "")
		f.Add(bytes.ReplaceAll(data, []byte("\n#"), []byte("\n")), "60s")
	}
	for _, text := range []string{
		"", "cloud = { endpoint = 'h' }", "[cloud]\nendpoint = \"\"\"", "[[log]]\n", "cloud.endpoint = 'h'\n[cloud]",
		"[telemetry]\nsources = [\n[\"a\"], # c\n]\r\n", "\xef\xbb\xbf[log]\nlevel = \"\\u0041\"", "[a.b.c]\nd.e = 1", "[identity]\npcrs = [1, 1, 0x2, -3, 1_0]",
	} {
		f.Add([]byte(text), "http://u:p@h:1")
	}
	f.Fuzz(func(t *testing.T, data []byte, value string) {
		var environ []string
		for _, field := range Default().fields() {
			environ = append(environ, field.env()+"="+value)
		}
		if s, _, err := load("f", data, environ); (s == nil) != (err != nil) {
			t.Fatalf("settings %v beside the error %v", s, err)
		}

		s, _, err := load("f", data, nil)
		var e *Error
		switch {
		case err == nil:
			var any map[string]any
			if err := toml.Unmarshal(bytes.TrimPrefix(data, []byte(utf8BOM)), &any); err != nil {
				t.Fatalf("we take what is not TOML: %v", err)
			}
			for _, field := range s.fields() {
				if !field.isList() && field.check(field.value, field.text()) != nil {
					t.Fatalf("%s = %s is impossible", field.name(), field.text())
				}
			}
		case errors.As(err, &e):
			lines := bytes.Split(data, []byte("\n"))
			for _, p := range e.Problems {
				if p.Line < 1 || p.Line > len(lines) || p.Column < 1 || p.Column > len(lines[p.Line-1])+1 {
					t.Fatalf("%s is outside of the document", p)
				}
			}
		default:
			t.Fatalf("%T: %v", err, err)
		}
	})
}
