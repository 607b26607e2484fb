package logs

import (
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/iotcore/awsapi"
)

func TestFilter(t *testing.T) {
	for _, tt := range []struct {
		pattern, message string
		want             bool
	}{
		{"", "anything", true},
		{"ERROR", "an ERROR here", true},
		{"ERROR denied", "ERROR only", false},
		{`"an ERROR"`, "an ERROR here", true},
		{`"ERROR an"`, "an ERROR here", false},
		{"?a ?b", "xb", true},
		{"?a ?b", "x", false},
		{"x -y", "x", true},
		{"x -y", "xy", false},
	} {
		f, err := filter(tt.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := f(tt.message); got != tt.want {
			t.Errorf("%q on %q: %t", tt.pattern, tt.message, got)
		}
	}
	if _, err := filter(`{ $.a = 1 }`); err == nil {
		t.Error("a pattern that is not known was taken")
	}
}

func TestEventsLast(t *testing.T) {
	place, dir := awsapi.Place{Region: "us-east-1", Account: "123456789012"}, t.TempDir()
	s := New(place, dir, func() {})
	if err := s.Put("/aws/lambda/f", "s", Event{At: 1, Message: "lost"}); err == nil {
		t.Error("a group that does not exist took an event")
	}
	if err := s.Create("/aws/lambda/f", nil); err != nil {
		t.Fatal(err)
	}
	for at, stream := range []string{"2026/01/01/[$LATEST]a", "b", "b"} {
		if err := s.Put("/aws/lambda/f", stream, Event{At: int64(at), Message: stream}); err != nil {
			t.Fatal(err)
		}
	}
	data, err := s.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	s = New(place, dir, func() {})
	if err := s.UnmarshalJSON(data); err != nil {
		t.Fatal(err)
	}
	events, err := s.Events("/aws/lambda/f", time.UnixMilli(0), time.UnixMilli(2))
	if err != nil || len(events) != 2 || events[0].Stream != "2026/01/01/[$LATEST]a" || events[1].At != 1 {
		t.Errorf("events %+v, %v", events, err)
	}
}
