// Package cloud is the AWS side of just-in-time registration, as the operator
// sets it up from a desk: the CA's registration, the function that activates
// certificates and all that stands around it, the device certificates
// themselves.
//
// What should be in the account is worked out as plain data (Stack) from a few
// choices (Spec). A plan compares it with what is there: a list of changes,
// each of them one call. Doing it again finds nothing left to do; after an
// interruption between any two calls it goes on where it was.
//
// Everything that is made carries the tag jitr-agent. What has one of our
// names and not that tag is somebody else's, and is an error.
package cloud

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// Options say which account to work in. What is empty is taken from where the
// aws CLI takes it: AWS_PROFILE, AWS_REGION, ~/.aws/config and so on.
type Options struct {
	Region   string
	Profile  string
	Endpoint string // URL of all services; empty: AWS
}

// attempts is how often the SDK makes a call that is throttled or that the
// network broke. Its default of 3 is for programs with a user who waits; a
// command over a fleet meets quotas of 10 calls a second all the time.
const attempts = 10

// Account is one AWS account in one Region. It is safe for concurrent use.
type Account struct {
	Place

	config aws.Config
	iot    *iot.Client
	lambda *lambda.Client
	iam    *iam.Client
	sqs    *sqs.Client
	logs   *cloudwatchlogs.Client
}

// Connect finds the credentials and asks whose they are. Errors are one
// sentence; see also ErrNoRegion and ErrNoCredentials.
func Connect(ctx context.Context, o Options) (*Account, error) {
	opts := []func(*config.LoadOptions) error{
		config.WithRetryer(func() aws.Retryer {
			return retry.NewAdaptiveMode(func(m *retry.AdaptiveModeOptions) {
				m.StandardOptions = append(m.StandardOptions, func(s *retry.StandardOptions) { s.MaxAttempts = attempts })
			})
		}),
	}
	if o.Region != "" {
		opts = append(opts, config.WithRegion(o.Region))
	}
	if o.Profile != "" {
		opts = append(opts, config.WithSharedConfigProfile(o.Profile))
	}
	if o.Endpoint != "" {
		opts = append(opts, config.WithBaseEndpoint(o.Endpoint))
	}
	cfg, err := config.LoadDefaultConfig(ctx, opts...)
	if profile, missing := errors.AsType[config.SharedConfigProfileNotExistError](err); missing {
		return nil, fmt.Errorf("%w: there is no profile %s; 'aws configure list-profiles' shows those that there are", ErrNoCredentials, profile.Profile)
	}
	if err != nil {
		return nil, explain(fmt.Errorf("read the AWS configuration: %w", err))
	}
	if cfg.Region == "" {
		return nil, ErrNoRegion
	}
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%w (%s); give --profile, set AWS_PROFILE, or run 'aws configure'", ErrNoCredentials, lastCause(err))
	}
	a := &Account{
		config: cfg, iot: iot.NewFromConfig(cfg), lambda: lambda.NewFromConfig(cfg), iam: iam.NewFromConfig(cfg),
		sqs: sqs.NewFromConfig(cfg), logs: cloudwatchlogs.NewFromConfig(cfg),
	}
	// The first call: a wrong endpoint is to be said soon.
	me, err := sts.NewFromConfig(cfg, func(o *sts.Options) { o.Retryer = retry.NewStandard() }).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return nil, explain(fmt.Errorf("ask AWS whose credentials these are: %w", err))
	}
	who, err := arn.Parse(aws.ToString(me.Arn))
	if err != nil {
		return nil, fmt.Errorf("ask AWS whose credentials these are: %w", err)
	}
	a.Place = Place{Partition: who.Partition, Region: cfg.Region, Account: aws.ToString(me.Account), Suffix: suffix(who.Partition)}
	return a, nil
}

// suffix is the DNS suffix of a partition's services (AWS general reference).
func suffix(partition string) string {
	if partition == "aws-cn" {
		return "amazonaws.com.cn"
	}
	return "amazonaws.com"
}

// lastCause is the innermost message of a chain that the SDK nests deeply.
func lastCause(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return strings.TrimSpace(err.Error())
		}
		err = inner
	}
}
