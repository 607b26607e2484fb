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
	Lambda *lambdaAction `json:"lambda,omitempty"`
	SQS    *sqsAction    `json:"sqs,omitempty"`
}

type lambdaAction struct {
	FunctionArn string `json:"functionArn"`
}

type sqsAction struct {
	RoleArn   string `json:"roleArn"`
	QueueURL  string `json:"queueUrl"`
	UseBase64 bool   `json:"useBase64,omitempty"`
}

// UnmarshalJSON refuses an action that the emulator does not have.
func (a *action) UnmarshalJSON(data []byte) error {
	type plain action
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode((*plain)(a)); err != nil {
		return fmt.Errorf("the action %s is not known to the emulator, which has lambda and sqs: %s",
			data, strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}

// kind is what AWS calls the action in an error message.
func (a action) kind() string {
	if a.Lambda != nil {
		return "LambdaAction"
	}
	return "SqsAction"
}

func (a action) resource() string {
	switch {
	case a.Lambda != nil:
		return a.Lambda.FunctionArn
	case a.SQS != nil:
		return a.SQS.QueueURL
	}
	return ""
}

// role is whom the action acts as; "" for a Lambda function, whose own policy
// decides.
func (a action) role() string {
	if a.SQS != nil {
		return a.SQS.RoleArn
	}
	return ""
}

// check says what is wrong with an action before it is kept.
func (a action) check() error {
	switch {
	case (a.Lambda != nil) == (a.SQS != nil):
		return errors.New("an action must be exactly one of lambda and sqs")
	case a.Lambda != nil && !strings.HasPrefix(a.Lambda.FunctionArn, "arn:aws:lambda:"):
		return fmt.Errorf("the functionArn %q is not the ARN of a Lambda function", a.Lambda.FunctionArn)
	case a.Lambda == nil && !strings.Contains(a.role(), ":role/"):
		return fmt.Errorf("the roleArn %q is not the ARN of a role", a.role())
	case a.resource() == "":
		return errors.New("the action has no target")
	}
	return nil
}
