package storm

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"github.com/jitr-agent/jitr-agent/internal/activation"
)

// message is an event in the queue.
type message struct {
	gateway int
	at      time.Time // of the event
	visible time.Time // not before
}

// queue is an SQS standard queue: it has no order. Safe for concurrent use.
type queue struct {
	mu     sync.Mutex
	ready  []message
	hidden []message // that failed, in the order in which they become visible
	sent   int
	again  int // deliveries of what failed before
	wake   chan struct{}
}

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1)} }

func (q *queue) send(m message) {
	q.mu.Lock()
	q.sent++
	q.ready = append(q.ready, m)
	q.mu.Unlock()
	q.signal()
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// receive takes up to n messages in no order.
func (q *queue) receive(n int) []message {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	for len(q.hidden) > 0 && !now.Before(q.hidden[0].visible) {
		q.ready = append(q.ready, q.hidden[0])
		q.hidden = q.hidden[1:]
		q.again++
	}
	var out []message
	for len(out) < n && len(q.ready) > 0 {
		i, last := rand.IntN(len(q.ready)), len(q.ready)-1
		out = append(out, q.ready[i])
		q.ready[i], q.ready = q.ready[last], q.ready[:last]
	}
	return out
}

func (q *queue) hide(failed []message, until time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, m := range failed {
		m.visible = until
		q.hidden = append(q.hidden, m)
	}
}

// left is how many messages are in it.
func (q *queue) left() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.ready) + len(q.hidden)
}

// deployment is how the function is set up.
type deployment struct {
	name      string
	instances int           // that work at once
	batch     int           // 0: no queue; an invocation has one event
	window    time.Duration // in which a batch is gathered
	hidden    time.Duration // visibility timeout
	blind     bool          // ListCertificatesByCA is denied: no instance learns of the others' work
}

// What AWS itself takes for an invocation, duplicates included.
const invocationTakes = 5 * time.Millisecond

// work is one instance of the function and who invokes it, until ctx ends.
func (d deployment) work(ctx context.Context, q *queue, s *scene, f *activation.Activator) error {
	poll := time.NewTicker(time.Second) // also for what becomes visible again
	defer poll.Stop()
	for {
		batch := q.receive(max(1, d.batch))
		if len(batch) == 0 {
			select {
			case <-q.wake:
			case <-poll.C:
			case <-ctx.Done():
				return nil
			}
			continue
		}
		q.signal() // there may be more, for the others
		if short := d.batch - len(batch); short > 0 {
			if pass(ctx, d.window) != nil {
				return nil
			}
			batch = append(batch, q.receive(short)...)
		}
		if pass(ctx, invocationTakes) != nil {
			return nil
		}
		received := time.Now()
		failed, err := d.invoke(ctx, s, f, batch)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		q.hide(failed, received.Add(d.hidden))
	}
}

// invoke gives the messages that failed.
func (d deployment) invoke(ctx context.Context, s *scene, f *activation.Activator, batch []message) ([]message, error) {
	ctx, cancel := context.WithTimeout(ctx, activation.Timeout)
	defer cancel()
	if d.batch == 0 {
		if _, err := f.Handle(ctx, s.event(batch[0])); err != nil {
			return batch, nil // as an asynchronous invocation does
		}
		return nil, nil
	}
	var in events.SQSEvent
	for i, m := range batch {
		in.Records = append(in.Records, events.SQSMessage{MessageId: strconv.Itoa(i), Body: string(s.event(m)), EventSource: "aws:sqs"})
	}
	payload, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	answer, err := f.Handle(ctx, payload)
	if err != nil {
		return nil, fmt.Errorf("a batch failed as a whole: %w", err)
	}
	var failed []message
	for _, item := range answer.(events.SQSEventResponse).BatchItemFailures {
		i, err := strconv.Atoi(item.ItemIdentifier)
		if err != nil {
			return nil, err
		}
		failed = append(failed, batch[i])
	}
	return failed, nil
}
