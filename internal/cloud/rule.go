package cloud

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
)

const kindRule = "rule"

func (r Rule) payload() *iottypes.TopicRulePayload {
	return &iottypes.TopicRulePayload{
		Sql: &r.SQL, AwsIotSqlVersion: aws.String(sqlVersion), Description: &r.Description, RuleDisabled: aws.Bool(false),
		Actions: []iottypes.Action{r.action()}, ErrorAction: new(r.toQueue(r.ErrorQueue)),
	}
}

func (r Rule) action() iottypes.Action {
	if r.Function != "" {
		return iottypes.Action{Lambda: &iottypes.LambdaAction{FunctionArn: &r.Function}}
	}
	return r.toQueue(r.Queue)
}

func (r Rule) toQueue(url string) iottypes.Action {
	return iottypes.Action{Sqs: &iottypes.SqsAction{QueueUrl: &url, RoleArn: &r.Role, UseBase64: aws.Bool(false)}}
}

// planRule looks only at a rule that was listed: GetTopicRule answers for a
// missing one as for a forbidden one.
func (a *Account) planRule(ctx context.Context, have found, want Rule) ([]Change, error) {
	if have.arn == "" {
		return []Change{change(Create, kindRule, want.Name, func(ctx context.Context) error {
			_, err := a.iot.CreateTopicRule(ctx, &iot.CreateTopicRuleInput{
				RuleName: &want.Name, TopicRulePayload: want.payload(), Tags: new(ruleTags(tags(tagCA, want.CA, tagTenant, want.Tenant))),
			})
			return err
		})}, nil
	}
	if !have.ours() {
		return nil, foreign(kindRule, want.Name)
	}
	out, err := a.iot.GetTopicRule(ctx, &iot.GetTopicRuleInput{RuleName: &want.Name})
	if err != nil {
		return nil, fmt.Errorf("look for the rule %s: %w", want.Name, err)
	}
	if out.Rule == nil {
		return nil, fmt.Errorf("look for the rule %s: the answer has none", want.Name)
	}
	details := want.compare(out.Rule)
	if len(details) == 0 {
		return keep(kindRule, want.Name), nil
	}
	return []Change{change(Update, kindRule, want.Name, func(ctx context.Context) error {
		_, err := a.iot.ReplaceTopicRule(ctx, &iot.ReplaceTopicRuleInput{RuleName: &want.Name, TopicRulePayload: want.payload()})
		return err
	}, details...)}, nil
}

func (r Rule) compare(have *iottypes.TopicRule) (details []string) {
	if aws.ToString(have.Sql) != r.SQL || aws.ToString(have.AwsIotSqlVersion) != sqlVersion {
		details = append(details, "SQL")
	}
	if aws.ToBool(have.RuleDisabled) {
		details = append(details, "it is disabled")
	}
	if len(have.Actions) != 1 || !sameTarget(have.Actions[0], r.action()) {
		details = append(details, "action")
	}
	if have.ErrorAction == nil || !sameTarget(*have.ErrorAction, r.toQueue(r.ErrorQueue)) {
		details = append(details, "error action")
	}
	return details
}

// sameTarget compares the two kinds of action that we use.
func sameTarget(a, b iottypes.Action) bool {
	switch {
	case b.Lambda != nil:
		return a.Lambda != nil && aws.ToString(a.Lambda.FunctionArn) == aws.ToString(b.Lambda.FunctionArn)
	case b.Sqs != nil:
		return a.Sqs != nil && aws.ToString(a.Sqs.QueueUrl) == aws.ToString(b.Sqs.QueueUrl) &&
			aws.ToString(a.Sqs.RoleArn) == aws.ToString(b.Sqs.RoleArn) && !aws.ToBool(a.Sqs.UseBase64)
	}
	return false
}

func (a *Account) removeRule(name string) Change {
	return change(Delete, kindRule, name, func(ctx context.Context) error {
		_, err := a.iot.DeleteTopicRule(ctx, &iot.DeleteTopicRuleInput{RuleName: &name})
		return err
	})
}

// superfluous are the rules of ours that are not wanted: of a topic prefix
// that no tenant has any more.
func (s *survey) superfluous(want []Rule) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(s.rules)) {
		wanted := slices.ContainsFunc(want, func(r Rule) bool { return r.Name == name })
		if s.rules[name].ours() && !wanted {
			names = append(names, name)
		}
	}
	return names
}
