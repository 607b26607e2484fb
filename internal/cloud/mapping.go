package cloud

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

const kindMapping = "queue reader"

// responses let a batch say which of its messages failed.
func responses() []lambdatypes.FunctionResponseType {
	return []lambdatypes.FunctionResponseType{lambdatypes.FunctionResponseTypeReportBatchItemFailures}
}

func (a *Account) planMapping(ctx context.Context, want Mapping) ([]Change, error) {
	have, err := a.mappings(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(have, func(m lambdatypes.EventSourceMappingConfiguration) bool {
		return aws.ToString(m.EventSourceArn) == want.Queue
	})
	if i < 0 {
		return []Change{change(Create, kindMapping, want.Function, func(ctx context.Context) error {
			_, err := a.lambda.CreateEventSourceMapping(ctx, &lambda.CreateEventSourceMappingInput{
				FunctionName: &want.Function, EventSourceArn: &want.Queue, BatchSize: &want.Batch, Enabled: aws.Bool(true),
				MaximumBatchingWindowInSeconds: new(seconds(want.Window)), FunctionResponseTypes: responses(),
				ScalingConfig: &lambdatypes.ScalingConfig{MaximumConcurrency: &want.Concurrency}, Tags: tags(),
			})
			return err
		})}, nil
	}
	m := have[i]
	var details []string
	add := func(what string, have, want any) {
		if have != want {
			details = append(details, differs(what, have, want))
		}
	}
	var concurrency int32
	if m.ScalingConfig != nil {
		concurrency = aws.ToInt32(m.ScalingConfig.MaximumConcurrency)
	}
	add("batch", aws.ToInt32(m.BatchSize), want.Batch)
	add("window in s", aws.ToInt32(m.MaximumBatchingWindowInSeconds), seconds(want.Window))
	add("concurrency", concurrency, want.Concurrency)
	if !slices.Equal(m.FunctionResponseTypes, responses()) {
		details = append(details, "partial failures")
	}
	if strings.HasPrefix(aws.ToString(m.State), "Disabl") {
		details = append(details, differs("state", aws.ToString(m.State), "Enabled"))
	}
	if len(details) == 0 {
		return keep(kindMapping, want.Function), nil
	}
	return []Change{change(Update, kindMapping, want.Function, func(ctx context.Context) error {
		_, err := a.lambda.UpdateEventSourceMapping(ctx, &lambda.UpdateEventSourceMappingInput{
			UUID: m.UUID, BatchSize: &want.Batch, Enabled: aws.Bool(true), MaximumBatchingWindowInSeconds: new(seconds(want.Window)),
			FunctionResponseTypes: responses(), ScalingConfig: &lambdatypes.ScalingConfig{MaximumConcurrency: &want.Concurrency},
		})
		return err
	}, details...)}, nil
}

// removeMappings stops the function's reading of queues.
func (a *Account) removeMappings(ctx context.Context) ([]Change, error) {
	have, err := a.mappings(ctx)
	if err != nil {
		return nil, err
	}
	var changes []Change
	for _, m := range have {
		changes = append(changes, change(Delete, kindMapping, functionName+" of "+aws.ToString(m.EventSourceArn), func(ctx context.Context) error {
			_, err := a.lambda.DeleteEventSourceMapping(ctx, &lambda.DeleteEventSourceMappingInput{UUID: m.UUID})
			return err
		}))
	}
	return changes, nil
}

// mappings are the function's. One that AWS is deleting is gone for us.
func (a *Account) mappings(ctx context.Context) ([]lambdatypes.EventSourceMappingConfiguration, error) {
	var all []lambdatypes.EventSourceMappingConfiguration
	for pages := lambda.NewListEventSourceMappingsPaginator(a.lambda, &lambda.ListEventSourceMappingsInput{FunctionName: aws.String(functionName)}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if absent(err) { // no function
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("list the queues that the function %s reads: %w", functionName, err)
		}
		for _, m := range page.EventSourceMappings {
			if aws.ToString(m.State) != "Deleting" {
				all = append(all, m)
			}
		}
	}
	return all, nil
}
