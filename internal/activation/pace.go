package activation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Calls a second that AWS IoT gives an account by default, each operation for
// itself (AWS general reference, AWS IoT Core API rate limits, 2019-11). An
// operation that this table does not have is taken for one of 10.
const (
	quotaDescribeCertificate  = 10
	quotaUpdateCertificate    = 10
	quotaCreateThing          = 15
	quotaAttachThingPrincipal = 15
	quotaAttachPolicy         = 15
	quotaOther                = 10
)

// ActivationsPerSecond is the bound that the quotas set: each activation needs
// one DescribeCertificate and one UpdateCertificate.
const ActivationsPerSecond = min(quotaDescribeCertificate, quotaUpdateCertificate)

// pacer lets the calls of one operation through at its quota, one after the
// other and none in bursts. A throttled call means that somebody else uses the
// quota too: all callers of the process slow down by a share, and come back as
// time goes by, so that those who compete end near equal shares. Safe for
// concurrent use.
//
// The SDK's adaptive retryer does this for a client as a whole, and begins
// without a limit; the quotas are known, and each operation has its own.
type pacer struct {
	full float64 // calls a second at the quota

	mu     sync.Mutex
	rate   float64   // calls a second now
	since  time.Time // when rate was that
	next   time.Time // when the next call may go out
	slowed time.Time // the last time that a throttled call counted
}

const (
	// slowerTo is what a throttled call leaves of the rate, and regain how
	// much of the quota comes back in a second. Throttled all the time, a
	// process still makes a fifth of the quota's calls: quotas that are
	// counted more strictly than we pace must not bring it to a halt.
	slowerTo = 0.75
	regain   = 0.05
	// slowEvery is how often throttled calls count: those that were on their
	// way together say it once. Quotas are refilled by the second.
	slowEvery = time.Second
	// maxTries bounds a call whose context has no deadline.
	maxTries = 20
)

func newPacer(perSecond, percent int) *pacer {
	full := float64(perSecond) * float64(percent) / 100
	return &pacer{full: full, rate: full}
}

// wait returns when the caller may call. Where that is behind ctx's deadline
// it returns ErrNoTime at once.
func (p *pacer) wait(ctx context.Context) error {
	p.mu.Lock()
	now := time.Now()
	p.recover(now)
	at := now
	if p.next.After(now) {
		at = p.next
	}
	if deadline, ok := ctx.Deadline(); ok && !at.Before(deadline) {
		p.mu.Unlock()
		return ErrNoTime
	}
	p.next = at.Add(p.interval())
	p.mu.Unlock()
	timer := time.NewTimer(at.Sub(now))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// throttled slows all down, and lets the quota's bucket fill for a moment.
// Instances that were throttled together come back apart.
func (p *pacer) throttled() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.recover(now)
	if now.Sub(p.slowed) >= slowEvery {
		p.slowed = now
		p.rate *= slowerTo
	}
	if again := now.Add(p.interval() + rand.N(p.interval())); again.After(p.next) {
		p.next = again
	}
}

// recover gives back what has passed since the rate was looked at. The caller
// holds p.mu.
func (p *pacer) recover(now time.Time) {
	p.rate = min(p.full, p.rate+p.full*regain*now.Sub(p.since).Seconds())
	p.since = now
}

// interval is the time between two calls. The caller holds p.mu.
func (p *pacer) interval() time.Duration {
	return time.Duration(float64(time.Second) / p.rate)
}

// call makes one call through p, and makes it again as long as AWS throttles
// it and ctx has time.
func call[In, Out any](ctx context.Context, p *pacer, f func(context.Context, In, ...func(*iot.Options)) (Out, error), in In, opts []func(*iot.Options)) (Out, error) {
	var none Out
	for try := 1; ; try++ {
		if err := p.wait(ctx); err != nil {
			return none, err
		}
		out, err := f(ctx, in, opts...)
		switch {
		case err == nil:
			return out, nil
		case !isThrottled(err):
			return none, err
		case try == maxTries:
			return none, fmt.Errorf("throttled %d times: %w", try, err)
		}
		p.throttled()
	}
}

// isThrottled knows a throttled call by its error code, and an HTTP 429 that
// has none.
func isThrottled(err error) bool {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		switch api.ErrorCode() {
		case "ThrottlingException", "Throttling", "TooManyRequestsException":
			return true
		}
	}
	response, ok := errors.AsType[*smithyhttp.ResponseError](err)
	return ok && response.HTTPStatusCode() == http.StatusTooManyRequests
}

// ClientOptions makes an iot.Client one for New: it tries again what the
// network or AWS broke, and leaves throttled calls to the pacers. It is for
// iot.NewFromConfig.
func ClientOptions(o *iot.Options) {
	o.Retryer = retry.NewStandard(func(s *retry.StandardOptions) {
		throttled := retry.IsErrorRetryableFunc(func(err error) aws.Ternary {
			if isThrottled(err) {
				return aws.FalseTernary
			}
			return aws.UnknownTernary
		})
		s.Retryables = append([]retry.IsErrorRetryable{throttled}, s.Retryables...)
		s.RateLimiter = ratelimit.None // its tokens would run out for all when one operation has trouble
		s.MaxBackoff = 2 * time.Second
	})
}

// pacedAPI is an API with a pacer for each operation.
type pacedAPI struct {
	api API

	describeCertificate, updateCertificate       *pacer
	createThing, describeThing                   *pacer
	attachThingPrincipal, attachPolicy           *pacer
	listByCA, listThingPrincipals, describeTheCA *pacer
}

func newPacedAPI(api API, percent int) *pacedAPI {
	return &pacedAPI{
		api:                  api,
		describeCertificate:  newPacer(quotaDescribeCertificate, percent),
		updateCertificate:    newPacer(quotaUpdateCertificate, percent),
		createThing:          newPacer(quotaCreateThing, percent),
		describeThing:        newPacer(quotaOther, percent),
		attachThingPrincipal: newPacer(quotaAttachThingPrincipal, percent),
		attachPolicy:         newPacer(quotaAttachPolicy, percent),
		listByCA:             newPacer(quotaOther, percent),
		listThingPrincipals:  newPacer(quotaOther, percent),
		describeTheCA:        newPacer(quotaOther, percent),
	}
}

func (p *pacedAPI) DescribeCertificate(ctx context.Context, in *iot.DescribeCertificateInput, o ...func(*iot.Options)) (*iot.DescribeCertificateOutput, error) {
	return call(ctx, p.describeCertificate, p.api.DescribeCertificate, in, o)
}

func (p *pacedAPI) UpdateCertificate(ctx context.Context, in *iot.UpdateCertificateInput, o ...func(*iot.Options)) (*iot.UpdateCertificateOutput, error) {
	return call(ctx, p.updateCertificate, p.api.UpdateCertificate, in, o)
}

func (p *pacedAPI) CreateThing(ctx context.Context, in *iot.CreateThingInput, o ...func(*iot.Options)) (*iot.CreateThingOutput, error) {
	return call(ctx, p.createThing, p.api.CreateThing, in, o)
}

func (p *pacedAPI) DescribeThing(ctx context.Context, in *iot.DescribeThingInput, o ...func(*iot.Options)) (*iot.DescribeThingOutput, error) {
	return call(ctx, p.describeThing, p.api.DescribeThing, in, o)
}

func (p *pacedAPI) AttachThingPrincipal(ctx context.Context, in *iot.AttachThingPrincipalInput, o ...func(*iot.Options)) (*iot.AttachThingPrincipalOutput, error) {
	return call(ctx, p.attachThingPrincipal, p.api.AttachThingPrincipal, in, o)
}

func (p *pacedAPI) AttachPolicy(ctx context.Context, in *iot.AttachPolicyInput, o ...func(*iot.Options)) (*iot.AttachPolicyOutput, error) {
	return call(ctx, p.attachPolicy, p.api.AttachPolicy, in, o)
}

func (p *pacedAPI) ListCertificatesByCA(ctx context.Context, in *iot.ListCertificatesByCAInput, o ...func(*iot.Options)) (*iot.ListCertificatesByCAOutput, error) {
	return call(ctx, p.listByCA, p.api.ListCertificatesByCA, in, o)
}

func (p *pacedAPI) ListThingPrincipals(ctx context.Context, in *iot.ListThingPrincipalsInput, o ...func(*iot.Options)) (*iot.ListThingPrincipalsOutput, error) {
	return call(ctx, p.listThingPrincipals, p.api.ListThingPrincipals, in, o)
}

func (p *pacedAPI) DescribeCACertificate(ctx context.Context, in *iot.DescribeCACertificateInput, o ...func(*iot.Options)) (*iot.DescribeCACertificateOutput, error) {
	return call(ctx, p.describeTheCA, p.api.DescribeCACertificate, in, o)
}
