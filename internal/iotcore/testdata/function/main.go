// A Lambda function for the tests of the emulator. What it does is in its
// event.
package main

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

type event struct {
	Do            string
	CertificateID string
	AWSAccountID  string
	Records       []struct{ MessageID, Body string }
}

type failure struct {
	ItemIdentifier string `json:"itemIdentifier"`
}

// function is one instance; what it remembers is its own.
type function struct{ calls int }

func main() { lambda.Start((&function{}).handle) }

func (f *function) handle(ctx context.Context, e event) (any, error) {
	f.calls++
	println("event", e.Do)
	switch {
	case e.CertificateID != "":
		return nil, activate(ctx, e)
	case e.Records != nil:
		failed := []failure{}
		for _, r := range e.Records {
			switch {
			case strings.HasPrefix(r.Body, "bad"):
				failed = append(failed, failure{r.MessageID})
			case strings.HasPrefix(r.Body, "slow"): // a place is taken for a while
				time.Sleep(500 * time.Millisecond)
			}
		}
		return map[string]any{"batchItemFailures": failed}, nil
	}
	switch e.Do {
	case "environment":
		env := map[string]string{}
		for _, pair := range os.Environ() {
			name, value, _ := strings.Cut(pair, "=")
			env[name] = value
		}
		return env, nil
	case "count":
		return f.calls, nil
	case "sleep":
		<-ctx.Done() // the deadline that Lambda gives
		select {}
	case "wait": // a place is taken for a while
		time.Sleep(300 * time.Millisecond)
		return "waited", nil
	case "exit":
		os.Exit(3)
	}
	return nil, errors.New("told to fail")
}

// activate is the shortest activator that does it in the right order.
func activate(ctx context.Context, e event) error {
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRetryMaxAttempts(1))
	if err != nil {
		return err
	}
	c := iot.NewFromConfig(cfg)
	arn := aws.String("arn:aws:iot:" + os.Getenv("AWS_REGION") + ":" + e.AWSAccountID + ":cert/" + e.CertificateID)
	name := aws.String(e.CertificateID)
	if _, err := c.CreateThing(ctx, &iot.CreateThingInput{ThingName: name}); err != nil {
		return err
	}
	if _, err := c.AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: name, Principal: arn, ThingPrincipalType: types.ThingPrincipalTypeExclusiveThing}); err != nil {
		return err
	}
	if _, err := c.AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: aws.String(os.Getenv("POLICY")), Target: arn}); err != nil {
		return err
	}
	_, err = c.UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: name, NewStatus: types.CertificateStatusActive})
	return err
}
