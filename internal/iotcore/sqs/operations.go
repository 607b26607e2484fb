package sqs

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/iotcore/awsapi"
	"github.com/jitr-agent/jitr-agent/internal/policy"
)

// Target begins the X-Amz-Target header of SQS (JSON 1.0).
const Target = "AmazonSQS"

const maxRequest = 4 << 20 // bytes: a message of 1 MiB in JSON

// Operations are those of SQS.
func (s *Service) Operations() map[string]awsapi.Operation {
	byName := func(r *awsapi.Request) []string { return []string{s.ARN(r.Field("QueueName"))} }
	byURL := func(r *awsapi.Request) []string { return []string{s.ARN(r.Field("QueueUrl"))} }
	ops := map[string]awsapi.Operation{
		"CreateQueue": {Resources: byName, Handle: s.createQueue},
		"GetQueueUrl": {Resources: byName, Handle: s.getQueueURL},
		"ListQueues":  {Handle: s.listQueues},
		// The batches have the IAM action of the single operation.
		"DeleteMessageBatch": {Action: "sqs:DeleteMessage", Resources: byURL, Handle: s.deleteMessageBatch},
		"SendMessageBatch":   {Action: "sqs:SendMessage", Resources: byURL, Handle: s.sendMessageBatch},
	}
	for name, handle := range map[string]awsapi.Handler{
		"DeleteQueue": s.deleteQueue, "PurgeQueue": s.purgeQueue,
		"GetQueueAttributes": s.getQueueAttributes, "SetQueueAttributes": s.setQueueAttributes,
		"SendMessage": s.sendMessage, "ReceiveMessage": s.receiveMessage, "DeleteMessage": s.deleteMessage,
		"ChangeMessageVisibility": s.changeMessageVisibility,
		"TagQueue":                s.tagQueue, "UntagQueue": s.untagQueue, "ListQueueTags": s.listQueueTags,
	} {
		ops[name] = awsapi.Operation{Resources: byURL, Handle: handle}
	}
	for name, op := range ops {
		op.Action, op.MaxBody = cmp.Or(op.Action, "sqs:"+name), maxRequest
		ops[name] = op
	}
	return ops
}

func invalid(format string, args ...any) error {
	return awsapi.Refuse(http.StatusBadRequest, "InvalidParameterValue", format, args...)
}

func (s *Service) url(name string) string { return s.base() + "/" + s.place.Account + "/" + name }

// with decodes the request into in and calls f, with the lock held, for the
// queue that it names.
func (s *Service) with(r *awsapi.Request, in any, f func(*queue) (any, error)) (any, error) {
	if err := r.JSON(in); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.byARN(s.ARN(r.Field("QueueUrl")))
	if err != nil {
		return nil, err
	}
	return f(q)
}

var queueName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,80}$`)

func (s *Service) createQueue(r *awsapi.Request) (any, error) {
	var in struct {
		QueueName  string
		Attributes map[string]string
		Tags       map[string]string `json:"tags"`
	}
	if err := r.JSON(&in); err != nil {
		return nil, err
	}
	if strings.HasSuffix(in.QueueName, ".fifo") || in.Attributes["FifoQueue"] == "true" {
		return nil, invalid("The emulator has standard queues only; a rule cannot send to a FIFO queue")
	}
	if !queueName.MatchString(in.QueueName) {
		return nil, invalid("Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length")
	}
	if err := s.check(in.Attributes); err != nil {
		return nil, err
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if have, ok := s.queues[in.QueueName]; ok {
		for name, value := range in.Attributes {
			if have.attribute(name) != value {
				return nil, &awsapi.Error{
					Status: http.StatusBadRequest, Code: "QueueNameExists",
					Message: "A queue already exists with the same name and a different value for attribute " + name,
					Fields:  map[string]string{awsapi.QueryCode: "QueueAlreadyExists"},
				}
			}
		}
		return map[string]string{"QueueUrl": s.url(in.QueueName)}, nil
	}
	s.queues[in.QueueName] = &queue{
		name: in.QueueName, attributes: in.Attributes, tags: in.Tags, createdAt: now, modifiedAt: now,
		hidden: map[string]*message{}, wake: make(chan struct{}),
	}
	s.changed()
	return map[string]string{"QueueUrl": s.url(in.QueueName)}, nil
}

// check judges attributes that are to be set.
func (s *Service) check(attributes map[string]string) error {
	ranges := map[string][2]int{ // SQS API reference, SetQueueAttributes
		"DelaySeconds": {0, 900}, "MaximumMessageSize": {1024, 1 << 20}, "MessageRetentionPeriod": {60, 1209600},
		"ReceiveMessageWaitTimeSeconds": {0, 20}, "VisibilityTimeout": {0, 43200},
	}
	for name, value := range attributes {
		if limits, ok := ranges[name]; ok {
			if n, err := strconv.Atoi(value); err != nil || n < limits[0] || n > limits[1] {
				return awsapi.Refuse(http.StatusBadRequest, "InvalidAttributeValue", "Invalid value for the parameter %s.", name)
			}
			continue
		}
		switch name {
		case "Policy":
			if _, err := policy.ParseResource([]byte(value)); value != "" && err != nil {
				return awsapi.Refuse(http.StatusBadRequest, "InvalidAttributeValue", "Invalid value for the parameter Policy: %v", err)
			}
		case "RedrivePolicy":
			var p redrivePolicy
			if value == "" {
				break
			}
			n, err := int64(0), json.Unmarshal([]byte(value), &p)
			if err == nil {
				n, err = p.MaxReceiveCount.Int64()
			}
			if err != nil || n < 1 || n > 1000 || !strings.HasPrefix(p.DeadLetterTargetARN, s.place.ARN("sqs", "")) {
				return awsapi.Refuse(http.StatusBadRequest, "InvalidParameterValue",
					"Value %s for parameter RedrivePolicy is invalid. Reason: Redrive policy must be a JSON map with deadLetterTargetArn and maxReceiveCount.", value)
			}
		case "RedriveAllowPolicy", "SqsManagedSseEnabled", "KmsMasterKeyId", "KmsDataKeyReusePeriodSeconds":
		default:
			return awsapi.Refuse(http.StatusBadRequest, "InvalidAttributeName", "Unknown Attribute %s.", name)
		}
	}
	return nil
}

func (s *Service) getQueueURL(r *awsapi.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.byARN(s.ARN(r.Field("QueueName")))
	if err != nil {
		return nil, err
	}
	return map[string]string{"QueueUrl": s.url(q.name)}, nil
}

func (s *Service) listQueues(r *awsapi.Request) (any, error) {
	var in struct {
		QueueNamePrefix, NextToken string
		MaxResults                 *int
	}
	if err := r.JSON(&in); err != nil {
		return nil, err
	}
	size := 1000
	if in.MaxResults != nil {
		size = max(1, min(*in.MaxResults, 1000))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	names := slices.Sorted(maps.Keys(s.queues))
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, in.QueueNamePrefix) })
	names, next := awsapi.Page(names, in.NextToken, size, func(n string) string { return n })
	out := map[string]any{}
	if next != "" {
		out["NextToken"] = next
	}
	urls := []string{}
	for _, name := range names {
		urls = append(urls, s.url(name))
	}
	out["QueueUrls"] = urls
	return out, nil
}

func (s *Service) deleteQueue(r *awsapi.Request) (any, error) {
	return s.with(r, &struct{}{}, func(q *queue) (any, error) {
		delete(s.queues, q.name)
		q.rouse() // who waits hears that it is gone
		s.changed()
		return nil, nil
	})
}

func (s *Service) purgeQueue(r *awsapi.Request) (any, error) {
	return s.with(r, &struct{}{}, func(q *queue) (any, error) {
		q.ready, q.hidden, q.nextVisible = nil, map[string]*message{}, time.Time{}
		s.changed()
		return nil, nil
	})
}

func (s *Service) getQueueAttributes(r *awsapi.Request) (any, error) {
	var in struct{ AttributeNames []string }
	return s.with(r, &in, func(q *queue) (any, error) {
		visible, inFlight, delayed := q.counts(time.Now())
		all := map[string]string{
			"QueueArn":                              s.place.ARN("sqs", q.name),
			"CreatedTimestamp":                      strconv.FormatInt(q.createdAt.Unix(), 10),
			"LastModifiedTimestamp":                 strconv.FormatInt(q.modifiedAt.Unix(), 10),
			"ApproximateNumberOfMessages":           strconv.Itoa(visible),
			"ApproximateNumberOfMessagesNotVisible": strconv.Itoa(inFlight),
			"ApproximateNumberOfMessagesDelayed":    strconv.Itoa(delayed),
		}
		for name := range defaults() {
			if v := q.attribute(name); v != "" {
				all[name] = v
			}
		}
		out := map[string]string{}
		for _, name := range in.AttributeNames {
			if name == "All" {
				return map[string]any{"Attributes": all}, nil
			}
			if v, ok := all[name]; ok {
				out[name] = v
			}
		}
		return map[string]any{"Attributes": out}, nil
	})
}

func (s *Service) setQueueAttributes(r *awsapi.Request) (any, error) {
	var in struct{ Attributes map[string]string }
	return s.with(r, &in, func(q *queue) (any, error) {
		if err := s.check(in.Attributes); err != nil {
			return nil, err
		}
		attributes := maps.Clone(q.attributes)
		if attributes == nil {
			attributes = map[string]string{}
		}
		maps.Copy(attributes, in.Attributes)
		q.attributes, q.modifiedAt = attributes, time.Now()
		s.changed()
		return nil, nil
	})
}

// sending is one message to be sent.
type sending struct {
	ID                string `json:"Id"` // of a batch
	MessageBody       string
	DelaySeconds      *int
	MessageAttributes map[string]Attribute
}

func (m sending) delay() time.Duration {
	if m.DelaySeconds == nil {
		return -1
	}
	return time.Duration(*m.DelaySeconds) * time.Second
}

func (s *Service) sendMessage(r *awsapi.Request) (any, error) {
	var in sending
	return s.with(r, &in, func(q *queue) (any, error) {
		id, err := q.send(in.MessageBody, in.MessageAttributes, in.delay(), time.Now())
		if err != nil {
			return nil, err
		}
		s.changed()
		return map[string]string{"MessageId": id, "MD5OfMessageBody": MD5(in.MessageBody)}, nil
	})
}

// batchFailure is one entry of a batch that did not succeed.
type batchFailure struct {
	ID          string `json:"Id"`
	SenderFault bool
	Code        string
	Message     string
}

func checkBatch(n int) error {
	if n < 1 || n > 10 {
		return awsapi.Refuse(http.StatusBadRequest, "TooManyEntriesInBatchRequest", "A batch has 1 to 10 entries; you have sent %d.", n)
	}
	return nil
}

func (s *Service) sendMessageBatch(r *awsapi.Request) (any, error) {
	var in struct{ Entries []sending }
	return s.with(r, &in, func(q *queue) (any, error) {
		if err := checkBatch(len(in.Entries)); err != nil {
			return nil, err
		}
		type sent struct {
			ID               string `json:"Id"`
			MessageID        string `json:"MessageId"`
			MD5OfMessageBody string
		}
		good, bad := []sent{}, []batchFailure{}
		for _, e := range in.Entries {
			id, err := q.send(e.MessageBody, e.MessageAttributes, e.delay(), time.Now())
			if err != nil {
				bad = append(bad, batchFailure{e.ID, true, "InvalidParameterValue", err.Error()})
				continue
			}
			good = append(good, sent{e.ID, id, MD5(e.MessageBody)})
		}
		s.changed()
		return map[string]any{"Successful": good, "Failed": bad}, nil
	})
}

func (s *Service) receiveMessage(r *awsapi.Request) (any, error) {
	var in struct {
		QueueURL                                    string `json:"QueueUrl"`
		MaxNumberOfMessages                         *int
		VisibilityTimeout                           *int
		WaitTimeSeconds                             *int
		AttributeNames, MessageSystemAttributeNames []string
		MessageAttributeNames                       []string
	}
	if err := r.JSON(&in); err != nil {
		return nil, err
	}
	arn := s.ARN(in.QueueURL)
	limit, visibility := 1, time.Duration(-1)
	if in.MaxNumberOfMessages != nil {
		limit = *in.MaxNumberOfMessages
	}
	if limit < 1 || limit > 10 {
		return nil, invalid("Value %d for parameter MaxNumberOfMessages is invalid. Reason: Must be between 1 and 10, if provided.", limit)
	}
	if in.VisibilityTimeout != nil {
		visibility = time.Duration(*in.VisibilityTimeout) * time.Second
	}
	var wait time.Duration
	if in.WaitTimeSeconds != nil {
		wait = time.Duration(*in.WaitTimeSeconds) * time.Second
	} else {
		s.mu.Lock()
		if q, err := s.byARN(arn); err == nil {
			wait = q.seconds("ReceiveMessageWaitTimeSeconds")
		}
		s.mu.Unlock()
	}
	got, err := s.Receive(r.Context(), arn, limit, visibility, min(wait, 20*time.Second))
	if err != nil {
		return nil, err
	}
	type received struct {
		MessageID         string `json:"MessageId"`
		ReceiptHandle     string
		MD5OfBody         string
		Body              string
		Attributes        map[string]string    `json:",omitempty"`
		MessageAttributes map[string]Attribute `json:",omitempty"`
	}
	wanted := slices.Concat(in.AttributeNames, in.MessageSystemAttributeNames)
	out := []received{}
	for _, m := range got {
		one := received{MessageID: m.ID, ReceiptHandle: m.Receipt, MD5OfBody: MD5(m.Body), Body: m.Body}
		system := m.System()
		maps.DeleteFunc(system, func(name, _ string) bool { return !slices.Contains(wanted, name) && !slices.Contains(wanted, "All") })
		one.Attributes = system
		if len(in.MessageAttributeNames) > 0 {
			one.MessageAttributes = m.Attributes
		}
		out = append(out, one)
	}
	return map[string]any{"Messages": out}, nil
}

// System are the attributes that SQS itself gives a message.
func (m Message) System() map[string]string {
	return map[string]string{
		"ApproximateReceiveCount":          strconv.Itoa(m.Receives),
		"SentTimestamp":                    strconv.FormatInt(m.SentAt.UnixMilli(), 10),
		"ApproximateFirstReceiveTimestamp": strconv.FormatInt(m.FirstReceivedAt.UnixMilli(), 10),
		"SenderId":                         "AIDAEMULATOR",
	}
}

func (s *Service) deleteMessage(r *awsapi.Request) (any, error) {
	return nil, s.Delete(s.ARN(r.Field("QueueUrl")), r.Field("ReceiptHandle"))
}

func (s *Service) deleteMessageBatch(r *awsapi.Request) (any, error) {
	var in struct {
		QueueURL string `json:"QueueUrl"`
		Entries  []struct {
			ID            string `json:"Id"`
			ReceiptHandle string
		}
	}
	if err := r.JSON(&in); err != nil {
		return nil, err
	}
	if err := checkBatch(len(in.Entries)); err != nil {
		return nil, err
	}
	type done struct {
		ID string `json:"Id"`
	}
	good := []done{}
	for _, e := range in.Entries {
		if err := s.Delete(s.ARN(in.QueueURL), e.ReceiptHandle); err != nil {
			return nil, err
		}
		good = append(good, done{e.ID})
	}
	return map[string]any{"Successful": good, "Failed": []batchFailure{}}, nil
}

func (s *Service) changeMessageVisibility(r *awsapi.Request) (any, error) {
	var in struct {
		ReceiptHandle     string
		VisibilityTimeout int
	}
	return s.with(r, &in, func(q *queue) (any, error) {
		if in.VisibilityTimeout < 0 || in.VisibilityTimeout > 43200 {
			return nil, invalid("Value %d for parameter VisibilityTimeout is invalid. Reason: Must be between 0 and 43200.", in.VisibilityTimeout)
		}
		m, ok := q.byReceipt(in.ReceiptHandle)
		if !ok {
			return nil, awsapi.Refuse(http.StatusBadRequest, "MessageNotInflight", "The message referred to is not in flight.")
		}
		q.hide(m, time.Now().Add(time.Duration(in.VisibilityTimeout)*time.Second))
		s.changed()
		return nil, nil
	})
}

func (s *Service) tagQueue(r *awsapi.Request) (any, error) {
	var in struct{ Tags map[string]string }
	return s.with(r, &in, func(q *queue) (any, error) {
		q.tags = awsapi.Retag(q.tags, in.Tags)
		s.changed()
		return nil, nil
	})
}

func (s *Service) untagQueue(r *awsapi.Request) (any, error) {
	var in struct{ TagKeys []string }
	return s.with(r, &in, func(q *queue) (any, error) {
		q.tags = awsapi.Retag(q.tags, nil, in.TagKeys...)
		s.changed()
		return nil, nil
	})
}

func (s *Service) listQueueTags(r *awsapi.Request) (any, error) {
	return s.with(r, &struct{}{}, func(q *queue) (any, error) {
		return map[string]any{"Tags": q.tags}, nil
	})
}
