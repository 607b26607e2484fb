package sqs

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/iotcore/awsapi"
)

// queue is a standard queue. Its methods want the service's lock held.
type queue struct {
	name       string
	attributes map[string]string // that were set
	tags       map[string]string
	createdAt  time.Time
	modifiedAt time.Time

	ready       []*message          // visible, oldest first
	hidden      map[string]*message // in flight or delayed, by id
	nextVisible time.Time           // when the first of hidden is visible again; zero: none is hidden
	wake        chan struct{}       // closed when something became ready
}

type message struct {
	ID              string               `json:"id"`
	Body            string               `json:"body"`
	Attributes      map[string]Attribute `json:"attributes,omitempty"`
	SentAt          time.Time            `json:"sentAt"`
	FirstReceivedAt time.Time            `json:"firstReceivedAt,omitzero"`
	MovedAt         time.Time            `json:"movedAt,omitzero"` // to a dead-letter queue
	VisibleAt       time.Time            `json:"visibleAt,omitzero"`
	Receives        int                  `json:"receives,omitempty"`
}

// storedQueue is a queue in the store.
type storedQueue struct {
	Name       string              `json:"name"`
	Attributes map[string]string   `json:"attributes,omitempty"`
	Tags       map[string]string   `json:"tags,omitempty"`
	CreatedAt  time.Time           `json:"createdAt"`
	ModifiedAt time.Time           `json:"modifiedAt"`
	Ready      []*message          `json:"ready,omitempty"`
	Hidden     map[string]*message `json:"hidden,omitempty"`
	Next       time.Time           `json:"nextVisible,omitzero"`
}

func (q *queue) MarshalJSON() ([]byte, error) {
	return json.Marshal(storedQueue{q.name, q.attributes, q.tags, q.createdAt, q.modifiedAt, q.ready, q.hidden, q.nextVisible})
}

func (q *queue) UnmarshalJSON(data []byte) error {
	var in storedQueue
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	*q = queue{in.Name, in.Attributes, in.Tags, in.CreatedAt, in.ModifiedAt, in.Ready, in.Hidden, in.Next, nil}
	return nil
}

// defaults of the attributes that can be set (SQS API reference,
// SetQueueAttributes; the message size since 2025).
func defaults() map[string]string {
	return map[string]string{
		"DelaySeconds": "0", "MaximumMessageSize": "1048576", "MessageRetentionPeriod": "345600",
		"ReceiveMessageWaitTimeSeconds": "0", "VisibilityTimeout": "30", "SqsManagedSseEnabled": "true",
		"Policy": "", "RedrivePolicy": "", "RedriveAllowPolicy": "",
	}
}

func (q *queue) attribute(name string) string {
	if v, ok := q.attributes[name]; ok {
		return v
	}
	return defaults()[name]
}

// number is an attribute that was checked when it was set.
func (q *queue) number(name string) int {
	n, err := strconv.Atoi(q.attribute(name))
	if err != nil {
		return 0
	}
	return n
}

func (q *queue) seconds(name string) time.Duration {
	return time.Duration(q.number(name)) * time.Second
}

type redrivePolicy struct {
	DeadLetterTargetARN string      `json:"deadLetterTargetArn"`
	MaxReceiveCount     json.Number `json:"maxReceiveCount"` // AWS takes "5" too
}

// redrivePolicy was checked when it was set.
func (q *queue) redrivePolicy() redrivePolicy {
	var p redrivePolicy
	if json.Unmarshal([]byte(q.attribute("RedrivePolicy")), &p) != nil {
		return redrivePolicy{}
	}
	return p
}

// send puts a new message in. A negative delay is the queue's own.
func (q *queue) send(body string, attributes map[string]Attribute, delay time.Duration, now time.Time) (string, error) {
	if body == "" {
		return "", awsapi.Refuse(http.StatusBadRequest, "MissingParameter", "The request must contain the parameter MessageBody.")
	}
	if limit := q.number("MaximumMessageSize"); len(body) > limit {
		return "", awsapi.Refuse(http.StatusBadRequest, "InvalidParameterValue", "One or more parameters are invalid. Reason: Message must be shorter than %d bytes.", limit)
	}
	if delay < 0 {
		delay = q.seconds("DelaySeconds")
	}
	m := &message{ID: awsapi.NewID(), Body: body, Attributes: attributes, SentAt: now}
	if delay > 0 {
		q.hide(m, now.Add(delay))
	} else {
		q.put(m)
	}
	return m.ID, nil
}

// put makes a message visible.
func (q *queue) put(m *message) {
	q.ready = append(q.ready, m)
	q.rouse()
}

func (q *queue) rouse() {
	close(q.wake)
	q.wake = make(chan struct{})
}

func (q *queue) hide(m *message, until time.Time) {
	m.VisibleAt = until
	q.hidden[m.ID] = m
	if q.nextVisible.IsZero() || until.Before(q.nextVisible) {
		q.nextVisible = until
	}
	q.rouse() // who waits has to wait for another time
}

// expire makes visible again what was hidden long enough.
func (q *queue) expire(now time.Time) {
	if q.nextVisible.IsZero() || now.Before(q.nextVisible) {
		return
	}
	q.nextVisible = time.Time{}
	for id, m := range q.hidden {
		switch {
		case !now.Before(m.VisibleAt):
			delete(q.hidden, id)
			q.ready = append(q.ready, m)
		case q.nextVisible.IsZero() || m.VisibleAt.Before(q.nextVisible):
			q.nextVisible = m.VisibleAt
		}
	}
}

// receive takes up to limit messages. moved are those that were received too
// often; they are in the queue no longer.
func (q *queue) receive(limit int, visibility time.Duration, now time.Time) (got []Message, moved []*message) {
	q.expire(now)
	if visibility < 0 {
		visibility = q.seconds("VisibilityTimeout")
	}
	redrive := q.redrivePolicy()
	maxReceives, err := redrive.MaxReceiveCount.Int64()
	if err != nil || redrive.DeadLetterTargetARN == "" {
		maxReceives = 0
	}
	oldest := now.Add(-q.seconds("MessageRetentionPeriod"))
	for len(got) < limit && len(q.ready) > 0 {
		m := q.ready[0]
		q.ready = q.ready[1:]
		if m.SentAt.Before(oldest) {
			continue
		}
		m.Receives++
		if maxReceives > 0 && int64(m.Receives) > maxReceives {
			moved = append(moved, m)
			continue
		}
		if m.FirstReceivedAt.IsZero() {
			m.FirstReceivedAt = now
		}
		q.hide(m, now.Add(visibility))
		got = append(got, Message{m.ID, m.receipt(), m.Body, m.Attributes, m.SentAt, m.FirstReceivedAt, m.Receives})
	}
	return got, moved
}

// receipt names one receive of a message.
func (m *message) receipt() string { return m.ID + "." + strconv.Itoa(m.Receives) }

// byReceipt finds a message that is in flight, by the receipt of its newest
// receive.
func (q *queue) byReceipt(receipt string) (*message, bool) {
	id, _, _ := strings.Cut(receipt, ".")
	m, ok := q.hidden[id]
	return m, ok && m.receipt() == receipt
}

// counts are the approximate numbers of messages; here they are exact.
func (q *queue) counts(now time.Time) (visible, inFlight, delayed int) {
	q.expire(now)
	for _, m := range q.hidden {
		if m.Receives == 0 {
			delayed++
		} else {
			inFlight++
		}
	}
	return len(q.ready), inFlight, delayed
}
