package buffer

import (
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// What goes in comes out.
func TestRecord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := Message{
			Topic: rapid.String().Draw(t, "topic"), Payload: rapid.SliceOf(rapid.Byte()).Draw(t, "payload"),
			ContentType: rapid.String().Draw(t, "content type"), ResponseTopic: rapid.String().Draw(t, "response topic"),
			Text: rapid.Bool().Draw(t, "text"), Expiry: rapid.Uint32().Draw(t, "expiry"),
		}
		if data := rapid.SliceOf(rapid.Byte()).Draw(t, "correlation data"); len(data) > 0 {
			m.CorrelationData = data
		}
		for range rapid.IntRange(0, 3).Draw(t, "properties") {
			m.UserProperties = append(m.UserProperties, [2]string{rapid.String().Draw(t, "name"), rapid.String().Draw(t, "value")})
		}
		s := stamp{
			stream: rapid.Uint64().Draw(t, "stream"), seq: rapid.Uint64().Draw(t, "seq"), boot: rapid.Uint64().Draw(t, "boot"),
			bootMS: rapid.Int64Min(0).Draw(t, "boot ms"), wallMS: rapid.Int64().Draw(t, "wall ms"), floor: rapid.Bool().Draw(t, "floor"),
		}
		b := appendRecord(nil, &m, s)
		gotM, gotS, err := parseRecord(b)
		if err != nil || !reflect.DeepEqual(gotM, m) || gotS != s {
			t.Fatalf("%+v %+v became %+v %+v, %v", m, s, gotM, gotS, err)
		}
		if len(m.Payload) == 0 && len(b) > 0 { // nothing can be missing
			if _, _, err := parseRecord(b[:len(b)-1]); err == nil {
				t.Fatal("a record that was cut off passes")
			}
		}
	})
}

// FuzzRecord: whatever the disk says, it is a record or an error.
func FuzzRecord(f *testing.F) {
	f.Add(appendRecord(nil, &Message{Topic: "t", Payload: []byte("p"), UserProperties: [][2]string{{"a", "b"}}}, stamp{seq: 1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, s, err := parseRecord(b)
		if err != nil {
			return
		}
		again, s2, err := parseRecord(appendRecord(nil, &m, s))
		if err != nil || s2 != s || !reflect.DeepEqual(again, m) {
			t.Fatalf("%+v became %+v, %v", m, again, err)
		}
	})
}
