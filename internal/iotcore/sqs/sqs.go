// Package sqs is the part of Amazon SQS that stands between a rule and a
// Lambda function: standard queues with visibility timeout, delay, long
// polling and a dead-letter queue.
//
// It promises at-least-once delivery as SQS does: a message that was received
// and not deleted becomes visible again. It does not reorder and does not
// duplicate by itself.
package sqs

import (
	"context"
	"crypto/md5" //nolint:gosec // SQS answers with it
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/iotcore/awsapi"
)

// Service is the queues of one account and Region. It is safe for concurrent
// use.
type Service struct {
	place   awsapi.Place
	base    func() string
	changed func()

	mu     sync.Mutex
	queues map[string]*queue
}

// New makes an account without queues. base is what queue URLs begin with, as
// "http://127.0.0.1:8080". changed is told of every change that a restart has
// to remember; it must neither block nor call back.
func New(place awsapi.Place, base func() string, changed func()) *Service {
	return &Service{place: place, base: base, changed: changed, queues: map[string]*queue{}}
}

// Attribute is a message attribute.
type Attribute struct {
	DataType    string `json:"DataType"`
	StringValue string `json:"StringValue,omitempty"`
	BinaryValue []byte `json:"BinaryValue,omitempty"`
}

// Message is a message that was received.
type Message struct {
	ID, Receipt, Body string
	Attributes        map[string]Attribute
	SentAt            time.Time
	FirstReceivedAt   time.Time
	Receives          int // this one included
}

// MD5 is a body's checksum as SQS gives it.
func MD5(body string) string {
	sum := md5.Sum([]byte(body)) //nolint:gosec // SQS answers with it
	return hex.EncodeToString(sum[:])
}

func notThere() error {
	return &awsapi.Error{
		Status: http.StatusBadRequest, Code: "QueueDoesNotExist", Message: "The specified queue does not exist.",
		Fields: map[string]string{awsapi.QueryCode: "AWS.SimpleQueueService.NonExistentQueue"},
	}
}

// ARN is the ARN of a queue by its URL or name.
func (s *Service) ARN(urlOrName string) string {
	return s.place.ARN("sqs", urlOrName[strings.LastIndex(urlOrName, "/")+1:])
}

// byARN finds a queue. The caller holds s.mu.
func (s *Service) byARN(arn string) (*queue, error) {
	name, ok := strings.CutPrefix(arn, s.place.ARN("sqs", ""))
	q, known := s.queues[name]
	if !ok || !known {
		return nil, notThere()
	}
	return q, nil
}

// Send puts a message into a queue and gives its id.
func (s *Service) Send(arn, body string, attributes map[string]Attribute) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.byARN(arn)
	if err != nil {
		return "", err
	}
	id, err := q.send(body, attributes, -1, time.Now())
	if err == nil {
		s.changed()
	}
	return id, err
}

// Receive takes up to limit messages. Where there is none it waits for one,
// until wait is over or ctx ends; then it gives none.
func (s *Service) Receive(ctx context.Context, arn string, limit int, visibility, wait time.Duration) ([]Message, error) {
	until := time.Now().Add(wait)
	for {
		s.mu.Lock()
		q, err := s.byARN(arn)
		if err != nil {
			s.mu.Unlock()
			return nil, err
		}
		now := time.Now()
		got, moved := q.receive(limit, visibility, now)
		for _, m := range moved {
			s.redrive(q, m, now)
		}
		woken, next := q.wake, q.nextVisible
		s.mu.Unlock()
		if len(got) > 0 || len(moved) > 0 {
			s.changed()
		}
		left := until.Sub(now)
		if len(got) > 0 || left <= 0 {
			return got, nil
		}
		if !next.IsZero() {
			left = min(left, next.Sub(now))
		}
		timer := time.NewTimer(left)
		select {
		case <-woken:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, nil
		}
		timer.Stop()
	}
}

// Delete takes a received message out for good. One that was received again
// since stays, and that is no error, as at AWS.
func (s *Service) Delete(arn, receipt string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.byARN(arn)
	if err != nil {
		return err
	}
	if m, ok := q.byReceipt(receipt); ok {
		delete(q.hidden, m.ID)
		s.changed()
	}
	return nil
}

// redrive moves a message that was received too often to the dead-letter
// queue. Where that does not exist it stays. The caller holds s.mu.
func (s *Service) redrive(from *queue, m *message, now time.Time) {
	to, err := s.byARN(from.redrivePolicy().DeadLetterTargetARN)
	if err != nil {
		from.put(m)
		return
	}
	m.VisibleAt, m.Receives = time.Time{}, m.Receives-1
	m.MovedAt = now
	to.put(m)
}

// VisibilityTimeout is that of a queue.
func (s *Service) VisibilityTimeout(arn string) (time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.byARN(arn)
	if err != nil {
		return 0, err
	}
	return q.seconds("VisibilityTimeout"), nil
}

// MarshalJSON is the queues with their messages, for the store.
func (s *Service) MarshalJSON() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return json.Marshal(s.queues)
}

// UnmarshalJSON replaces the queues by stored ones.
func (s *Service) UnmarshalJSON(data []byte) error {
	queues := map[string]*queue{}
	if err := json.Unmarshal(data, &queues); err != nil {
		return err
	}
	for _, q := range queues {
		q.wake = make(chan struct{})
		if q.hidden == nil {
			q.hidden = map[string]*message{}
		}
	}
	s.mu.Lock()
	s.queues = queues
	s.mu.Unlock()
	return nil
}
