package cloud

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/aws/smithy-go"
)

// code is AWS's name of an error, "" where it is not AWS's.
func code(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode()
	}
	return ""
}

func message(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorMessage()
	}
	return err.Error()
}

// absent says whether err is AWS's word that something does not exist. Each
// service has its own.
func absent(err error) bool {
	switch code(err) {
	case "ResourceNotFoundException", // iot, lambda, logs
		"NoSuchEntity", "NoSuchEntityException", // iam
		"QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue", "com.amazonaws.sqs#QueueDoesNotExist": // sqs
		return true
	}
	return false
}

// settling is how long a call is worth trying again that AWS refuses because
// an earlier call has not reached all its machines yet; 0: not at all. Where
// the refusal is for good, it is the error after that time.
func settling(err error) time.Duration {
	const (
		usual = 90 * time.Second // a new role takes some 10 s; the name of a deleted queue is free after 60 (SQS API reference)
		long  = 6 * time.Minute  // a detached policy can be deleted after up to 5 (AWS IoT API reference, DeletePolicy)
	)
	says := func(parts ...string) time.Duration {
		for _, p := range parts {
			if strings.Contains(message(err), p) {
				return usual
			}
		}
		return 0
	}
	switch code(err) {
	case "InvalidParameterValueException": // lambda, of a role that was just made
		return says("cannot be assumed by Lambda", "does not have permissions to call")
	case "ResourceConflictException": // lambda, of a function that was just made or changed
		return says("in progress", "currently in the following state", "is in use")
	case "ResourceInUseException": // lambda, of a mapping that is being made or taken down
		return usual
	case "InvalidRequestException": // iot, of a role for a rule
		return says("cannot be assumed", "nable to assume")
	case "QueueDeletedRecently", "AWS.SimpleQueueService.QueueDeletedRecently":
		return usual
	case "DeleteConflictException": // iot
		return long
	}
	return 0
}

// denial is how AWS words a missing permission.
var denial = regexp.MustCompile(`(\S+) is not authorized to perform: ([a-z0-9-]+:[A-Za-z*]+)(?: on resource: (\S+))?`)

// explainedError is an error of AWS with its name in front and what to do
// behind.
type explainedError struct {
	err      error
	sentence string
}

func (e *explainedError) Error() string { return e.sentence }
func (e *explainedError) Unwrap() error { return e.err }

// explain makes one sentence of an error that comes from an AWS call: what we
// were doing, AWS's name for what is wrong, why, and what to do. Other errors
// stay as they are. An error that is explained stays so.
func explain(err error) error {
	if err == nil {
		return nil
	}
	if _, done := errors.AsType[*explainedError](err); done {
		return err
	}
	doing := operation(err)
	say := func(format string, args ...any) error {
		return &explainedError{err, doing + fmt.Sprintf(format, args...)}
	}
	if name := code(err); name != "" {
		text := strings.TrimSuffix(message(err), ".")
		remedy, known := remedyFor(name, text)
		if d := denial.FindStringSubmatch(text); d != nil {
			on := ""
			if d[3] != "" {
				on = " on " + strings.TrimSuffix(d[3], ".")
			}
			return say("%s: %s may not call %s%s; allow that in an IAM policy of this user or role", name, d[1], d[2], on)
		}
		if known {
			return say("%s: %s; %s", name, text, remedy)
		}
		return say("%s: %s", name, text)
	}
	if network, ok := errors.AsType[*net.OpError](err); ok {
		return say("%s cannot be reached: %s; check the network, --region and --endpoint-url", hostOf(err), lastCause(network))
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return say("the name %s cannot be resolved: %s; check the network, --region and --endpoint-url", dns.Name, dns.Err)
	}
	if op, sdk := errors.AsType[*smithy.OperationError](err); sdk && !errors.Is(err, context.Canceled) {
		return say("%s; check the network, --endpoint-url and AWS_CA_BUNDLE", lastCause(op))
	}
	return err
}

// operation is what we had been doing, without the SDK's own words.
func operation(err error) string {
	var inner error
	if op, sdk := errors.AsType[*smithy.OperationError](err); sdk {
		inner = op
	} else if api, ok := errors.AsType[smithy.APIError](err); ok {
		inner = api
	} else {
		return ""
	}
	before, _, found := strings.Cut(err.Error(), inner.Error())
	if !found {
		return ""
	}
	return before
}

func hostOf(err error) string {
	if u, ok := errors.AsType[*url.Error](err); ok {
		if parsed, err := url.Parse(u.URL); err == nil {
			return parsed.Scheme + "://" + parsed.Host
		}
	}
	return "AWS"
}

func remedyFor(name, text string) (string, bool) {
	switch name {
	case "SignatureDoesNotMatch", "InvalidSignatureException":
		if strings.Contains(text, "valid region") {
			return "the request went to another Region than it was signed for; give the Region of this endpoint with --region", true
		}
		return "check the secret key of this profile, and this machine's clock", true
	case "InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId":
		return "AWS does not know these credentials; check --profile, AWS_PROFILE and AWS_ACCESS_KEY_ID", true
	case "ExpiredToken", "ExpiredTokenException":
		return "sign in again, as with 'aws sso login'", true
	case "Throttling", "ThrottlingException", "TooManyRequestsException", "RequestLimitExceeded":
		return "AWS limits how often this may be called; give the same command again, it goes on where it stopped", true
	case "LimitExceededException", "LimitExceeded":
		return "a quota of the account is used up; see Service Quotas in the AWS console", true
	case "InvalidParameterValueException":
		if strings.Contains(text, "UnreservedConcurrentExecution") {
			return "this account has too little concurrency to reserve any; deploy with --unreserved, or ask AWS for a higher quota of Lambda's concurrent executions", true
		}
	}
	return "", false
}
