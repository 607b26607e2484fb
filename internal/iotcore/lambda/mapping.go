package lambda

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/jitr-agent/jitr-agent/internal/iotcore/awsapi"
	"github.com/jitr-agent/jitr-agent/internal/iotcore/sqs"
)

// mapping feeds a function from a queue.
type mapping struct {
	UUID           string            `json:"uuid"`
	Queue          string            `json:"queue"` // ARN
	Function       string            `json:"function"`
	BatchSize      int               `json:"batchSize"`
	Window         int               `json:"window"` // seconds that a batch may wait for more
	Enabled        bool              `json:"enabled"`
	ReportFailures bool              `json:"reportFailures,omitempty"` // ReportBatchItemFailures
	Concurrency    int               `json:"concurrency,omitempty"`    // 0: Lambda's own
	Tags           map[string]string `json:"tags,omitempty"`
	CreatedAt      time.Time         `json:"createdAt"`
	ModifiedAt     time.Time         `json:"modifiedAt"`

	result string // of the last batch
}

// pollers is how many batches Lambda works on at once in the beginning, where
// nobody has set MaximumConcurrency (Lambda developer guide, SQS scaling).
const pollers = 5

// startMapping begins to poll. The caller holds s.mu.
func (s *Service) startMapping(id string) {
	m := *s.mappings[id]
	s.stopWorker("mapping " + id)
	if m.Enabled {
		s.startWorker("mapping "+id, func(ctx context.Context) { s.poll(ctx, m) })
	}
}

// poll takes batches out of the queue. It is one poller: what AWS does with
// several of them is bounded by places all the same.
func (s *Service) poll(ctx context.Context, m mapping) {
	var batches sync.WaitGroup
	defer batches.Wait()
	n := m.Concurrency
	if n == 0 {
		n = pollers
	}
	places := make(chan struct{}, n)
	for {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return
		}
		batch, err := s.gather(ctx, m)
		if err != nil || len(batch) == 0 {
			<-places
			if err != nil {
				s.setResult(m.UUID, "PROBLEM: "+err.Error())
				pause(ctx, time.Second)
			}
			continue
		}
		batches.Go(func() {
			s.setResult(m.UUID, s.serveBatch(ctx, m, batch))
			<-places
		})
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// longPoll is how long one receive waits (SQS, WaitTimeSeconds).
const longPoll = 20 * time.Second

// gather waits for a message, and then for more until the batch is full or
// its window over.
func (s *Service) gather(ctx context.Context, m mapping) ([]sqs.Message, error) {
	s.mu.Lock()
	f, err := s.byName(m.Function)
	var role string
	if err == nil {
		role = f.Role
	}
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if err := s.mayPoll(role, m.Function, m.Queue); err != nil {
		return nil, err
	}
	batch, err := s.SQS.Receive(ctx, m.Queue, m.BatchSize, -1, longPoll)
	if err != nil || len(batch) == 0 {
		return nil, err
	}
	until := time.Now().Add(time.Duration(m.Window) * time.Second)
	for len(batch) < m.BatchSize && ctx.Err() == nil {
		left := time.Until(until)
		if left <= 0 {
			break
		}
		more, err := s.SQS.Receive(ctx, m.Queue, m.BatchSize-len(batch), -1, left)
		if err != nil {
			return nil, err
		}
		batch = append(batch, more...)
	}
	return batch, nil
}

func (s *Service) mayPoll(role, function, queue string) error {
	for _, action := range []string{"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"} {
		if err := s.IAM.RoleMay(role, function, action, queue); err != nil {
			return err
		}
	}
	return nil
}

// record is a message in the event that the function gets.
type record struct {
	MessageID         string                      `json:"messageId"`
	ReceiptHandle     string                      `json:"receiptHandle"`
	Body              string                      `json:"body"`
	Attributes        map[string]string           `json:"attributes"`
	MessageAttributes map[string]messageAttribute `json:"messageAttributes"`
	MD5OfBody         string                      `json:"md5OfBody"`
	EventSource       string                      `json:"eventSource"`
	EventSourceARN    string                      `json:"eventSourceARN"`
	AWSRegion         string                      `json:"awsRegion"`
}

// messageAttribute is spelled in the event otherwise than in the SQS API.
type messageAttribute struct {
	DataType    string `json:"dataType"`
	StringValue string `json:"stringValue,omitempty"`
	BinaryValue []byte `json:"binaryValue,omitempty"`
}

// serveBatch lets the function work on a batch, and deletes what it did. It
// returns AWS's LastProcessingResult.
func (s *Service) serveBatch(ctx context.Context, m mapping, batch []sqs.Message) string {
	defer s.Changed()
	records := make([]record, 0, len(batch))
	for _, msg := range batch {
		r := record{
			MessageID: msg.ID, ReceiptHandle: msg.Receipt, Body: msg.Body, Attributes: msg.System(),
			MessageAttributes: map[string]messageAttribute{}, MD5OfBody: sqs.MD5(msg.Body),
			EventSource: "aws:sqs", EventSourceARN: m.Queue, AWSRegion: s.Place.Region,
		}
		for name, a := range msg.Attributes {
			r.MessageAttributes[name] = messageAttribute(a)
		}
		records = append(records, r)
	}
	payload, err := json.Marshal(map[string]any{"Records": records})
	if err != nil {
		return "PROBLEM: " + err.Error()
	}
	// A batch that finds no place before its messages are visible again goes
	// back, and has been received once more: that is how messages end in a
	// dead-letter queue without ever having been looked at.
	visibility, err := s.SQS.VisibilityTimeout(m.Queue)
	if err != nil {
		return "PROBLEM: " + err.Error()
	}
	wait, cancel := context.WithTimeout(ctx, visibility)
	defer cancel()
	o, err := s.run(wait, m.Function, awsapi.NewID(), payload, true)
	if err == nil && o.functionError != "" {
		err = errors.New("Function call failed") //nolint:staticcheck // AWS's words
	}
	if err != nil {
		return "PROBLEM: " + err.Error()
	}
	done := batch
	if m.ReportFailures {
		if done, err = succeeded(batch, o.payload); err != nil {
			s.Log.Warn("A function's answer to a batch is not valid; the whole batch comes again.", zap.String("function", m.Function), zap.Error(err))
			return "PROBLEM: " + err.Error()
		}
	}
	for _, msg := range done {
		if err := s.SQS.Delete(m.Queue, msg.Receipt); err != nil {
			return "PROBLEM: " + err.Error()
		}
	}
	return "OK"
}

// succeeded reads a partial batch response (Lambda developer guide, reporting
// batch item failures): an answer that is not one fails the whole batch.
func succeeded(batch []sqs.Message, payload []byte) ([]sqs.Message, error) {
	var answer struct {
		BatchItemFailures []struct {
			ItemIdentifier string `json:"itemIdentifier"`
		} `json:"batchItemFailures"`
	}
	if len(payload) == 0 || string(payload) == "null" {
		return batch, nil
	}
	if err := json.Unmarshal(payload, &answer); err != nil {
		return nil, err
	}
	done := slices.Clone(batch)
	for _, f := range answer.BatchItemFailures {
		i := slices.IndexFunc(done, func(m sqs.Message) bool { return m.ID == f.ItemIdentifier })
		if i < 0 {
			return nil, errors.New("itemIdentifier " + f.ItemIdentifier + " is not in the batch")
		}
		done = slices.Delete(done, i, i+1)
	}
	return done, nil
}

func (s *Service) setResult(id, result string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m, ok := s.mappings[id]; ok {
		m.result = result
	}
}
