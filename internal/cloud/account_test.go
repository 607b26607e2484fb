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

	"github.com/jitr-agent/jitr-agent/internal/activation"
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

// TestDestroy_active: gateways that work are not cut off.
func TestDestroy_active(t *testing.T) {
	credentials(t)
	e := newEmulator(t)
	ca := newCA(t)
	must(t, registerCA(t.Context(), e, ca.registration(t)))
	must(t, deploy(t.Context(), e, choices(ca)))
	gw := ca.device(t, "gw-1")
	e.pending(t, gw)
	a := e.account(t)
	plan, err := a.PlanActivate(t.Context(), []string{gw.id()})
	must(t, err)
	must(t, plan.Apply(t.Context(), Progress{}))

	for _, r := range []Removal{{}, {CA: ca.id()}, {CA: ca.id(), Registered: true}, {Registered: true}, {CA: strings.Repeat("0", 64)}} {
		calls := e.record()
		err := destroy(t.Context(), e, r)
		if r.CA == strings.Repeat("0", 64) && err == nil { // another CA's removal touches nothing of this one
			if w := writes(calls()); len(w) > 0 {
				t.Errorf("%+v changed%s", r, join(w))
			}
			continue
		}
		if !errors.Is(err, ErrStillActive) || !strings.Contains(err.Error(), "1 of the CA") || !strings.Contains(err.Error(), "jitrctl cloud deactivate") {
			t.Errorf("%+v: %v", r, err)
		}
		if w := writes(calls()); len(w) > 0 {
			t.Errorf("%+v began all the same:%s", r, join(w))
		}
	}

	// Not even where somebody deleted the rule that ties the CA to us.
	_, err = a.iot.DeleteTopicRule(t.Context(), &iot.DeleteTopicRuleInput{RuleName: new(ruleName(ca.id()))})
	must(t, err)
	if err := destroy(t.Context(), e, Removal{}); !errors.Is(err, ErrStillActive) {
		t.Error(err)
	}
}

// TestPrune: only what nobody needs goes.
func TestPrune(t *testing.T) {
	credentials(t)
	e := newEmulator(t)
	ca := newCA(t)
	must(t, registerCA(t.Context(), e, ca.registration(t)))
	must(t, deploy(t.Context(), e, choices(ca)))
	soon := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(10 * time.Minute) }
	pending, active, outOfService := ca.device(t, "gw-pending"), ca.device(t, "gw-active"), ca.device(t, "gw-out")
	expired, expiredActive := ca.device(t, "gw-expired", soon), ca.device(t, "gw-expired-active", soon)
	e.pending(t, pending, active, outOfService, expired, expiredActive)
	a := e.account(t)
	apply := func(plan Plan, err error) {
		t.Helper()
		must(t, err)
		must(t, plan.Apply(t.Context(), Progress{}))
	}
	apply(a.PlanActivate(t.Context(), []string{active.id(), outOfService.id(), expired.id(), expiredActive.id()}))
	apply(a.PlanDeactivate(t.Context(), []string{outOfService.id(), expired.id()}))

	if plan, err := a.PlanPrune(t.Context(), Leftovers{OlderThan: time.Hour, Now: time.Now()}); err != nil || plan.Pending() != 0 {
		t.Errorf("nothing is old yet: %v, %v", plan, err)
	}
	apply(a.PlanPrune(t.Context(), Leftovers{OlderThan: time.Hour, Now: time.Now().Add(2 * time.Hour)}))
	for d, want := range map[*device]iottypes.CertificateStatus{
		pending: "", active: iottypes.CertificateStatusActive, outOfService: iottypes.CertificateStatusInactive, expired: "", expiredActive: "",
	} {
		if got := e.status(t, d); got != want {
			t.Errorf("%s is %q, want %q", d.cert.Subject.CommonName, got, want)
		}
	}
	// The things of the expired ones have no certificate now, and go the next time.
	apply(a.PlanPrune(t.Context(), Leftovers{OlderThan: time.Hour, Now: time.Now().Add(2 * time.Hour)}))
	things, err := a.iot.ListThings(t.Context(), &iot.ListThingsInput{})
	must(t, err)
	var names []string
	for _, th := range things.Things {
		names = append(names, aws.ToString(th.ThingName))
	}
	if slices.Sort(names); !slices.Equal(names, []string{"gw-active", "gw-out"}) {
		t.Errorf("things: %v", names)
	}
}

// TestPrune_activatedMeanwhile: a gateway that was activated between the plan
// and its execution keeps all it needs.
func TestPrune_activatedMeanwhile(t *testing.T) {
	credentials(t)
	for name, tt := range map[string]struct {
		half   bool // thing and policy are attached when the plan is made
		became bool // ACTIVE behind the plan
	}{
		"activated":                              {became: true},
		"activated half before, and half behind": {half: true, became: true},
		"not activated":                          {},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEmulator(t)
			ca := newCA(t)
			must(t, registerCA(t.Context(), e, ca.registration(t)))
			must(t, deploy(t.Context(), e, choices(ca)))
			gw := ca.device(t, "gw-1")
			e.pending(t, gw)
			a := e.account(t)
			activate, err := a.PlanActivate(t.Context(), []string{gw.id()})
			must(t, err)
			if tt.half {
				arn := a.arn("iot", "cert/"+gw.id())
				_, err := a.iot.CreateThing(t.Context(), &iot.CreateThingInput{ThingName: aws.String("gw-1"),
					AttributePayload: &iottypes.AttributePayload{Attributes: map[string]string{activation.OwnerAttribute: ca.id()}}})
				must(t, err)
				_, err = a.iot.AttachThingPrincipal(t.Context(), &iot.AttachThingPrincipalInput{ThingName: aws.String("gw-1"), Principal: &arn})
				must(t, err)
				_, err = a.iot.AttachPolicy(t.Context(), &iot.AttachPolicyInput{PolicyName: new(policyName(shortID(ca.id()))), Target: &arn})
				must(t, err)
			}
			prune, err := a.PlanPrune(t.Context(), Leftovers{OlderThan: 0, Now: time.Now()})
			must(t, err)
			if prune.Pending() == 0 {
				t.Fatal("the plan is empty: the test shows nothing")
			}
			if tt.became {
				must(t, activate.Apply(t.Context(), Progress{}))
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // what has a policy is not deleted, and would be waited for
			defer cancel()
			err = prune.Apply(ctx, Progress{})
			if !tt.became {
				must(t, err)
				if got := e.status(t, gw); got != "" {
					t.Errorf("the pending one is %s", got)
				}
				return
			}
			if err == nil || !strings.HasSuffix(err.Error(), "it became ACTIVE since the plan was made; give the same command again") {
				t.Error(err)
			}
			got := map[string]Certificate{}
			must(t, a.Certificates(t.Context(), Filter{}, func(c Certificate) error { got[c.ID] = c; return nil }))
			if c := got[gw.id()]; c.Status != "ACTIVE" || !slices.Equal(c.Things, []string{"gw-1"}) {
				t.Errorf("%+v", c)
			}
			policies, err := a.iot.ListAttachedPolicies(t.Context(), &iot.ListAttachedPoliciesInput{Target: new(a.arn("iot", "cert/"+gw.id()))})
			must(t, err)
			if len(policies.Policies) != 1 {
				t.Errorf("it has %d policies", len(policies.Policies))
			}
		})
	}
}

// TestPrune_pendingIsNotDeleted: should AWS delete no pending certificate, it is
// made INACTIVE first; what is ACTIVE is not.
func TestPrune_pendingIsNotDeleted(t *testing.T) {
	credentials(t)
	e := newEmulator(t)
	ca := newCA(t)
	must(t, registerCA(t.Context(), e, ca.registration(t)))
	must(t, deploy(t.Context(), e, choices(ca)))
	gw := ca.device(t, "gw-1")
	e.pending(t, gw)
	plan, err := e.account(t).PlanPrune(t.Context(), Leftovers{OlderThan: 0, Now: time.Now()})
	must(t, err)
	refused := false
	e.refusing(func(call string) string {
		if refused || !strings.HasPrefix(call, "DELETE /certificates/") {
			return ""
		}
		refused = true
		return "CertificateStateException"
	})
	calls := e.record()
	must(t, plan.Apply(t.Context(), Progress{}))
	path := "/certificates/" + gw.id()
	if got := writes(calls()); !slices.Equal(got, []string{"DELETE " + path, "PUT " + path, "DELETE " + path}) {
		t.Errorf("it called%s", join(got))
	}
	if got := e.status(t, gw); got != "" {
		t.Errorf("it is %s", got)
	}
}

// TestDestroy_ofOneName: what goes with something is told apart where there
// are several of it.
func TestDestroy_ofOneName(t *testing.T) {
	credentials(t)
	e := newEmulator(t)
	ca := newCA(t)
	must(t, registerCA(t.Context(), e, ca.registration(t)))
	c := choices(ca)
	c.Queue = new(true)
	must(t, deploy(t.Context(), e, c))
	a := e.account(t)
	_, err := a.iam.PutRolePolicy(t.Context(), &iam.PutRolePolicyInput{RoleName: new(a.activatorRole()), PolicyName: aws.String("by-hand"),
		PolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`)})
	must(t, err)
	other, err := a.sqs.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: aws.String("by-hand"), Attributes: map[string]string{"VisibilityTimeout": "360"}})
	must(t, err)
	must(t, patiently(t.Context(), func(ctx context.Context) error {
		_, err := a.lambda.CreateEventSourceMapping(ctx, &lambda.CreateEventSourceMappingInput{FunctionName: aws.String(functionName), EventSourceArn: new(a.arn("sqs", "by-hand"))})
		return err
	}, func(error) {}))
	plan, err := a.PlanDestroy(t.Context(), Removal{Registered: true})
	must(t, err)
	must(t, plan.Apply(t.Context(), Progress{}))
	if all := e.everything(t); !slices.Equal(all, []string{"queue " + aws.ToString(other.QueueUrl)}) {
		t.Errorf("destroy left%s", join(all))
	}
}

// TestDestroy_sharedPolicy: the policy that a CA shares belongs to one that
// stays, also where the command was cut off and given again.
func TestDestroy_sharedPolicy(t *testing.T) { //nolint:tparallel // it sets the environment, which its subtests share
	credentials(t)
	first, second := newCA(t), newCA(t, func(c *x509.Certificate) { c.Subject.CommonName = "Second CA" })
	both := func(t *testing.T) *emulator {
		e := newEmulator(t)
		for _, ca := range []*testCA{first, second} {
			must(t, registerCA(t.Context(), e, ca.registration(t)))
			c := choices(ca)
			c.Tenant = "umbrella"
			must(t, deploy(t.Context(), e, c))
		}
		return e
	}
	owner := func(t *testing.T, e *emulator) string {
		s, err := e.account(t).survey(t.Context())
		must(t, err)
		return s.policies[policyName("umbrella")].tags[tagCA]
	}
	e := both(t)
	if got := owner(t, e); got != first.id() {
		t.Fatalf("the policy was made for %s", got)
	}
	calls := e.record()
	must(t, destroy(t.Context(), e, Removal{CA: first.id()}))
	made := writes(calls())
	if len(made) == 0 || made[0] != "POST /tags" {
		t.Errorf("it begins with%s", join(made))
	}
	n := len(calls())
	for k := 1; k <= n; k++ {
		t.Run(fmt.Sprintf("call %d of %d", k, n), func(t *testing.T) {
			t.Parallel()
			e := both(t)
			if err := destroy(e.cutAfter(t, k), e, Removal{CA: first.id()}); err == nil {
				t.Fatal("cut off, it says that all is well")
			}
			e.uncut()
			must(t, destroy(t.Context(), e, Removal{CA: first.id()}))
			if got := owner(t, e); got != second.id() {
				t.Errorf("the policy is of %s", got)
			}
			st, err := e.account(t).Status(t.Context(), choices(second).Zip)
			must(t, err)
			if len(st.Drift) != 0 {
				t.Errorf("it left undone %v", st.Drift)
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
