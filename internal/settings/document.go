package settings

import (
	"bytes"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// table is a table that the document has opened.
type table struct {
	at  int
	how opening
}

// opening is how a document opens a table; TOML allows only dotted keys to
// add to one that is open already.
type opening int

const (
	byHeader opening = iota // [cloud]
	byDots                  // cloud.endpoint = …
	inline                  // cloud = { endpoint = … }
)

// part is one part of a dotted key.
type part struct {
	name    string
	at, end int
}

// expression handles one line of the document, or several where a value has
// several, and returns the offset of its end.
func (l *loader) expression(n *unstable.Node) int {
	parts := l.parts(n.Key())
	switch n.Kind {
	case unstable.Table:
		l.openHeader(parts)
	case unstable.ArrayTable:
		l.lost = true
		l.fail(parts[0].at, "there are no lists of tables here; write [%s] with single brackets", parts[0].name)
	default:
		if !l.lost {
			l.keyValue(l.header, parts, n.Value())
		}
		return l.offset(n.Raw) + int(n.Raw.Length)
	}
	return parts[len(parts)-1].end
}

func (l *loader) parts(it unstable.Iterator) []part {
	var all []part
	for it.Next() {
		raw := it.Node().Raw
		at := l.offset(raw)
		all = append(all, part{name: string(it.Node().Data), at: at, end: at + int(raw.Length)})
	}
	return all
}

// openHeader handles [table].
func (l *loader) openHeader(parts []part) {
	l.header, l.lost = parts[0].name, false
	if !l.isTable(l.header) {
		l.lost = true
		l.fail(parts[0].at, "there is no table %s%s", quoteTable(parts), didYouMean(l.header, l.tableNames()))
		return
	}
	if len(parts) > 1 {
		l.lost = true
		l.fail(parts[1].at, "there is no table %s; the keys of %s stand under [%s]", quoteTable(parts), l.header, l.header)
		return
	}
	l.open(l.header, parts[0].at, byHeader)
}

func quoteTable(parts []part) string {
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	return "[" + strings.Join(names, ".") + "]"
}

// open notes that a table is opened, and whether it may be.
func (l *loader) open(name string, at int, how opening) {
	first, again := l.tables[name]
	if !again {
		l.tables[name] = table{at, how}
		return
	}
	if how != byDots || first.how == inline {
		l.fail(at, "the table %s is there already, in line %d; put its keys together", name, l.line(first.at))
	}
}

// keyValue handles key = value in the table in; empty outside of any.
func (l *loader) keyValue(in string, parts []part, value *unstable.Node) {
	at, end := parts[0].at, parts[len(parts)-1].end
	if in == "" {
		in = parts[0].name
		if !l.isTable(in) {
			l.unknownOutside(in, at)
			return
		}
		if len(parts) == 1 {
			l.inlineTable(in, at, value)
			return
		}
		l.open(in, at, byDots)
		parts = parts[1:]
	}
	key := parts[0]
	f, ok := l.field(in, key.name)
	switch {
	case !ok:
		l.unknownKey(in, key)
		return
	case len(parts) > 1:
		l.fail(parts[1].at, "%s is a single value and has no key %s", f.name(), parts[1].name)
		return
	}
	if first, again := l.keys[f.name()]; again {
		l.fail(key.at, "%s is set twice; the first is in line %d", f.name(), l.line(first))
		return
	}
	l.keys[f.name()] = key.at
	l.assign(f, value, l.valueAfter(end))
}

// inlineTable handles table = { key = value, … }.
func (l *loader) inlineTable(name string, at int, value *unstable.Node) {
	if value.Kind != unstable.InlineTable {
		l.fail(at, "%s is a table; write [%s] and its keys below", name, name)
		return
	}
	l.open(name, at, inline)
	for it := value.Children(); it.Next(); {
		n := it.Node()
		l.keyValue(name, l.parts(n.Key()), n.Value())
	}
}

// valueAfter is where the value begins whose key ends at end. The nodes of
// lists do not tell.
func (l *loader) valueAfter(end int) int {
	rest := bytes.TrimLeft(l.data[end:], " \t=")
	return len(l.data) - len(rest)
}

// assign puts a value of the document into its field.
func (l *loader) assign(f field, n *unstable.Node, at int) {
	if !f.isList() {
		l.scalar(f, n, at, f.set)
		return
	}
	if n.Kind != unstable.Array {
		l.fail(at, "%s must be a list, not %s; write it in brackets", f.name(), kindName(n.Kind))
		return
	}
	f.clear()
	for it := n.Children(); it.Next(); {
		item := it.Node()
		place := at
		if item.Raw.Length > 0 {
			place = l.offset(item.Raw)
		}
		l.scalar(f, item, place, f.add)
	}
}

// scalar checks the kind of a single value and hands its text to put.
func (l *loader) scalar(f field, n *unstable.Node, at int, put func(string) error) {
	if want := f.kind(); n.Kind != want {
		l.fail(at, "%s must be %s, not %s%s", f.name(), kindName(want), kindName(n.Kind), l.quotes(want, n))
		return
	}
	if err := put(string(n.Data)); err != nil {
		l.fail(at, "%s: %v", f.name(), err)
	}
}

// kind is the TOML kind of a single value of the field.
func (f field) kind() unstable.Kind {
	switch one := f.one(); {
	case isText(one):
		return unstable.String
	case one.Kind() == reflect.Bool:
		return unstable.Bool
	default:
		return unstable.Integer
	}
}

// quotes says where quotes are all that is wrong.
func (l *loader) quotes(want unstable.Kind, n *unstable.Node) string {
	switch {
	case want == unstable.String && n.Raw.Length > 0 && n.Kind != unstable.InlineTable:
		return fmt.Sprintf("; write it in quotes: %q", n.Data)
	case want == unstable.Integer && n.Kind == unstable.String:
		if _, err := strconv.Atoi(string(n.Data)); err == nil {
			return fmt.Sprintf("; write it without quotes: %s", n.Data)
		}
	case want == unstable.Bool && n.Kind == unstable.String:
		return "; write it without quotes"
	}
	return ""
}

func kindName(k unstable.Kind) string {
	switch k {
	case unstable.String:
		return "a string"
	case unstable.Integer:
		return "a whole number"
	case unstable.Float:
		return "a number with a fraction"
	case unstable.Bool:
		return "true or false"
	case unstable.Array:
		return "a list"
	case unstable.InlineTable:
		return "a table"
	default:
		return "a date or a time"
	}
}
