package cloud

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/jitr-agent/jitr-agent/internal/iotcore"
)

// step is one command of an operator, and what happens before.
type step struct {
	name   string
	do     func(context.Context, *emulator) error
	before func(*testing.T, *emulator) // nil: nothing
}

func (s step) prepare(t *testing.T, e *emulator) {
	t.Helper()
	if s.before != nil {
		s.before(t, e)
	}
}

// scenario is a gateway's whole life, command by command: what each needs is
// done by those before.
func scenario(t *testing.T) []step {
	ca := newCA(t)
	waiting, working := ca.device(t, "gw-1"), ca.device(t, "gw-2")
	withQueue := choices(ca)
	withQueue.Queue, withQueue.Prefix = new(true), new("acme")
	without := choices(ca)
	without.Queue = new(false)
	apply := func(plan func(context.Context, *Account) (Plan, error)) func(context.Context, *emulator) error {
		return func(ctx context.Context, e *emulator) error {
			a, err := e.connect(ctx)
			if err != nil {
				return err
			}
			p, err := plan(ctx, a)
			if err != nil {
				return err
			}
			return p.Apply(ctx, Progress{})
		}
	}
	return []step{
		{name: "register-ca", do: func(ctx context.Context, e *emulator) error { return registerCA(ctx, e, ca.registration(t)) }},
		{name: "deploy", do: func(ctx context.Context, e *emulator) error { return deploy(ctx, e, choices(ca)) }},
		{name: "deploy --queue --topic-prefix", do: func(ctx context.Context, e *emulator) error { return deploy(ctx, e, withQueue) }},
		{name: "activate", do: apply(func(ctx context.Context, a *Account) (Plan, error) {
			return a.PlanActivate(ctx, []string{working.id()})
		}), before: func(t *testing.T, e *emulator) { e.pending(t, waiting, working) }},
		{name: "deactivate", do: apply(func(ctx context.Context, a *Account) (Plan, error) {
			return a.PlanDeactivate(ctx, []string{working.id()})
		})},
		{name: "prune", do: apply(func(ctx context.Context, a *Account) (Plan, error) {
			return a.PlanPrune(ctx, Leftovers{OlderThan: 0, Now: time.Now()})
		})},
		{name: "deploy --queue=false", do: func(ctx context.Context, e *emulator) error { return deploy(ctx, e, without) }},
		{name: "destroy --ca", do: func(ctx context.Context, e *emulator) error { return destroy(ctx, e, Removal{Registered: true}) }},
	}
}

// TestTwice: the second time a command makes no call that changes anything.
func TestTwice(t *testing.T) {
	credentials(t)
	e := newEmulator(t)
	for _, s := range scenario(t) {
		s.prepare(t, e)
		must(t, s.do(t.Context(), e))
		calls := e.record()
		if err := s.do(t.Context(), e); err != nil {
			t.Fatalf("%s, the second time: %v", s.name, err)
		}
		if w := writes(calls()); len(w) > 0 {
			t.Errorf("%s, the second time, changes something:%s", s.name, join(w))
		}
	}
	if all := e.everything(t); len(all) > 0 {
		t.Errorf("destroy left%s", join(all))
	}
}

// TestInterrupted cuts each command off behind each of its calls, whose answer
// it does not get, and gives it again: it completes.
func TestInterrupted(t *testing.T) { //nolint:tparallel // it sets the environment, which its subtests share
	credentials(t)
	total := 0
	for i := range scenario(t) {
		// upTo is an account in which the commands before the i-th were given.
		upTo := func(t *testing.T) (*emulator, step) {
			e := newEmulator(t)
			steps := scenario(t)
			for _, s := range steps[:i] {
				s.prepare(t, e)
				must(t, s.do(t.Context(), e))
			}
			steps[i].prepare(t, e)
			return e, steps[i]
		}
		reference, s := upTo(t)
		calls := reference.record()
		must(t, s.do(t.Context(), reference))
		n, want := len(calls()), len(reference.everything(t))

		for k := 1; k <= n; k++ {
			t.Run(fmt.Sprintf("%s, call %d of %d", s.name, k, n), func(t *testing.T) {
				t.Parallel()
				e, s := upTo(t)
				ctx := e.cutAfter(t, k)
				err := s.do(ctx, e)
				if err == nil && ctx.Err() != nil {
					t.Fatal("cut off, it says that all is well")
				}
				// How often it asks whether AWS is ready depends on the machine: the
				// k-th call may not have come.
				if err != nil && ctx.Err() == nil {
					t.Fatalf("not cut off, it fails: %v", err)
				}
				e.uncut()
				if err := s.do(t.Context(), e); err != nil {
					t.Fatalf("given again, it does not complete: %v", err)
				}
				if all := e.everything(t); len(all) != want {
					t.Errorf("given again, it leaves%s", join(all))
				}
				again := e.record()
				must(t, s.do(t.Context(), e))
				if w := writes(again()); len(w) > 0 {
					t.Errorf("given again, it had left undone:%s", join(w))
				}
			})
		}
		t.Logf("%s: cut off behind each of its %d calls", s.name, n)
		total += n
	}
	t.Logf("%d interruptions in all", total)
}

// TestDeploy_slowAWS: a role that was just made cannot be assumed for a while,
// and calls are throttled as AWS does it.
func TestDeploy_slowAWS(t *testing.T) {
	credentials(t)
	e := newEmulator(t)
	e.SetFaults(iotcore.Faults{RoleSettleSeconds: 1.5, Throttle: 0.2})
	ca := newCA(t)
	must(t, registerCA(t.Context(), e, ca.registration(t)))
	a := e.account(t)
	d, err := a.PlanDeploy(t.Context(), choices(ca))
	must(t, err)
	waited := 0
	must(t, d.Apply(t.Context(), Progress{Waiting: func(c Change, why error) {
		if c.Kind == kindFunction && strings.Contains(why.Error(), "cannot be assumed") {
			waited++
		}
	}}))
	if waited == 0 {
		t.Error("the role could be assumed at once: the test shows nothing")
	}
	must(t, destroy(t.Context(), e, Removal{Registered: true}))
	if all := e.everything(t); len(all) > 0 {
		t.Errorf("destroy left%s", join(all))
	}
}

// TestDeploy_eventsArrive: with the roles and permissions that deploy gives
// them, the rules reach the queue, and the function, which fails here, the
// queue for what failed.
func TestDeploy_eventsArrive(t *testing.T) {
	credentials(t)
	for name, queued := range map[string]bool{eventsQueue: true, failedQueue: false} {
		t.Run(name, func(t *testing.T) {
			e := newEmulator(t)
			ca := newCA(t)
			must(t, registerCA(t.Context(), e, ca.registration(t)))
			c := choices(ca)
			c.Queue = &queued
			must(t, deploy(t.Context(), e, c))
			a := e.account(t)
			if queued { // nobody else reads it
				remove, err := a.removeMappings(t.Context())
				must(t, err)
				must(t, Plan(remove).Apply(t.Context(), Progress{}))
			} else { // as if the function had no permission for the rule: the error action speaks
				must(t, Plan{a.removePermission(ruleName(ca.id()), "")}.Apply(t.Context(), Progress{}))
			}
			gw := ca.device(t, "gw-1")
			e.pending(t, gw)
			at, err := a.sqs.GetQueueUrl(t.Context(), &sqs.GetQueueUrlInput{QueueName: &name})
			must(t, err)
			out, err := a.sqs.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: at.QueueUrl, WaitTimeSeconds: 5})
			must(t, err)
			if len(out.Messages) != 1 || !strings.Contains(aws.ToString(out.Messages[0].Body), ruleOrID(queued, gw, ca)) {
				t.Errorf("%d messages", len(out.Messages))
			}
		})
	}
}

// ruleOrID is what a message must have: an event its certificate, an error
// its rule.
func ruleOrID(event bool, gw *device, ca *testCA) string {
	if event {
		return gw.id()
	}
	return ruleName(ca.id())
}

// TestDeploy_tenants: two CAs live side by side, and one goes without the
// other.
func TestDeploy_tenants(t *testing.T) {
	credentials(t)
	e := newEmulator(t)
	first, second := newCA(t), newCA(t, func(c *x509.Certificate) { c.Subject.CommonName = "Second CA" })
	for _, ca := range []*testCA{first, second} {
		must(t, registerCA(t.Context(), e, ca.registration(t)))
	}
	must(t, deploy(t.Context(), e, choices(first)))
	alone := e.everything(t)
	other := choices(second)
	other.Prefix = new("umbrella")
	must(t, deploy(t.Context(), e, other))

	// The first one's deploy is not told of the second, and leaves it.
	calls := e.record()
	must(t, deploy(t.Context(), e, choices(first)))
	if w := writes(calls()); len(w) > 0 {
		t.Errorf("deploy of the first CA, again:%s", join(w))
	}
	st, err := e.account(t).Status(t.Context(), choices(first).Zip)
	must(t, err)
	if len(st.CAs) != 2 || len(st.Drift) != 0 || !st.Deployed {
		t.Errorf("%+v", st)
	}
	for _, ca := range st.CAs {
		if ca.Tenant == nil || (ca.Prefix == "umbrella") != (ca.ID == second.id()) {
			t.Errorf("%+v", ca)
		}
	}

	must(t, destroy(t.Context(), e, Removal{CA: second.id()}))
	if now := e.everything(t); !slices.Equal(now, alone) {
		t.Errorf("without the second CA there is%s\nwant%s", join(now), join(alone))
	}
	st, err = e.account(t).Status(t.Context(), choices(first).Zip)
	must(t, err)
	if len(st.Drift) != 0 {
		t.Errorf("taking the second CA out left something undone: %v", st.Drift)
	}
}

// TestDeploy_repairs: what somebody changed by hand is put right, and said.
func TestDeploy_repairs(t *testing.T) {
	credentials(t)
	e := newEmulator(t)
	ca := newCA(t)
	must(t, registerCA(t.Context(), e, ca.registration(t)))
	must(t, deploy(t.Context(), e, choices(ca)))
	a := e.account(t)
	rule, policy := ruleName(ca.id()), policyName(shortID(ca.id()))
	for name, tt := range map[string]struct {
		spoil func(context.Context) error
		want  string
	}{
		"the rule's SQL": {func(ctx context.Context) error {
			return replaceRule(ctx, a, rule, func(p *iottypes.TopicRulePayload) {
				p.Sql = aws.String("SELECT * FROM '$aws/events/certificates/registered/#'")
			})
		}, "~ rule " + rule + ": SQL"},
		"the rule is disabled": {func(ctx context.Context) error {
			return replaceRule(ctx, a, rule, func(p *iottypes.TopicRulePayload) { p.RuleDisabled = new(true) })
		}, "~ rule " + rule + ": it is disabled"},
		"no error action": {func(ctx context.Context) error {
			return replaceRule(ctx, a, rule, func(p *iottypes.TopicRulePayload) { p.ErrorAction = nil })
		}, "~ rule " + rule + ": error action"},
		"a policy that allows everything": {func(ctx context.Context) error {
			_, err := a.iot.CreatePolicyVersion(ctx, &iot.CreatePolicyVersionInput{PolicyName: &policy, SetAsDefault: true,
				PolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}`)})
			return err
		}, "~ policy " + policy + ": document"},
		"a role that may everything": {func(ctx context.Context) error {
			_, err := a.iam.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: new(a.activatorRole()), PolicyName: aws.String(inlinePolicy),
				PolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`)})
			return err
		}, "~ role policy " + a.activatorRole() + ": permissions"},
		"a role that anybody may take on": {func(ctx context.Context) error {
			_, err := a.iam.UpdateAssumeRolePolicy(ctx, &iam.UpdateAssumeRolePolicyInput{RoleName: new(a.rulesRole()),
				PolicyDocument: new(trust("ec2.amazonaws.com", nil).String())})
			return err
		}, "~ role " + a.rulesRole() + ": who may take it on"},
		"a role without its policy": {func(ctx context.Context) error {
			_, err := a.iam.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: new(a.rulesRole()), PolicyName: aws.String(inlinePolicy)})
			return err
		}, "+ role policy " + a.rulesRole()},
		"logs for ever": {func(ctx context.Context) error {
			_, err := a.logs.DeleteRetentionPolicy(ctx, &cloudwatchlogs.DeleteRetentionPolicyInput{LogGroupName: aws.String(logGroupName)})
			return err
		}, "~ log retention " + logGroupName + ": days 0 → 30"},
		"a permission without the account": {func(ctx context.Context) error {
			if _, err := a.lambda.RemovePermission(ctx, &lambda.RemovePermissionInput{FunctionName: aws.String(functionName), StatementId: &rule}); err != nil {
				return err
			}
			_, err := a.lambda.AddPermission(ctx, &lambda.AddPermissionInput{FunctionName: aws.String(functionName), StatementId: &rule,
				Action: aws.String("lambda:InvokeFunction"), Principal: aws.String("iot.amazonaws.com"), SourceArn: new(a.arn("iot", "rule/"+rule))})
			return err
		}, "- permission " + rule + ": it allows something else"},
		"no reserved concurrency": {func(ctx context.Context) error {
			_, err := a.lambda.DeleteFunctionConcurrency(ctx, &lambda.DeleteFunctionConcurrencyInput{FunctionName: aws.String(functionName)})
			return err
		}, "+ reserved concurrency jitr-activator: 5"},
		"no failure destination": {func(ctx context.Context) error {
			_, err := a.lambda.DeleteFunctionEventInvokeConfig(ctx, &lambda.DeleteFunctionEventInvokeConfigInput{FunctionName: aws.String(functionName)})
			return err
		}, "+ failure destination jitr-activator"},
		"less memory": {func(ctx context.Context) error {
			return patiently(ctx, func(ctx context.Context) error {
				_, err := a.lambda.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String(functionName), MemorySize: new(int32(128))})
				return err
			}, func(error) {})
		}, "~ function configuration jitr-activator: memory in MB 128 → 256"},
		"short-lived failures": {func(ctx context.Context) error {
			at, err := a.sqs.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: aws.String(failedQueue)})
			if err != nil {
				return err
			}
			_, err = a.sqs.SetQueueAttributes(ctx, &sqs.SetQueueAttributesInput{QueueUrl: at.QueueUrl, Attributes: map[string]string{"MessageRetentionPeriod": "60"}})
			return err
		}, "~ queue jitr-activator-failed: MessageRetentionPeriod 60 → 1209600"},
	} {
		t.Run(name, func(t *testing.T) {
			must(t, tt.spoil(t.Context()))
			st, err := a.Status(t.Context(), choices(ca).Zip)
			must(t, err)
			d, err := a.PlanDeploy(t.Context(), choices(ca))
			must(t, err)
			var lines []string
			for _, c := range d.Plan {
				if c.Action != Keep {
					lines = append(lines, c.String())
				}
			}
			if !slices.Contains(lines, tt.want) {
				t.Errorf("the plan is%s\nwithout %s", join(lines), tt.want)
			}
			if len(st.Drift) != len(lines) && name != "no reserved concurrency" { // which may be meant
				t.Errorf("status tells of %v", st.Drift)
			}
			must(t, d.Apply(t.Context(), Progress{}))
			after, err := a.PlanDeploy(t.Context(), choices(ca))
			must(t, err)
			if n := after.Pending(); n != 0 {
				t.Errorf("%d changes are left: %v", n, after.Plan)
			}
		})
	}
}

func replaceRule(ctx context.Context, a *Account, name string, change func(*iottypes.TopicRulePayload)) error {
	out, err := a.iot.GetTopicRule(ctx, &iot.GetTopicRuleInput{RuleName: &name})
	if err != nil {
		return err
	}
	p := &iottypes.TopicRulePayload{Sql: out.Rule.Sql, AwsIotSqlVersion: out.Rule.AwsIotSqlVersion, Actions: out.Rule.Actions, ErrorAction: out.Rule.ErrorAction, Description: out.Rule.Description}
	change(p)
	_, err = a.iot.ReplaceTopicRule(ctx, &iot.ReplaceTopicRuleInput{RuleName: &name, TopicRulePayload: p})
	return err
}

// TestDeploy_policyVersions: with five versions the oldest makes room.
func TestDeploy_policyVersions(t *testing.T) {
	credentials(t)
	e := newEmulator(t)
	ca := newCA(t)
	must(t, registerCA(t.Context(), e, ca.registration(t)))
	for i := range 8 {
		c := choices(ca)
		c.Prefix = new(fmt.Sprintf("p%d", i))
		must(t, deploy(t.Context(), e, c))
	}
	out, err := e.account(t).iot.GetPolicy(t.Context(), &iot.GetPolicyInput{PolicyName: new(policyName(shortID(ca.id())))})
	must(t, err)
	if !strings.Contains(aws.ToString(out.PolicyDocument), "topic/p7/init/") {
		t.Error(aws.ToString(out.PolicyDocument))
	}
	must(t, destroy(t.Context(), e, Removal{Registered: true}))
	if all := e.everything(t); len(all) > 0 {
		t.Errorf("destroy left%s", join(all))
	}
}

// TestDeploy_foreign: what has one of our names and is not ours stays as it
// is.
func TestDeploy_foreign(t *testing.T) {
	credentials(t)
	ca := newCA(t)
	for name, make := range map[string]func(context.Context, *Account) error{
		"role": func(ctx context.Context, a *Account) error {
			_, err := a.iam.CreateRole(ctx, &iam.CreateRoleInput{RoleName: new(a.activatorRole()), AssumeRolePolicyDocument: new(trust("lambda.amazonaws.com", nil).String())})
			return err
		},
		"queue": func(ctx context.Context, a *Account) error {
			_, err := a.sqs.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String(failedQueue)})
			return err
		},
		"policy": func(ctx context.Context, a *Account) error {
			_, err := a.iot.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: new(policyName(shortID(ca.id()))), PolicyDocument: new(devicePolicy(a.Place, "").String())})
			return err
		},
		"rule": func(ctx context.Context, a *Account) error {
			_, err := a.iot.CreateTopicRule(ctx, &iot.CreateTopicRuleInput{RuleName: new(ruleName(ca.id())), TopicRulePayload: &iottypes.TopicRulePayload{
				Sql: aws.String("SELECT * FROM 'x'"), AwsIotSqlVersion: aws.String(sqlVersion), Actions: []iottypes.Action{{Lambda: &iottypes.LambdaAction{FunctionArn: new(a.arn("lambda", "function:other"))}}},
			}})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEmulator(t)
			must(t, registerCA(t.Context(), e, ca.registration(t)))
			must(t, make(t.Context(), e.account(t)))
			before := e.everything(t)
			calls := e.record()
			if err := deploy(t.Context(), e, choices(ca)); !errors.Is(err, ErrForeign) {
				t.Error(err)
			}
			if w := writes(calls()); len(w) > 0 {
				t.Errorf("it began all the same:%s", join(w))
			}
			if err := destroy(t.Context(), e, Removal{}); err != nil && !errors.Is(err, ErrForeign) {
				t.Error(err)
			}
			if after := e.everything(t); !slices.Equal(after, before) {
				t.Errorf("destroy took something that is not ours:%s", join(after))
			}
		})
	}
}

// TestDeploy_checksOfAll: there is one function, and it has one name pattern.
func TestDeploy_checksOfAll(t *testing.T) {
	credentials(t)
	e := newEmulator(t)
	first, second := newCA(t), newCA(t, func(c *x509.Certificate) { c.Subject.CommonName = "Second CA" })
	for _, ca := range []*testCA{first, second} {
		must(t, registerCA(t.Context(), e, ca.registration(t)))
	}
	pattern := func(c Choices, s string) Choices { c.NamePattern = &s; return c }
	inventory := choices(second)
	inventory.Inventory = new("inventory.txt")
	none := inventory
	none.Inventory, none.CRLs = new(""), &[]string{"https://example.com/crl"}
	for _, tt := range []struct {
		name     string
		choices  Choices
		warnings []string
		details  []string // of the function's configuration
	}{
		{"the only CA", pattern(choices(first), "gw-.*"), nil, nil},
		{"a second one, under the pattern of the first", choices(second), []string{"the name pattern holds for all 2 CAs"}, []string{"environment variable JITR_CA_POLICIES"}},
		{"as it is", choices(second), nil, nil},
		{"another pattern", pattern(choices(second), "acme-.*"), []string{"the name pattern holds for all 2 CAs"}, []string{"environment variable JITR_NAME_PATTERN"}},
		{"no pattern", pattern(choices(second), ""), []string{"the name pattern is dropped for all 2 CAs"}, []string{"environment variable JITR_NAME_PATTERN"}},
		{"an inventory", inventory, []string{"the inventory holds for all 2 CAs"}, []string{"environment variable JITR_INVENTORY"}},
		{"no inventory, and a CRL", none, []string{"the inventory is dropped for all 2 CAs", "the list of CRLs holds for all 2 CAs"},
			[]string{"environment variable JITR_CRLS", "environment variable JITR_INVENTORY"}},
	} {
		d, err := e.account(t).PlanDeploy(t.Context(), tt.choices)
		must(t, err)
		if !slices.Equal(d.Warnings, tt.warnings) {
			t.Errorf("%s: it warns of %q, want %q", tt.name, d.Warnings, tt.warnings)
		}
		var details []string
		for _, c := range d.Plan {
			if c.Kind == "function configuration" {
				details = c.Details
			}
		}
		if !slices.Equal(details, tt.details) {
			t.Errorf("%s: the plan says %q, want %q", tt.name, details, tt.details)
		}
		must(t, d.Apply(t.Context(), Progress{}))
	}
	wrong := pattern(choices(second), "gw-(")
	if _, err := e.account(t).PlanDeploy(t.Context(), wrong); !errors.Is(err, ErrBadChoice) || !strings.Contains(err.Error(), "--name-pattern") {
		t.Error(err)
	}
}

// TestDeploy_ofAStack: what CloudFormation has made stays CloudFormation's.
func TestDeploy_ofAStack(t *testing.T) {
	credentials(t)
	e := newEmulator(t)
	ca := newCA(t)
	must(t, registerCA(t.Context(), e, ca.registration(t)))
	must(t, deploy(t.Context(), e, choices(ca)))
	a := e.account(t)
	_, err := a.lambda.TagResource(t.Context(), &lambda.TagResourceInput{Resource: new(a.arn("lambda", "function:"+functionName)), Tags: map[string]string{tagStack: "jitr"}})
	must(t, err)
	calls := e.record()
	for name, err := range map[string]error{
		"deploy":  deploy(t.Context(), e, choices(ca)),
		"destroy": destroy(t.Context(), e, Removal{}),
	} {
		if !errors.Is(err, ErrStack) || !strings.Contains(err.Error(), "CloudFormation stack jitr") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if w := writes(calls()); len(w) > 0 {
		t.Errorf("it began all the same:%s", join(w))
	}
}

// TestCertificates lists with what an operator wants to know of each.
func TestCertificates(t *testing.T) {
	credentials(t)
	e := newEmulator(t)
	ca := newCA(t)
	must(t, registerCA(t.Context(), e, ca.registration(t)))
	must(t, deploy(t.Context(), e, choices(ca)))
	waiting, working := ca.device(t, "gw-1"), ca.device(t, "gw-2")
	e.pending(t, waiting, working)
	a := e.account(t)
	plan, err := a.PlanActivate(t.Context(), []string{working.id()})
	must(t, err)
	must(t, plan.Apply(t.Context(), Progress{}))

	got := map[string]Certificate{}
	must(t, a.Certificates(t.Context(), Filter{}, func(c Certificate) error { got[c.ID] = c; return nil }))
	if c := got[waiting.id()]; c.Status != "PENDING_ACTIVATION" || *c.Name != "gw-1" || len(c.Things) != 0 || !c.NotAfter.Equal(waiting.cert.NotAfter) || time.Since(c.CreatedAt) > time.Minute {
		t.Errorf("%+v", c)
	}
	if c := got[working.id()]; c.Status != "ACTIVE" || !slices.Equal(c.Things, []string{"gw-2"}) || c.CA != ca.id() {
		t.Errorf("%+v", c)
	}
	var ids []string
	must(t, a.Certificates(t.Context(), Filter{CA: ca.id(), Status: "ACTIVE", Brief: true}, func(c Certificate) error { ids = append(ids, c.ID); return nil }))
	if !slices.Equal(ids, []string{working.id()}) {
		t.Errorf("ACTIVE: %v", ids)
	}
}

// TestActivate_refuses says why.
func TestActivate_refuses(t *testing.T) {
	credentials(t)
	e := newEmulator(t)
	ca := newCA(t)
	must(t, registerCA(t.Context(), e, ca.registration(t)))
	a := e.account(t)
	gw := ca.device(t, "gw-1")
	e.pending(t, gw)
	if _, err := a.PlanActivate(t.Context(), []string{gw.id()}); !errors.Is(err, ErrNotDeployed) {
		t.Error(err)
	}
	must(t, deploy(t.Context(), e, choices(ca)))
	_, err := a.iot.UpdateCertificate(t.Context(), &iot.UpdateCertificateInput{CertificateId: new(gw.id()), NewStatus: iottypes.CertificateStatusRevoked})
	must(t, err)
	if _, err := a.PlanActivate(t.Context(), []string{gw.id()}); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "jitrctl ca sign --renew") {
		t.Error(err)
	}
	_, err = a.iot.UpdateCertificate(t.Context(), &iot.UpdateCertificateInput{CertificateId: new(gw.id()), NewStatus: iottypes.CertificateStatusInactive})
	must(t, err)
	if _, err := a.PlanActivate(t.Context(), []string{"gw-1"}); !errors.Is(err, ErrBadID) {
		t.Error(err)
	}
	if _, err := a.PlanActivate(t.Context(), []string{strings.Repeat("0", 64)}); err == nil || !strings.Contains(err.Error(), "not registered") {
		t.Error(err)
	}
	_, err = a.iot.CreateThing(t.Context(), &iot.CreateThingInput{ThingName: aws.String("gw-1")})
	must(t, err)
	plan, err := a.PlanActivate(t.Context(), []string{gw.id()})
	must(t, err)
	if err := plan.Apply(t.Context(), Progress{}); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "the thing gw-1 exists") {
		t.Error(err)
	}
}
