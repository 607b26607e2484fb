package lambda

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/jitr-agent/jitr-agent/internal/iotcore/awsapi"
	"github.com/jitr-agent/jitr-agent/internal/iotcore/sqs"
)

// asyncEvent is an event that nobody waits for. It does not change while it is
// in a queue.
type asyncEvent struct {
	ID       string          `json:"id"`
	Payload  json.RawMessage `json:"payload"`
	Received time.Time       `json:"received"`
	Attempts int             `json:"attempts,omitempty"` // that failed
	Due      time.Time       `json:"due"`
	seq      int             // the copies of an event have one ID
}

// asyncQueue holds the asynchronous events of one function, until each is
// done. It is safe for concurrent use.
type asyncQueue struct {
	mu      sync.Mutex
	seq     int
	waiting []*asyncEvent       // in the order of arrival
	later   []*asyncEvent       // to be tried again
	running map[int]*asyncEvent // by seq
	wake    chan struct{}       // of capacity 1
}

func newAsyncQueue(events []*asyncEvent) *asyncQueue {
	q := &asyncQueue{running: map[int]*asyncEvent{}, wake: make(chan struct{}, 1)}
	for _, e := range events {
		q.put(e)
	}
	return q
}

// put takes an event in.
func (q *asyncQueue) put(e *asyncEvent) {
	q.mu.Lock()
	q.seq++
	e.seq = q.seq
	if e.Attempts == 0 {
		q.waiting = append(q.waiting, e)
	} else {
		q.later = append(q.later, e)
	}
	q.mu.Unlock()
	q.rouse()
}

// again puts what becomes of an event that take gave into its place. The event
// is in the queue at every moment.
func (q *asyncQueue) again(e *asyncEvent) {
	q.mu.Lock()
	delete(q.running, e.seq)
	q.later = append(q.later, e)
	q.mu.Unlock()
	q.rouse()
}

// rouse tells who waits to take again.
func (q *asyncQueue) rouse() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take gives an event that is due, or how long until there may be one.
func (q *asyncQueue) take(now time.Time) (*asyncEvent, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	const idle = time.Hour
	wait := idle
	for i, e := range q.later {
		left := e.Due.Sub(now)
		if left <= 0 {
			q.later = slices.Delete(q.later, i, i+1)
			q.running[e.seq] = e
			return e, 0
		}
		wait = min(wait, left)
	}
	if len(q.waiting) == 0 {
		return nil, wait
	}
	e := q.waiting[0]
	q.waiting = q.waiting[1:]
	q.running[e.seq] = e
	return e, 0
}

// done takes an event out.
func (q *asyncQueue) done(e *asyncEvent) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.running, e.seq)
}

// all is what a restart has to do again: what runs now, too.
func (q *asyncQueue) all() []*asyncEvent {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []*asyncEvent
	for _, seq := range slices.Sorted(maps.Keys(q.running)) {
		out = append(out, q.running[seq])
	}
	return slices.Concat(out, q.later, q.waiting)
}

// InvokeAsync hands in an event that is run later, with retries. It does not
// block. The id is the request's.
func (s *Service) InvokeAsync(nameOrARN string, payload []byte) (id string, err error) {
	if len(payload) > maxAsyncPayload {
		return "", awsapi.Refuse(http.StatusRequestEntityTooLarge, "RequestTooLargeException", "%d byte payload is too large for the Event invocation type (limit %d bytes)", len(payload), maxAsyncPayload)
	}
	if len(payload) == 0 {
		payload = []byte("{}")
	}
	if !json.Valid(payload) {
		return "", awsapi.Refuse(http.StatusBadRequest, "InvalidRequestContentException", "Could not parse request body into json")
	}
	id = awsapi.NewID()
	now := time.Now()
	s.mu.Lock()
	f, err := s.byName(nameOrARN)
	s.mu.Unlock()
	if err != nil {
		return "", err
	}
	for range max(1, s.Faults().Copies) {
		f.async.put(&asyncEvent{ID: id, Payload: slices.Clone(payload), Received: now, Due: now})
	}
	s.Changed()
	return id, nil
}

const maxAsyncPayload = 1 << 20 // bytes (Lambda quotas)

// startAsync begins the work on a function's asynchronous events. The caller
// holds s.mu.
func (s *Service) startAsync(name string) {
	f := s.functions[name]
	s.startWorker("function "+name, func(ctx context.Context) { s.serveAsync(ctx, name, f.async) })
}

// startWorker runs f until the server or stopWorker ends it. The caller holds
// s.mu.
func (s *Service) startWorker(name string, f func(context.Context)) {
	if s.running == nil || s.running.Err() != nil {
		return
	}
	ctx, cancel := context.WithCancel(s.running)
	s.workers[name] = cancel
	s.work.Go(func() { f(ctx) })
}

// stopWorker ends a worker and does not wait for it. The caller holds s.mu.
func (s *Service) stopWorker(name string) {
	if cancel, ok := s.workers[name]; ok {
		cancel()
		delete(s.workers, name)
	}
}

func (s *Service) serveAsync(ctx context.Context, name string, q *asyncQueue) {
	var events sync.WaitGroup
	defer events.Wait()
	// More events than places are not taken out of the queue at once: 300,000
	// of them must not become as many goroutines.
	places := make(chan struct{}, 2*maxUnreserved)
	for {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return
		}
		e, wait := q.take(time.Now())
		if e == nil {
			<-places
			timer := time.NewTimer(wait)
			select {
			case <-q.wake:
			case <-timer.C:
			case <-ctx.Done():
			}
			timer.Stop()
			if ctx.Err() != nil {
				return
			}
			continue
		}
		events.Go(func() {
			s.tryAsync(ctx, name, q, e)
			<-places
		})
	}
}

// tryAsync is one attempt at an event. Throttled events wait for a place;
// that is no attempt.
func (s *Service) tryAsync(ctx context.Context, name string, q *asyncQueue, e *asyncEvent) {
	cfg := s.invokeConfig(name)
	aged := e.Received.Add(cfg.maxAge())
	wait, cancel := context.WithDeadline(ctx, aged)
	defer cancel()
	o, err := s.run(wait, name, e.ID, e.Payload, true)
	if ctx.Err() != nil {
		return // it stays in the queue for the next start
	}
	defer s.Changed()
	switch {
	case err == nil && o.functionError == "":
		s.deliver(name, cfg.OnSuccess, e, "Success", o)
		q.done(e)
		return
	case errors.Is(err, context.DeadlineExceeded):
		s.giveUp(name, cfg, e, "EventAgeExceeded", o)
		q.done(e)
		return
	case err != nil:
		o = failed("Lambda.ServiceException", "%v", err)
	}
	next := *e
	next.Attempts++
	next.Due = time.Now().Add(time.Duration(next.Attempts) * s.AsyncRetry)
	switch {
	case next.Attempts > cfg.retries():
		s.giveUp(name, cfg, &next, "RetriesExhausted", o)
		q.done(e)
	case next.Due.After(aged):
		s.giveUp(name, cfg, &next, "EventAgeExceeded", o)
		q.done(e)
	default:
		q.again(&next)
	}
}

// giveUp sends an event to where the failed ones go.
func (s *Service) giveUp(name string, cfg invokeConfig, e *asyncEvent, condition string, o outcome) {
	s.Log.Warn("An asynchronous event is given up.", zap.String("function", name), zap.String("request", e.ID),
		zap.String("condition", condition), zap.ByteString("outcome", o.payload))
	s.deliver(name, cfg.OnFailure, e, condition, o)
	s.mu.Lock()
	f, err := s.byName(name)
	var role, queue string
	if err == nil {
		role, queue = f.Role, f.DeadLetter
	}
	s.mu.Unlock()
	if queue == "" {
		return
	}
	if err = s.IAM.RoleMay(role, name, "sqs:SendMessage", queue); err == nil {
		_, err = s.SQS.Send(queue, string(e.Payload), map[string]sqs.Attribute{
			"RequestID": {DataType: "String", StringValue: e.ID}, "ErrorCode": {DataType: "Number", StringValue: "200"},
			"ErrorMessage": {DataType: "String", StringValue: string(o.payload[:min(len(o.payload), 1024)])},
		})
	}
	if err != nil {
		s.Log.Warn("An event was not put into the dead-letter queue and is lost.", zap.String("function", name), zap.Error(err))
	}
}

// deliver sends the record of an event to a destination, with the function's
// role.
func (s *Service) deliver(name, destination string, e *asyncEvent, condition string, o outcome) {
	if destination == "" {
		return
	}
	s.mu.Lock()
	f, err := s.byName(name)
	var role string
	if err == nil {
		role = f.Role
	}
	s.mu.Unlock()
	record := map[string]any{
		"version": "1.0", "timestamp": time.Now().UTC().Format("2006-01-02T15:04:05.000Z"),
		"requestContext": map[string]any{
			"requestId": e.ID, "functionArn": s.ARN(name) + ":$LATEST", "condition": condition, "approximateInvokeCount": max(1, e.Attempts),
		},
		"requestPayload":  e.Payload,
		"responseContext": map[string]any{"statusCode": http.StatusOK, "executedVersion": "$LATEST", "functionError": o.functionError},
	}
	if json.Valid(o.payload) {
		record["responsePayload"] = json.RawMessage(o.payload)
	}
	body, err := json.Marshal(record)
	if err == nil {
		err = s.send(role, name, destination, body)
	}
	if err != nil {
		s.Log.Warn("An event did not reach its destination and is lost.", zap.String("function", name), zap.String("destination", destination), zap.Error(err))
	}
}

// send puts a record into a queue or hands it to a function.
func (s *Service) send(role, name, destination string, body []byte) error {
	action := "sqs:SendMessage"
	function := strings.Contains(destination, ":lambda:")
	if function {
		action = "lambda:InvokeFunction"
	}
	if err := s.IAM.RoleMay(role, name, action, destination); err != nil {
		return err
	}
	var err error
	if function {
		_, err = s.InvokeAsync(destination, body)
	} else {
		_, err = s.SQS.Send(destination, string(body), nil)
	}
	return err
}
