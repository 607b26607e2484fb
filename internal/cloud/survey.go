package cloud

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/jitr-agent/jitr-agent/internal/activation"
)

// survey is what is ours in the account, as far as names and tags tell it.
type survey struct {
	rules    map[string]found // by name
	policies map[string]found // by name
	function *lambda.GetFunctionOutput
	queue    bool // there is a queue for events
}

type found struct {
	arn  string
	tags map[string]string
}

func (f found) ours() bool { return f.tags[tagOwner] != "" }

// foreign is the error about a resource with one of our names.
func foreign(kind, name string) error {
	return fmt.Errorf("the %s %s exists, and %w; delete it or give it another name, then try again", kind, name, ErrForeign)
}

// survey looks. Only a few calls depend on how much there is in the account.
func (a *Account) survey(ctx context.Context) (*survey, error) {
	s := &survey{rules: map[string]found{}, policies: map[string]found{}}
	for pages := iot.NewListTopicRulesPaginator(a.iot, &iot.ListTopicRulesInput{}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list the rules: %w", err)
		}
		for _, r := range page.Rules {
			if err := a.note(ctx, s.rules, rulePrefix, r.RuleName, r.RuleArn); err != nil {
				return nil, err
			}
		}
	}
	for pages := iot.NewListPoliciesPaginator(a.iot, &iot.ListPoliciesInput{}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list the policies: %w", err)
		}
		for _, p := range page.Policies {
			if err := a.note(ctx, s.policies, policyPrefix, p.PolicyName, p.PolicyArn); err != nil {
				return nil, err
			}
		}
	}
	var err error
	if s.function, err = a.function(ctx); err != nil {
		return nil, err
	}
	_, err = a.sqs.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: aws.String(eventsQueue)})
	if err != nil && !absent(err) {
		return nil, fmt.Errorf("look for the queue %s: %w", eventsQueue, err)
	}
	s.queue = err == nil
	return s, nil
}

func (a *Account) note(ctx context.Context, in map[string]found, prefix string, name, arn *string) error {
	if !strings.HasPrefix(aws.ToString(name), prefix) {
		return nil
	}
	f := found{arn: aws.ToString(arn), tags: map[string]string{}}
	for pages := iot.NewListTagsForResourcePaginator(a.iot, &iot.ListTagsForResourceInput{ResourceArn: arn}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if absent(err) { // somebody deletes at the same time
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the tags of %s: %w", f.arn, err)
		}
		for _, t := range page.Tags {
			f.tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
		}
	}
	in[aws.ToString(name)] = f
	return nil
}

// function is nil where there is none.
func (a *Account) function(ctx context.Context) (*lambda.GetFunctionOutput, error) {
	out, err := a.lambda.GetFunction(ctx, &lambda.GetFunctionInput{FunctionName: aws.String(functionName)})
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for the function %s: %w", functionName, err)
	}
	if out.Configuration == nil {
		return nil, fmt.Errorf("look for the function %s: the answer has no configuration", functionName)
	}
	return out, nil
}

// tenants are the CAs that are deployed: those with a rule.
func (s *survey) tenants() []Tenant {
	var ts []Tenant
	for _, name := range slices.Sorted(maps.Keys(s.rules)) {
		r := s.rules[name]
		if !r.ours() || r.tags[tagCA] == "" {
			continue
		}
		t := Tenant{CA: r.tags[tagCA], Name: r.tags[tagTenant]}
		t.Prefix = s.policies[policyName(t.Name)].tags[tagPrefix]
		ts = append(ts, t)
	}
	return ts
}

// checks is how the function that is there is configured; the zero Config
// where there is none.
func (s *survey) checks() (activation.Config, error) {
	if s.function == nil || s.function.Configuration.Environment == nil {
		return activation.Config{}, nil
	}
	env := s.function.Configuration.Environment.Variables
	c, err := activation.FromEnvironment(func(name string) string { return env[name] })
	if err != nil {
		return c, fmt.Errorf("the environment of the function %s was changed by somebody: %w; delete what is wrong there, then deploy again", functionName, firstLine(err))
	}
	return c, nil
}

// firstLine keeps the first of joined errors: the rest is told next time.
func firstLine(err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok && len(joined.Unwrap()) > 0 {
		return joined.Unwrap()[0]
	}
	return err
}

// ca is the description of a registered CA.
func (a *Account) ca(ctx context.Context, id string) (*iottypes.CACertificateDescription, error) {
	if !activation.IsCertificateID(id) {
		return nil, fmt.Errorf("%q: %w", id, ErrBadID)
	}
	out, err := a.iot.DescribeCACertificate(ctx, &iot.DescribeCACertificateInput{CertificateId: &id})
	if absent(err) {
		return nil, fmt.Errorf("%s: %w, in account %s and Region %s (ResourceNotFoundException), and a registration is good for one Region; register it with 'jitrctl cloud register-ca', or give the Region where it is with --region",
			id, ErrNotRegistered, a.Account, a.Region)
	}
	if err != nil {
		return nil, fmt.Errorf("describe the CA %s: %w", id, err)
	}
	if out.CertificateDescription == nil {
		return nil, errors.New("describe the CA " + id + ": the answer has no description")
	}
	return out.CertificateDescription, nil
}
