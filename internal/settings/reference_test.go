package settings

import (
	"bytes"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/jitr-agent/jitr-agent/internal/golden"
)

// TestGenerated holds the files that are made from the struct to it.
func TestGenerated(t *testing.T) {
	golden.Check(t, "./internal/settings", map[string]string{
		"../../docs/configuration.md": referencePage(),
		"../../packaging/agent.toml":  defaultFile(),
	})
}

// TestDefaultFileIsTheDefaults removes the comment marks from every key of the
// packaged file, which must then say what no file says.
func TestDefaultFileIsTheDefaults(t *testing.T) {
	data, err := os.ReadFile("../../packaging/agent.toml")
	if err != nil {
		t.Fatal(err)
	}
	var keys int
	lines := bytes.Split(data, []byte("\n"))
	for i, line := range lines {
		if rest, ok := bytes.CutPrefix(line, []byte("#")); ok && !bytes.HasPrefix(rest, []byte(" ")) && len(rest) > 0 {
			lines[i] = rest
			keys++
		}
	}
	if want := len(Default().fields()); keys != want {
		t.Errorf("the file has %d keys, the struct %d", keys, want)
	}
	for name, data := range map[string][]byte{"as it is": data, "uncommented": bytes.Join(lines, []byte("\n"))} {
		got, _, err := load("agent.toml", data, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !reflect.DeepEqual(got, Default()) {
			t.Errorf("%s: got %+v, want the defaults %+v", name, got, Default())
		}
	}
}

// TestEveryKeyIsDocumented keeps the tags complete.
func TestEveryKeyIsDocumented(t *testing.T) {
	for _, f := range Default().fields() {
		if doc := f.tag.Get("doc"); !strings.HasSuffix(doc, ".") {
			t.Errorf("%s: its doc %q is not a sentence", f.name(), doc)
		}
		for _, tag := range []string{"toml", "default"} {
			if _, ok := f.tag.Lookup(tag); !ok {
				t.Errorf("%s has no tag %s", f.name(), tag)
			}
		}
	}
}

const generated = "generated from internal/settings by go generate; do not edit"

func referencePage() string {
	var b strings.Builder
	fmt.Fprintf(&b, "<!-- %s -->\n# Configuration\n\n", generated)
	b.WriteString(`The agent reads ` + "`/etc/jitr-agent/agent.toml`" + `, or the file that ` + "`--config`" + ` names. Every key has a
default, so the file may be empty or hold only what differs. What is stronger comes last: default, file,
environment, the shadow's desired state. ` + "`jitr-agent status`" + ` shows every key that the environment or
the shadow has set.

` + "`jitr-agent config check`" + ` finds everything that is wrong in one go, each with its line and column: unknown keys,
wrong types and impossible values are errors, not warnings.

- Durations are strings of numbers with the units ms, s, m and h: ` + "`\"90s\"`, `\"1h30m\"`, `\"168h\"`" + `.
- Sizes are strings of a whole number with the unit B, KiB, MiB, GiB or TiB: ` + "`\"64MiB\"`" + `.
- Topics may use the variables that are listed with them, such as ` + "`{thing_name}`" + `; at most 256 bytes and 8 segments,
  no wildcards, no ` + "`$`" + ` at the front.
- The environment variable of a key overrides the file; a list is separated by commas, and an empty value is an empty
  list. A variable that begins with ` + "`" + envPrefix + "`" + ` and is not in these tables is an error.
- The file may hold the password of a proxy: keep it readable by root and the service only (0640).
`)
	var last string
	for _, f := range Default().fields() {
		if f.table != last {
			last = f.table
			fmt.Fprintf(&b, "\n## [%s]\n%s\n\n| key | default | meaning | environment |\n|---|---|---|---|\n", f.table, tableDoc(f.table))
		}
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | `%s` |\n", f.key, f.toml(), strings.ReplaceAll(describe(f, "`"), "|", `\|`), f.env())
	}
	return b.String()
}

func defaultFile() string {
	var b strings.Builder
	b.WriteString(`# The configuration of jitr-agent. Every key stands here with its default: remove
# the # in front of those that you change. "jitr-agent config check" tells what is
# wrong with it. Reference: docs/configuration.md
#
# ` + generated + ".\n")
	var last string
	for _, f := range Default().fields() {
		if f.table != last {
			last = f.table
			fmt.Fprintf(&b, "\n[%s]\n", f.table)
			fmt.Fprintf(&b, "# %s\n", tableDoc(f.table))
		}
		b.WriteString("\n")
		for _, line := range wrap(describe(f, ""), 78) {
			fmt.Fprintf(&b, "# %s\n", line)
		}
		fmt.Fprintf(&b, "#%s = %s\n", f.key, f.toml())
	}
	return b.String()
}

// toml is the value as the file would hold it, without a password.
func (f field) toml() string {
	quote := func(v reflect.Value) string {
		if k := v.Kind(); (k == reflect.Int || k == reflect.Bool) && !isText(v.Type()) {
			return text(v)
		}
		return strconv.Quote(text(v))
	}
	if !f.isList() {
		return quote(f.value)
	}
	items := make([]string, f.value.Len())
	for i := range items {
		items[i] = quote(f.value.Index(i))
	}
	return "[" + strings.Join(items, ", ") + "]"
}

// describe is the doc of a key, with what it takes.
func describe(f field, quote string) string {
	all := f.tag.Get("doc")
	if allow, ok := f.tag.Lookup("allow"); ok {
		which := " One of "
		if f.isList() {
			which = " Any of "
		}
		all += which + quote + strings.ReplaceAll(allow, "|", quote+", "+quote) + quote + "."
	} else if low, ok := f.tag.Lookup("min"); ok {
		all += " From " + low + " to " + f.tag.Get("max") + "."
	}
	if vars, ok := f.tag.Lookup("vars"); ok {
		all += " Variables: " + quote + "{" + strings.ReplaceAll(vars, "|", "}"+quote+", "+quote+"{") + "}" + quote + "."
	}
	return all
}

func tableDoc(name string) string {
	for f := range reflect.TypeFor[Settings]().Fields() {
		if f.Tag.Get("toml") == name {
			return f.Tag.Get("doc")
		}
	}
	return ""
}

func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
