// Package rules is the rule engine of AWS IoT Core as far as just-in-time
// registration, initialisation and lifecycle need it: topic rules in IoT SQL
// with the actions lambda and sqs, and an error action.
//
// It promises that a rule does only what it may: a Lambda function is called
// where the function's own policy allows iot.amazonaws.com on behalf of this
// rule, and a queue gets a message with a role that trusts iot.amazonaws.com.
// Messages are looked at in their order, on a goroutine of its own, and each
// one that Observe took in before Run is told to end.
package rules

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/jitr-agent/jitr-agent/internal/iotcore/awsapi"
	"github.com/jitr-agent/jitr-agent/internal/iotcore/iam"
	"github.com/jitr-agent/jitr-agent/internal/iotcore/lambda"
	"github.com/jitr-agent/jitr-agent/internal/iotcore/sqs"
)

// Config is what an Engine needs. All of it must be given.
type Config struct {
	Place  awsapi.Place
	IAM    *iam.Service
	Lambda *lambda.Service
	SQS    *sqs.Service
	// Matches is the broker's own rule of topic filters.
	Matches func(filter, topic string) bool
	// Copies is how often a message is put into a queue: at least once is
	// what SQS promises. Asked each time; below 2: once.
	Copies  func() int
	Changed func() // must neither block nor call back
	Log     *zap.Logger
}

// Engine is the rules of one account and Region. It is safe for concurrent
// use.
type Engine struct {
	Config

	mu    sync.Mutex
	rules map[string]*rule

	queueMu sync.Mutex
	queue   []Message
	wake    chan struct{} // of capacity 1
}

// rule is a topic rule as it is stored.
type rule struct {
	Name        string            `json:"name"`
	SQL         string            `json:"sql"`
	Version     string            `json:"version"`
	Description string            `json:"description,omitempty"`
	Disabled    bool              `json:"disabled,omitempty"`
	Actions     []action          `json:"actions"`
	ErrorAction *action           `json:"errorAction,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
	CreatedAt   time.Time         `json:"createdAt"`

	statement *statement
}

// New makes an engine without rules.
func New(cfg Config) *Engine {
	return &Engine{Config: cfg, rules: map[string]*rule{}, wake: make(chan struct{}, 1)}
}

// Observe takes a message in. It does not block.
func (e *Engine) Observe(m Message) {
	e.mu.Lock()
	none := len(e.rules) == 0
	e.mu.Unlock()
	if none {
		return
	}
	e.queueMu.Lock()
	e.queue = append(e.queue, m)
	e.queueMu.Unlock()
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// take empties the queue.
func (e *Engine) take() []Message {
	e.queueMu.Lock()
	defer e.queueMu.Unlock()
	batch := e.queue
	e.queue = nil
	return batch
}

// Run looks at messages until ctx ends, and then once more at those that are
// in the queue: their publishers have the PUBACK.
func (e *Engine) Run(ctx context.Context) {
	for {
		last := ctx.Err() != nil
		batch := e.take()
		for _, m := range batch {
			e.judge(m)
		}
		if last {
			return
		}
		if len(batch) > 0 {
			continue
		}
		select {
		case <-e.wake:
		case <-ctx.Done():
		}
	}
}

// judge does what the rules say of one message.
func (e *Engine) judge(m Message) {
	e.mu.Lock()
	var hit []*rule
	for _, r := range e.rules {
		if !r.Disabled && e.Matches(r.statement.filter, m.Topic) {
			hit = append(hit, r) // a rule is replaced, never changed
		}
	}
	e.mu.Unlock()
	for _, r := range hit {
		payload, ok := r.statement.selects(m, e.Place.Account)
		if !ok {
			continue
		}
		var failures []failure
		for _, a := range r.Actions {
			if err := e.do(a, r, payload); err != nil {
				failures = append(failures, failure{a.kind(), a.resource(), err.Error()})
				e.Log.Warn("A rule's action failed.", zap.String("rule", r.Name), zap.String("topic", m.Topic), zap.String("action", a.kind()), zap.Error(err))
			}
		}
		if len(failures) > 0 && r.ErrorAction != nil {
			e.report(r, m, failures)
		}
	}
}

// failure is one action that failed, as the error action is told it (AWS IoT
// developer guide, error handling).
type failure struct {
	Action   string `json:"failedAction"`
	Resource string `json:"failedResource"`
	Message  string `json:"errorMessage"`
}

func (e *Engine) report(r *rule, m Message, failures []failure) {
	clientID := m.ClientID
	if clientID == "" {
		clientID = "N/A"
	}
	payload, err := json.Marshal(map[string]any{
		"ruleName": r.Name, "topic": m.Topic, "cloudwatchTraceId": awsapi.NewID(), "clientId": clientID,
		"base64OriginalPayload": base64.StdEncoding.EncodeToString(m.Payload), "failures": failures,
	})
	if err == nil {
		err = e.do(*r.ErrorAction, r, payload)
	}
	if err != nil {
		e.Log.Warn("A rule's error action failed too; the message is lost.", zap.String("rule", r.Name), zap.String("topic", m.Topic), zap.Error(err))
	}
}

// service is who acts.
const service = "iot.amazonaws.com"

// do carries out one action.
func (e *Engine) do(a action, r *rule, payload []byte) error {
	switch {
	case a.Lambda != nil:
		if !e.Lambda.Allows(a.Lambda.FunctionArn, service, e.ARN(r.Name)) {
			return fmt.Errorf("iot.amazonaws.com is not authorized to perform: lambda:InvokeFunction on resource: %s for the rule %s", a.Lambda.FunctionArn, e.ARN(r.Name))
		}
		_, err := e.Lambda.InvokeAsync(a.Lambda.FunctionArn, payload)
		return err
	case a.SQS != nil:
		queue := e.SQS.ARN(a.SQS.QueueURL)
		if err := e.mayAs(r, a.SQS.RoleArn, "sqs:SendMessage", queue); err != nil {
			return err
		}
		body := string(payload)
		if a.SQS.UseBase64 {
			body = base64.StdEncoding.EncodeToString(payload)
		}
		for range max(1, e.Copies()) {
			if _, err := e.SQS.Send(queue, body, nil); err != nil {
				return err
			}
		}
		return nil
	}
	return errors.New("the rule has an action that the emulator does not know")
}

// mayAs says whether a rule may do something with a role.
func (e *Engine) mayAs(r *rule, role, action, resource string) error {
	if !e.IAM.CanAssume(role, service, e.ARN(r.Name), 0) {
		return fmt.Errorf("iot.amazonaws.com is unable to perform: sts:AssumeRole on resource: %s", role)
	}
	return e.IAM.RoleMay(role, "iot-rule", action, resource)
}

// ARN is that of a rule.
func (e *Engine) ARN(name string) string { return e.Place.ARN("iot", "rule/"+name) }

// MarshalJSON is the rules, for the store.
func (e *Engine) MarshalJSON() ([]byte, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return json.Marshal(e.rules)
}

// UnmarshalJSON replaces the rules by stored ones.
func (e *Engine) UnmarshalJSON(data []byte) error {
	in := map[string]*rule{}
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	for name, r := range in {
		var err error
		if r.statement, err = parse(r.SQL); err != nil {
			return fmt.Errorf("rule %s: %w", name, err)
		}
	}
	e.mu.Lock()
	e.rules = in
	e.mu.Unlock()
	return nil
}
