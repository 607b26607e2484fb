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
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/jitr-agent/jitr-agent/internal/activation"
)

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
