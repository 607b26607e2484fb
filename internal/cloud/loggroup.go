package cloud

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
)

const kindLogGroup = "log group"

// planLogGroup does not ask whose the group is: its name is given by the
// function's, and a function of an earlier try leaves it behind.
func (a *Account) planLogGroup(ctx context.Context, want LogGroup) ([]Change, error) {
	days, exists, err := a.logGroup(ctx, want.Name)
	if err != nil {
		return nil, err
	}
	retain := func(ctx context.Context) error {
		_, err := a.logs.PutRetentionPolicy(ctx, &cloudwatchlogs.PutRetentionPolicyInput{LogGroupName: &want.Name, RetentionInDays: &want.Days})
		return err
	}
	switch {
	case !exists:
		create := func(ctx context.Context) error {
			_, err := a.logs.CreateLogGroup(ctx, &cloudwatchlogs.CreateLogGroupInput{LogGroupName: &want.Name, Tags: tags()})
			return err
		}
		return []Change{
			change(Create, kindLogGroup, want.Name, create),
			change(Create, "log retention", want.Name, retain, fmt.Sprintf("%d days", want.Days)),
		}, nil
	case days != want.Days:
		return append(keep(kindLogGroup, want.Name),
			change(Update, "log retention", want.Name, retain, differs("days", days, want.Days))), nil
	}
	return keep(kindLogGroup, want.Name), nil
}

func (a *Account) removeLogGroup(ctx context.Context, name string) ([]Change, error) {
	_, exists, err := a.logGroup(ctx, name)
	if !exists || err != nil {
		return nil, err
	}
	return []Change{change(Delete, kindLogGroup, name, func(ctx context.Context) error {
		_, err := a.logs.DeleteLogGroup(ctx, &cloudwatchlogs.DeleteLogGroupInput{LogGroupName: &name})
		return err
	})}, nil
}

// logGroup is the retention in days, 0 for ever.
func (a *Account) logGroup(ctx context.Context, name string) (days int32, exists bool, err error) {
	for pages := cloudwatchlogs.NewDescribeLogGroupsPaginator(a.logs, &cloudwatchlogs.DescribeLogGroupsInput{LogGroupNamePrefix: &name}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return 0, false, fmt.Errorf("look for the log group %s: %w", name, err)
		}
		for _, g := range page.LogGroups {
			if aws.ToString(g.LogGroupName) == name {
				return aws.ToInt32(g.RetentionInDays), true, nil
			}
		}
	}
	return 0, false, nil
}

// differs is a detail of an Update.
func differs[T any](what string, have, want T) string {
	return fmt.Sprintf("%s %v → %v", what, have, want)
}
