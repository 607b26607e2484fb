package cloud

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

const (
	kindFunction    = "function"
	kindConcurrency = "reserved concurrency"
	kindFailures    = "failure destination"
)

func (f Function) codeSHA256() string {
	sum := sha256.Sum256(f.Zip)
	return base64.StdEncoding.EncodeToString(sum[:])
}

func (f Function) architectures() []lambdatypes.Architecture {
	return []lambdatypes.Architecture{lambdatypes.Architecture(f.Arch)}
}

// planFunction compares the function in its four parts, which AWS changes by
// four calls: code, configuration, concurrency, and what becomes of events
// that fail. Without a Zip the code that is there stays.
func (a *Account) planFunction(ctx context.Context, have *lambda.GetFunctionOutput, want Function) ([]Change, error) {
	var changes []Change
	var reserved int32
	var events *lambda.GetFunctionEventInvokeConfigOutput
	if have == nil {
		changes = []Change{change(Create, kindFunction, want.Name, func(ctx context.Context) error { return a.createFunction(ctx, want) }, want.Arch)}
	} else {
		if err := oursAlone(have); err != nil {
			return nil, err
		}
		if have.Concurrency != nil {
			reserved = aws.ToInt32(have.Concurrency.ReservedConcurrentExecutions)
		}
		var err error
		events, err = a.lambda.GetFunctionEventInvokeConfig(ctx, &lambda.GetFunctionEventInvokeConfigInput{FunctionName: &want.Name})
		if err != nil && !absent(err) {
			return nil, fmt.Errorf("look for the failure destination of the function %s: %w", want.Name, err)
		}
		if err != nil {
			events = nil
		}
		changes = append(a.planCode(have.Configuration, want), a.planConfiguration(have.Configuration, want)...)
		if len(changes) == 0 {
			changes = keep(kindFunction, want.Name)
		}
	}
	changes = append(changes, a.planConcurrency(reserved, want)...)
	return append(changes, a.planEvents(events, want)...), nil
}

func (a *Account) createFunction(ctx context.Context, want Function) error {
	_, err := a.lambda.CreateFunction(ctx, &lambda.CreateFunctionInput{
		FunctionName: &want.Name, Role: &want.Role, Runtime: runtime, Handler: aws.String(handler),
		Architectures: want.architectures(), MemorySize: &want.MemoryMB, Timeout: new(seconds(want.Timeout)),
		Environment: &lambdatypes.Environment{Variables: want.Environment}, Tags: tags(),
		Code:        &lambdatypes.FunctionCode{ZipFile: want.Zip},
		Description: aws.String("jitr-agent: activates gateways just in time"),
	})
	return err
}

func (a *Account) planCode(have *lambdatypes.FunctionConfiguration, want Function) []Change {
	var details []string
	if !slices.Equal(have.Architectures, want.architectures()) {
		details = append(details, differs("architecture", have.Architectures, want.architectures()))
	}
	if want.Zip != nil && aws.ToString(have.CodeSha256) != want.codeSHA256() {
		details = append(details, "program")
	}
	if len(details) == 0 || want.Zip == nil {
		return nil
	}
	return []Change{change(Update, "function code", want.Name, func(ctx context.Context) error {
		_, err := a.lambda.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{FunctionName: &want.Name, Architectures: want.architectures(), ZipFile: want.Zip})
		return err
	}, details...)}
}

func (a *Account) planConfiguration(have *lambdatypes.FunctionConfiguration, want Function) []Change {
	var details []string
	add := func(what string, have, want any) {
		if have != want {
			details = append(details, differs(what, have, want))
		}
	}
	add("role", aws.ToString(have.Role), want.Role)
	add("runtime", string(have.Runtime), runtime)
	add("handler", aws.ToString(have.Handler), handler)
	add("memory in MB", aws.ToInt32(have.MemorySize), want.MemoryMB)
	add("timeout in s", aws.ToInt32(have.Timeout), seconds(want.Timeout))
	var env map[string]string
	if have.Environment != nil {
		env = have.Environment.Variables
	}
	for _, name := range differing(env, want.Environment) {
		details = append(details, "environment variable "+name) // not its value, which may be a list of all CAs
	}
	if len(details) == 0 {
		return nil
	}
	return []Change{change(Update, "function configuration", want.Name, func(ctx context.Context) error {
		_, err := a.lambda.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{
			FunctionName: &want.Name, Role: &want.Role, Runtime: runtime, Handler: aws.String(handler),
			MemorySize: &want.MemoryMB, Timeout: new(seconds(want.Timeout)),
			Environment: &lambdatypes.Environment{Variables: want.Environment},
		})
		return err
	}, details...)}
}

// differing are the keys that a and b do not have with the same value.
func differing(a, b map[string]string) []string {
	names := map[string]bool{}
	for _, m := range []map[string]string{a, b} {
		for name := range m {
			va, inA := a[name]
			vb, inB := b[name]
			if inA != inB || va != vb {
				names[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

func (a *Account) planConcurrency(have int32, want Function) []Change {
	switch {
	case have == want.Concurrency:
		return nil
	case want.Concurrency == 0:
		return []Change{change(Delete, kindConcurrency, want.Name, func(ctx context.Context) error {
			_, err := a.lambda.DeleteFunctionConcurrency(ctx, &lambda.DeleteFunctionConcurrencyInput{FunctionName: &want.Name})
			return err
		})}
	}
	action, detail := Create, fmt.Sprint(want.Concurrency)
	if have != 0 {
		action, detail = Update, differs("instances", have, want.Concurrency)
	}
	return []Change{change(action, kindConcurrency, want.Name, func(ctx context.Context) error {
		_, err := a.lambda.PutFunctionConcurrency(ctx, &lambda.PutFunctionConcurrencyInput{FunctionName: &want.Name, ReservedConcurrentExecutions: &want.Concurrency})
		return err
	}, detail)}
}

func (a *Account) planEvents(have *lambda.GetFunctionEventInvokeConfigOutput, want Function) []Change {
	action := Create
	var details []string
	if have != nil {
		action = Update
		destination := ""
		if have.DestinationConfig != nil && have.DestinationConfig.OnFailure != nil {
			destination = aws.ToString(have.DestinationConfig.OnFailure.Destination)
		}
		for _, d := range []struct {
			what       string
			have, want any
		}{
			{"destination", destination, want.OnFailure},
			{"retries", aws.ToInt32(have.MaximumRetryAttempts), want.Retries},
			{"age in s", aws.ToInt32(have.MaximumEventAgeInSeconds), seconds(want.MaxAge)},
		} {
			if d.have != d.want {
				details = append(details, differs(d.what, d.have, d.want))
			}
		}
		if len(details) == 0 {
			return nil
		}
	}
	return []Change{change(action, kindFailures, want.Name, func(ctx context.Context) error {
		_, err := a.lambda.PutFunctionEventInvokeConfig(ctx, &lambda.PutFunctionEventInvokeConfigInput{
			FunctionName: &want.Name, MaximumRetryAttempts: &want.Retries, MaximumEventAgeInSeconds: new(seconds(want.MaxAge)),
			DestinationConfig: &lambdatypes.DestinationConfig{OnFailure: &lambdatypes.OnFailure{Destination: &want.OnFailure}},
		})
		return err
	}, details...)}
}

// removeFunction takes its permissions, reservation and destination with it.
func (a *Account) removeFunction(have *lambda.GetFunctionOutput) ([]Change, error) {
	if have == nil {
		return nil, nil
	}
	if err := oursAlone(have); err != nil {
		return nil, err
	}
	return []Change{change(Delete, kindFunction, functionName, func(ctx context.Context) error {
		_, err := a.lambda.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: aws.String(functionName)})
		return err
	})}, nil
}

// oursAlone is an error where the function is somebody else's, or a
// CloudFormation stack's: what stands around it is in the stack too, which
// would put back what we change.
func oursAlone(f *lambda.GetFunctionOutput) error {
	if f.Tags[tagOwner] == "" {
		return foreign(kindFunction, functionName)
	}
	if stack := f.Tags[tagStack]; stack != "" {
		return fmt.Errorf("the function %s is in the CloudFormation stack %s, and %w; change it with 'aws cloudformation deploy', or delete the stack and try again", functionName, stack, ErrStack)
	}
	return nil
}

func seconds(d time.Duration) int32 { return int32(d / time.Second) }
