package cloud

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

const kindQueue = "queue"

// attributes are as SQS has them: strings, times in seconds.
func (q Queue) attributes() map[string]string {
	attr := map[string]string{
		string(sqstypes.QueueAttributeNameVisibilityTimeout):      strconv.Itoa(int(q.Visibility.Seconds())),
		string(sqstypes.QueueAttributeNameMessageRetentionPeriod): strconv.Itoa(int(q.Retention.Seconds())),
	}
	if q.DeadTo != "" {
		attr[string(sqstypes.QueueAttributeNameRedrivePolicy)] = fmt.Sprintf(`{"deadLetterTargetArn":%q,"maxReceiveCount":"%d"}`, q.DeadTo, q.MaxReceive)
	}
	return attr
}

func (a *Account) planQueue(ctx context.Context, want Queue) ([]Change, error) {
	have, err := a.queue(ctx, want.Name)
	if err != nil {
		return nil, err
	}
	if have == nil {
		return []Change{change(Create, kindQueue, want.Name, func(ctx context.Context) error {
			_, err := a.sqs.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: &want.Name, Attributes: want.attributes(), Tags: tags()})
			return err
		})}, nil
	}
	var details []string
	wanted := want.attributes()
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		if !sameAttribute(have.attributes[name], wanted[name]) {
			details = append(details, differs(name, have.attributes[name], wanted[name]))
		}
	}
	if len(details) == 0 {
		return keep(kindQueue, want.Name), nil
	}
	return []Change{change(Update, kindQueue, want.Name, func(ctx context.Context) error {
		_, err := a.sqs.SetQueueAttributes(ctx, &sqs.SetQueueAttributesInput{QueueUrl: &have.url, Attributes: wanted})
		return err
	}, details...)}, nil
}

// sameAttribute also compares redrive policies, whose count is a number or a
// string.
func sameAttribute(a, b string) bool {
	var x, y struct {
		DeadLetterTargetArn string          `json:"deadLetterTargetArn"`
		MaxReceiveCount     json.RawMessage `json:"maxReceiveCount"`
	}
	if json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
		return a == b
	}
	number := func(r json.RawMessage) string {
		s := string(r)
		if plain, err := strconv.Unquote(s); err == nil {
			return plain
		}
		return s
	}
	return x.DeadLetterTargetArn == y.DeadLetterTargetArn && number(x.MaxReceiveCount) == number(y.MaxReceiveCount)
}

func (a *Account) removeQueue(ctx context.Context, name string) ([]Change, error) {
	have, err := a.queue(ctx, name)
	if have == nil || err != nil {
		return nil, err
	}
	return []Change{change(Delete, kindQueue, name, func(ctx context.Context) error {
		_, err := a.sqs.DeleteQueue(ctx, &sqs.DeleteQueueInput{QueueUrl: &have.url})
		return err
	})}, nil
}

type queue struct {
	url        string
	attributes map[string]string
}

// queue is nil where there is none; one of somebody else's is an error.
func (a *Account) queue(ctx context.Context, name string) (*queue, error) {
	at, err := a.sqs.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: &name})
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for the queue %s: %w", name, err)
	}
	tagged, err := a.sqs.ListQueueTags(ctx, &sqs.ListQueueTagsInput{QueueUrl: at.QueueUrl})
	if err != nil {
		return nil, fmt.Errorf("read the tags of the queue %s: %w", name, err)
	}
	if tagged.Tags[tagOwner] == "" {
		return nil, foreign(kindQueue, name)
	}
	attr, err := a.sqs.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{
		QueueUrl: at.QueueUrl, AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameAll},
	})
	if err != nil {
		return nil, fmt.Errorf("read the attributes of the queue %s: %w", name, err)
	}
	return &queue{url: aws.ToString(at.QueueUrl), attributes: attr.Attributes}, nil
}
