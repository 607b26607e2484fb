package settings

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// field is one key: its tags, and its place in a Settings.
type field struct {
	table, key string
	tag        reflect.StructTag
	value      reflect.Value
}

// name is the key with its table, as people say it.
func (f field) name() string { return f.table + "." + f.key }

// env is the environment variable that overrides the key.
func (f field) env() string {
	return envPrefix + strings.ToUpper(f.table+"_"+f.key)
}

func (f field) isList() bool { return f.value.Kind() == reflect.Slice }

// one is the type of the value, or of an element of a list.
func (f field) one() reflect.Type {
	if f.isList() {
		return f.value.Type().Elem()
	}
	return f.value.Type()
}

// setText sets the field from the environment's form, where a list is
// separated by commas and an empty text is an empty list.
func (f field) setText(text string) error {
	if !f.isList() {
		return f.set(text)
	}
	f.clear()
	if strings.TrimSpace(text) == "" {
		return nil
	}
	for item := range strings.SplitSeq(text, ",") {
		if err := f.add(strings.TrimSpace(item)); err != nil {
			return err
		}
	}
	return nil
}

// set parses and checks a single value. On an error the field is unchanged.
func (f field) set(text string) error {
	v, err := f.parseAndCheck(text)
	if err == nil {
		f.value.Set(v)
	}
	return err
}

// clear makes a list empty.
func (f field) clear() { f.value.Set(reflect.MakeSlice(f.value.Type(), 0, 0)) }

// add parses and checks one element and appends it to a list. Every list of
// ours is a set, so an element that is there already is an error.
func (f field) add(text string) error {
	v, err := f.parseAndCheck(text)
	if err != nil {
		return err
	}
	for i := range f.value.Len() {
		if f.value.Index(i).Equal(v) {
			return fmt.Errorf("%q is listed twice", text)
		}
	}
	f.value.Set(reflect.Append(f.value, v))
	return nil
}

func (f field) parseAndCheck(text string) (reflect.Value, error) {
	v, err := f.parse(text)
	if err != nil {
		return v, err
	}
	return v, f.check(v, text)
}

// parse turns a text into a value of the field's type, by type alone.
func (f field) parse(text string) (reflect.Value, error) {
	v := reflect.New(f.one()).Elem()
	if u, ok := reflect.TypeAssert[encoding.TextUnmarshaler](v.Addr()); ok {
		return v, u.UnmarshalText([]byte(text))
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		if text != "true" && text != "false" {
			return v, fmt.Errorf("%q is neither true nor false", text)
		}
		v.SetBool(text == "true")
	case reflect.Int:
		n, err := strconv.ParseInt(text, 0, strconv.IntSize)
		if errors.Is(err, strconv.ErrRange) {
			return v, fmt.Errorf("%s is out of range; %s", text, f.allowed())
		}
		if err != nil {
			return v, fmt.Errorf("%q is not a whole number", text)
		}
		v.SetInt(n)
	default:
		panic("settings: " + f.name() + " has a type that cannot be parsed")
	}
	return v, nil
}

// text is the value in the environment's form, without a password.
func (f field) text() string {
	if !f.isList() {
		return text(f.value)
	}
	items := make([]string, f.value.Len())
	for i := range items {
		items[i] = text(f.value.Index(i))
	}
	return strings.Join(items, ",")
}

func text(v reflect.Value) string { return fmt.Sprint(v.Interface()) }

// isText tells whether the file holds values of the type as strings.
func isText(t reflect.Type) bool {
	return t.Kind() == reflect.String || reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}
