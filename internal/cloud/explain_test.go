package cloud

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/smithy-go"
)

// refused is an error as the SDK returns it.
func refused(code, message string) error {
	return fmt.Errorf("create the rule jitr_1: %w", &smithy.OperationError{
		ServiceID: "IoT", OperationName: "CreateTopicRule",
		Err: fmt.Errorf("https response error StatusCode: 403, RequestID: x, %w", &smithy.GenericAPIError{Code: code, Message: message}),
	})
}

func TestExplain(t *testing.T) {
	for name, tt := range map[string]struct {
		err  error
		want string
	}{
		"permission": {
			refused("AccessDeniedException", "User: arn:aws:iam::1:user/op is not authorized to perform: iot:CreateTopicRule on resource: arn:aws:iot:us-west-2:1:rule/jitr_1 because no identity-based policy allows it"),
			"create the rule jitr_1: AccessDeniedException: arn:aws:iam::1:user/op may not call iot:CreateTopicRule on arn:aws:iot:us-west-2:1:rule/jitr_1; allow that in an IAM policy of this user or role",
		},
		"permission without a resource": {
			refused("AccessDenied", "User: arn:aws:iam::1:user/op is not authorized to perform: sts:GetCallerIdentity"),
			"create the rule jitr_1: AccessDenied: arn:aws:iam::1:user/op may not call sts:GetCallerIdentity; allow that in an IAM policy of this user or role",
		},
		"wrong Region": {
			refused("InvalidSignatureException", "Credential should be scoped to a valid region."),
			"create the rule jitr_1: InvalidSignatureException: Credential should be scoped to a valid region; the request went to another Region than it was signed for; give the Region of this endpoint with --region",
		},
		"unknown key": {
			refused("UnrecognizedClientException", "The security token included in the request is invalid."),
			"create the rule jitr_1: UnrecognizedClientException: The security token included in the request is invalid; AWS does not know these credentials; check --profile, AWS_PROFILE and AWS_ACCESS_KEY_ID",
		},
		"throttled": {
			refused("ThrottlingException", "Rate exceeded"),
			"create the rule jitr_1: ThrottlingException: Rate exceeded; AWS limits how often this may be called; give the same command again, it goes on where it stopped",
		},
		"no concurrency to reserve": {
			refused("InvalidParameterValueException", "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [10]."),
			"create the rule jitr_1: InvalidParameterValueException: Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [10]; " +
				"this account has too little concurrency to reserve any; deploy with --unreserved, or ask AWS for a higher quota of Lambda's concurrent executions",
		},
		"another of AWS's": {
			refused("SqlParseException", "Expected a key name at 1.8"),
			"create the rule jitr_1: SqlParseException: Expected a key name at 1.8",
		},
		"unreachable": {
			fmt.Errorf("list the rules: %w", &smithy.OperationError{ServiceID: "IoT", OperationName: "ListTopicRules", Err: &url.Error{
				Op: "Get", URL: "http://127.0.0.1:1/rules", Err: &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")},
			}}),
			"list the rules: http://127.0.0.1:1 cannot be reached: connection refused; check the network, --region and --endpoint-url",
		},
		"no such Region": {
			fmt.Errorf("list the rules: %w", &smithy.OperationError{ServiceID: "IoT", OperationName: "ListTopicRules", Err: &url.Error{
				Op: "Get", URL: "https://iot.us-wset-2.amazonaws.com/rules", Err: &net.DNSError{Err: "no such host", Name: "iot.us-wset-2.amazonaws.com"},
			}}),
			"list the rules: the name iot.us-wset-2.amazonaws.com cannot be resolved: no such host; check the network, --region and --endpoint-url",
		},
		"two in one, which errors.Unwrap does not see through": {
			fmt.Errorf("update the certificate c: refuse it, because %w: %w", errors.New("it expired"), refused("ThrottlingException", "Rate exceeded")),
			"update the certificate c: refuse it, because it expired: create the rule jitr_1: ThrottlingException: Rate exceeded; " +
				"AWS limits how often this may be called; give the same command again, it goes on where it stopped",
		},
		"a server's certificate of nobody": {
			fmt.Errorf("list the rules: %w", &smithy.OperationError{ServiceID: "IoT", OperationName: "ListTopicRules", Err: &url.Error{
				Op: "Get", URL: "https://iot.us-west-2.amazonaws.com/rules", Err: &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}},
			}}),
			"list the rules: x509: certificate signed by unknown authority; check the network, --endpoint-url and AWS_CA_BUNDLE",
		},
		"interrupted": {
			fmt.Errorf("list the rules: %w", &smithy.OperationError{ServiceID: "IoT", OperationName: "ListTopicRules", Err: context.Canceled}),
			"list the rules: operation error IoT: ListTopicRules, context canceled",
		},
		"ours": {fmt.Errorf("x: %w", ErrBadID), "x: " + ErrBadID.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			got := explain(tt.err)
			if got.Error() != tt.want {
				t.Errorf("\n%s\nwant\n%s", got, tt.want)
			}
			if !errors.Is(got, tt.err) && !errors.Is(tt.err, got) {
				t.Error("the error is not kept")
			}
			if again := explain(got); again.Error() != got.Error() {
				t.Errorf("explained twice: %s", again)
			}
		})
	}
}

// TestApply_waitsForARole: a role that was just made cannot be assumed at once.
func TestApply_waitsForARole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ready := time.Now().Add(8 * time.Second)
		calls, waited := 0, 0
		plan := Plan{change(Create, kindFunction, "f", func(context.Context) error {
			calls++
			if time.Now().Before(ready) {
				return refused("InvalidParameterValueException", "The role defined for the function cannot be assumed by Lambda.")
			}
			return nil
		})}
		must(t, plan.Apply(t.Context(), Progress{Waiting: func(Change, error) { waited++ }}))
		if calls < 2 || calls > 20 || waited != calls-1 {
			t.Errorf("%d calls, %d times told", calls, waited)
		}
	})
}

func TestApply_endsItsPatience(t *testing.T) {
	for name, tt := range map[string]struct {
		err      error
		at, most time.Duration
	}{
		"a role that nobody may take on": {refused("InvalidParameterValueException", "The role defined for the function cannot be assumed by Lambda."), 90 * time.Second, 110 * time.Second},
		"a name of a queue":              {refused("AWS.SimpleQueueService.QueueDeletedRecently", "You must wait 60 seconds"), 90 * time.Second, 110 * time.Second},
		"a policy that is attached":      {refused("DeleteConflictException", "The policy is attached"), 6 * time.Minute, 7 * time.Minute},
		"anything else":                  {refused("InvalidParameterValueException", "The runtime is unknown"), 0, 0},
		"a conflict for good":            {refused("ResourceConflictException", "The statement id exists"), 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				err := Plan{change(Create, "x", "y", func(context.Context) error { return tt.err })}.Apply(t.Context(), Progress{})
				if took := time.Since(start); !errors.Is(err, tt.err) || took < tt.at || took > tt.most {
					t.Errorf("%v after %s, want after %s to %s", err, took, tt.at, tt.most)
				}
			})
		})
	}
}

// TestApply_canBeInterrupted: waiting for AWS ends with the context.
func TestApply_canBeInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		start := time.Now()
		err := Plan{change(Delete, kindPolicy, "p", func(context.Context) error { return refused("DeleteConflictException", "attached") })}.Apply(ctx, Progress{})
		if err == nil || time.Since(start) > 6*time.Second {
			t.Errorf("%v after %s", err, time.Since(start))
		}
	})
}

// TestApply_stops: what comes behind an error is not done.
func TestApply_stops(t *testing.T) {
	var done []string
	do := func(name string, err error) Change {
		return change(Create, "x", name, func(context.Context) error { done = append(done, name); return err })
	}
	err := Plan{do("a", nil), do("b", errors.New("no")), do("c", nil)}.Apply(t.Context(), Progress{})
	if err == nil || !strings.Contains(err.Error(), "create the x b: no") || strings.Join(done, "") != "ab" {
		t.Errorf("%v, done %v", err, done)
	}
}
