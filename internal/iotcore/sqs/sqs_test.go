package sqs

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/iotcore/awsapi"
)

const arn = "arn:aws:sqs:us-east-1:123456789012:"

func service(t *testing.T) *Service {
	t.Helper()
	s := New(awsapi.Place{Region: "us-east-1", Account: "123456789012"}, func() string { return "http://x" }, func() {})
	now := time.Now()
	for name, attributes := range map[string]map[string]string{
		"dead": nil,
		"q":    {"RedrivePolicy": `{"deadLetterTargetArn":"` + arn + `dead","maxReceiveCount":"2"}`},
		"late": {"DelaySeconds": "60"},
	} {
		if err := s.check(attributes); err != nil {
			t.Fatal(err)
		}
		s.queues[name] = &queue{name: name, attributes: attributes, createdAt: now, hidden: map[string]*message{}, wake: make(chan struct{})}
	}
	return s
}

func send(t *testing.T, s *Service, queue, body string) {
	t.Helper()
	if _, err := s.Send(arn+queue, body, nil); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, s *Service, queue string, wait time.Duration) []Message {
	t.Helper()
	got, err := s.Receive(t.Context(), arn+queue, 10, -1, wait)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestVisibility(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := service(t)
		send(t, s, "q", "a")
		send(t, s, "q", "b")
		got := receive(t, s, "q", 0)
		if len(got) != 2 || got[0].Body != "a" || got[0].Receives != 1 {
			t.Fatalf("received %+v", got)
		}
		if again := receive(t, s, "q", 0); len(again) != 0 {
			t.Errorf("what is in flight was received again: %+v", again)
		}
		if err := s.Delete(arn+"q", got[1].Receipt); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		again := receive(t, s, "q", time.Minute) // visible again after 30 s
		if len(again) != 1 || again[0].Body != "a" || again[0].Receives != 2 || time.Since(begun) != 30*time.Second {
			t.Fatalf("after %v: %+v", time.Since(begun), again)
		}
		if err := s.Delete(arn+"q", got[0].Receipt); err != nil { // of the first receive
			t.Fatal(err)
		}
		// It was received twice, so that now it is a dead letter.
		if third := receive(t, s, "q", time.Minute); len(third) != 0 {
			t.Errorf("received a third time: %+v", third)
		}
		if dead := receive(t, s, "dead", 0); len(dead) != 1 || dead[0].Body != "a" || dead[0].ID != got[0].ID {
			t.Errorf("dead letters %+v", dead)
		}
	})
}

func TestLongPollIsWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := service(t)
		done := make(chan []Message, 1)
		go func() {
			got, err := s.Receive(t.Context(), arn+"q", 1, -1, 20*time.Second)
			if err != nil {
				t.Error(err)
			}
			done <- got
		}()
		synctest.Wait()
		send(t, s, "q", "a")
		if got := <-done; len(got) != 1 {
			t.Errorf("received %+v", got)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if got, err := s.Receive(ctx, arn+"dead", 1, -1, 20*time.Second); err != nil || len(got) != 0 {
			t.Errorf("after the end: %+v, %v", got, err)
		}
	})
}

func TestDelayAndRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := service(t)
		send(t, s, "late", "a")
		if got := receive(t, s, "late", 0); len(got) != 0 {
			t.Errorf("too early: %+v", got)
		}
		send(t, s, "q", "b")
		receive(t, s, "q", 0) // in flight when it stops
		data, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		s = service(t)
		if err := json.Unmarshal(data, s); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if got := receive(t, s, "q", time.Hour); len(got) != 1 || got[0].Receives != 2 || time.Since(begun) != 30*time.Second {
			t.Errorf("after a restart and %v: %+v", time.Since(begun), got)
		}
		if got := receive(t, s, "late", time.Hour); len(got) != 1 || time.Since(begun) != time.Minute {
			t.Errorf("after a restart and %v: %+v", time.Since(begun), got)
		}
	})
}

func TestRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := service(t)
		send(t, s, "q", "old")
		timer := time.NewTimer(4*24*time.Hour + time.Second)
		<-timer.C
		send(t, s, "q", "new")
		if got := receive(t, s, "q", 0); len(got) != 1 || got[0].Body != "new" {
			t.Errorf("received %+v", got)
		}
	})
}

func TestAttributesThatAreRefused(t *testing.T) {
	s := service(t)
	for _, bad := range []map[string]string{
		{"VisibilityTimeout": "43201"}, {"DelaySeconds": "x"}, {"Color": "red"}, {"Policy": "{"},
		{"RedrivePolicy": `{"maxReceiveCount":3}`}, {"RedrivePolicy": `{"deadLetterTargetArn":"` + arn + `dead","maxReceiveCount":0}`},
	} {
		if err := s.check(bad); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
}
