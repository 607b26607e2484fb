package activation_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/jitr-agent/jitr-agent/internal/activation"
	at "github.com/jitr-agent/jitr-agent/internal/activation/activationtest"
)

const policyName = "gateways"

// rig is an emulator with one tenant, and a function that the calls of go
// through wire.
type rig struct {
	*at.Cloud
	t    *testing.T
	ca   *at.CA
	wire *wire
	logs *observer.ObservedLogs
	cfg  activation.Config
}

func newRig(t *testing.T) *rig {
	t.Helper()
	c := at.Start(t)
	c.CreatePolicy(t, policyName)
	r := &rig{Cloud: c, t: t, ca: c.NewCA(t, "Acme device CA"), wire: &wire{}}
	r.cfg = activation.Config{
		Policies: map[string]string{r.ca.ID: policyName}, Account: "123456789012",
		QuotaPercent: 1000, // nobody waits for quotas that the emulator does not have
	}
	return r
}

// function is a new instance: it remembers nothing.
func (r *rig) function() *activation.Activator {
	r.t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	a, err := activation.New(r.cfg, r.Client(r.wire, activation.ClientOptions), zap.New(core))
	if err != nil {
		r.t.Fatal(err)
	}
	r.logs = logs
	return a
}

// look asks the registry, past the function's wire.
func (r *rig) look(id string) at.Registered {
	r.t.Helper()
	got, err := at.Look(r.t.Context(), r.Client(nil), id)
	if err != nil {
		r.t.Fatal(err)
	}
	return got
}

func (r *rig) wantActivated(g at.Gateway) {
	r.t.Helper()
	if got := r.look(g.ID); !got.Activated(g.Name, policyName) {
		r.t.Errorf("the registry says %+v; want ACTIVE, the thing %s and the policy %s", got, g.Name, policyName)
	}
}

// result is the one line of the log that has a result, or fails.
func (r *rig) result() map[string]any {
	r.t.Helper()
	var lines []map[string]any
	for _, e := range r.logs.All() {
		if m := e.ContextMap(); m["result"] != nil && m["result"] != string(activation.Duplicate) {
			lines = append(lines, m)
		}
	}
	if len(lines) != 1 {
		r.t.Fatalf("the log has %d results: %v", len(lines), lines)
	}
	return lines[0]
}

// wire is the function's way to AWS.
type wire struct {
	mu     sync.Mutex
	counts map[string]int

	// before may answer a call in AWS's place; after sees an answer, and may
	// lose it. nth counts from 1.
	before func(nth int, op string, req *http.Request) (*http.Response, error)
	after  func(nth int, op string) error
}

func (w *wire) Do(req *http.Request) (*http.Response, error) {
	op := at.Operation(req)
	w.mu.Lock()
	if w.counts == nil {
		w.counts = map[string]int{}
	}
	w.counts[op]++
	nth := 0
	for _, n := range w.counts {
		nth += n
	}
	before, after := w.before, w.after
	w.mu.Unlock()
	if before != nil {
		if resp, err := before(nth, op, req); resp != nil || err != nil {
			return resp, err
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err == nil && after != nil {
		if err := after(nth, op); err != nil {
			resp.Body.Close()
			return nil, err
		}
	}
	return resp, err
}

// took gives the calls since the last time, and counts anew.
func (w *wire) took() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.counts
	w.counts = map[string]int{}
	return c
}

func total(calls map[string]int) int {
	n := 0
	for _, m := range calls {
		n += m
	}
	return n
}

// moved is an event as it would be at another time.
func moved(t *testing.T, event json.RawMessage, by time.Duration) json.RawMessage {
	t.Helper()
	var e map[string]any
	if err := json.Unmarshal(event, &e); err != nil {
		t.Fatal(err)
	}
	e["timestamp"] = int64(e["timestamp"].(float64)) + by.Milliseconds()
	out, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// batch is the payload that Lambda makes of messages; their ids count from 0.
func batch(t *testing.T, bodies ...string) json.RawMessage {
	t.Helper()
	var in events.SQSEvent
	for i, b := range bodies {
		in.Records = append(in.Records, events.SQSMessage{MessageId: strconv.Itoa(i), Body: b, EventSource: "aws:sqs"})
	}
	out, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// failures are the ids that a batch's answer names, in its order.
func failures(t *testing.T, a *activation.Activator, ctx context.Context, payload json.RawMessage) string { //nolint:revive // the test comes first here
	t.Helper()
	answer, err := a.Handle(ctx, payload)
	if err != nil {
		t.Fatal(err)
	}
	// As Lambda reads it.
	data, err := json.Marshal(answer)
	if err != nil {
		t.Fatal(err)
	}
	var out struct {
		BatchItemFailures []struct{ ItemIdentifier string } `json:"batchItemFailures"`
	}
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, f := range out.BatchItemFailures {
		ids = append(ids, f.ItemIdentifier)
	}
	return strings.Join(ids, " ")
}

func handle(t *testing.T, a *activation.Activator, payload json.RawMessage) {
	t.Helper()
	if _, err := a.Handle(t.Context(), payload); err != nil {
		t.Fatal(err)
	}
}

func initMessage(clientID, principal, id, replaces string) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"certificate_id":%q,"replaces":%q,"client_id":%q,"principal":%q}`, id, replaces, clientID, principal))
}
