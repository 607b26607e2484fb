package rules

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// action is one action of a rule; exactly one field is set.
type action struct {
	Lambda         *lambdaAction    `json:"lambda,omitempty"`
	SQS            *sqsAction       `json:"sqs,omitempty"`
	Republish      *republishAction `json:"republish,omitempty"`
	CloudwatchLogs *logsAction      `json:"cloudwatchLogs,omitempty"`
}

type lambdaAction struct {
	FunctionArn string `json:"functionArn"`
}

type sqsAction struct {
	RoleArn   string `json:"roleArn"`
	QueueURL  string `json:"queueUrl"`
	UseBase64 bool   `json:"useBase64,omitempty"`
}

type republishAction struct {
	RoleArn string `json:"roleArn"`
	Topic   string `json:"topic"`
	QoS     int    `json:"qos,omitempty"`
}

type logsAction struct {
	RoleArn      string `json:"roleArn"`
	LogGroupName string `json:"logGroupName"`
}

// UnmarshalJSON refuses an action that the emulator does not have.
func (a *action) UnmarshalJSON(data []byte) error {
	type plain action
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode((*plain)(a)); err != nil {
		return fmt.Errorf("the action %s is not known to the emulator, which has lambda, sqs, republish and cloudwatchLogs: %s",
			data, strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}

// kind is what AWS calls the action in an error message.
func (a action) kind() string {
	switch {
	case a.Lambda != nil:
		return "LambdaAction"
	case a.SQS != nil:
		return "SqsAction"
	case a.Republish != nil:
		return "RepublishAction"
	}
	return "CloudwatchLogsAction"
}

func (a action) resource() string {
	switch {
	case a.Lambda != nil:
		return a.Lambda.FunctionArn
	case a.SQS != nil:
		return a.SQS.QueueURL
	case a.Republish != nil:
		return a.Republish.Topic
	case a.CloudwatchLogs != nil:
		return a.CloudwatchLogs.LogGroupName
	}
	return ""
}

// role is whom the action acts as; "" for a Lambda function, whose own policy
// decides.
func (a action) role() string {
	switch {
	case a.SQS != nil:
		return a.SQS.RoleArn
	case a.Republish != nil:
		return a.Republish.RoleArn
	case a.CloudwatchLogs != nil:
		return a.CloudwatchLogs.RoleArn
	}
	return ""
}

// check says what is wrong with an action before it is kept.
func (a action) check() error {
	set := 0
	for _, is := range []bool{a.Lambda != nil, a.SQS != nil, a.Republish != nil, a.CloudwatchLogs != nil} {
		if is {
			set++
		}
	}
	switch {
	case set != 1:
		return errors.New("an action must be exactly one of lambda, sqs, republish and cloudwatchLogs")
	case a.Lambda != nil && !strings.HasPrefix(a.Lambda.FunctionArn, "arn:aws:lambda:"):
		return fmt.Errorf("the functionArn %q is not the ARN of a Lambda function", a.Lambda.FunctionArn)
	case a.Lambda == nil && !strings.Contains(a.role(), ":role/"):
		return fmt.Errorf("the roleArn %q is not the ARN of a role", a.role())
	case a.resource() == "":
		return errors.New("the action has no target")
	}
	if a.Republish != nil {
		if a.Republish.QoS < 0 || a.Republish.QoS > 1 {
			return fmt.Errorf("qos %d is neither 0 nor 1", a.Republish.QoS)
		}
		_, err := substitute(a.Republish.Topic, Message{}, "")
		return err
	}
	return nil
}

// substitute puts the values of ${...} templates into a topic. What is
// undefined stands there as that word, as at AWS.
func substitute(template string, m Message, account string) (string, error) {
	s := scope{message: m, account: account}
	if json.Unmarshal(m.Payload, &s.payload) != nil {
		s.payload = nil
	}
	var out strings.Builder
	for {
		before, rest, ok := strings.Cut(template, "${")
		out.WriteString(before)
		if !ok {
			return out.String(), nil
		}
		inner, after, ok := strings.Cut(rest, "}")
		if !ok {
			return "", fmt.Errorf("the template %q has no closing brace", template)
		}
		tokens, err := lex(inner)
		if err != nil {
			return "", err
		}
		p := &parser{tokens: tokens}
		e, err := p.or()
		if err != nil {
			return "", fmt.Errorf("the template ${%s}: %w", inner, err)
		}
		value, ok := asText(e.eval(s))
		if !ok {
			value = "undefined"
		}
		out.WriteString(value)
		template = after
	}
}
