package rules

import (
	"context"
	"testing"

	"go.uber.org/zap"

	"github.com/jitr-agent/jitr-agent/internal/iotcore/awsapi"
)

// What Observe took in before the end is judged, in one more look at the queue.
func TestEndOfRun(t *testing.T) {
	judged := 0
	e := New(Config{
		Place:   awsapi.Place{Region: "us-east-1", Account: "123456789012"},
		Matches: func(_, _ string) bool { judged++; return false },
		Log:     zap.NewNop(),
	})
	if err := e.UnmarshalJSON([]byte(`{"r":{"name":"r","sql":"SELECT * FROM 'a'"}}`)); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		e.Observe(Message{Topic: "a"})
	}
	ctx, end := context.WithCancel(t.Context())
	end()
	e.Run(ctx)
	if judged != 3 {
		t.Errorf("%d of 3 messages were judged", judged)
	}
}
