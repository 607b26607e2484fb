package iotcore

import (
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/iotcore/awsapi"
	"github.com/jitr-agent/jitr-agent/internal/iotcore/iam"
)

// gate stands before every operation of every service: the Region of the
// signature, the permissions of the caller, the rate.
type gate struct {
	region string
	iam    *iam.Service
	faults *faults

	mu      sync.Mutex
	buckets map[string]*bucket // by action
	calls   map[string]Calls   // by action
}

// Calls counts the calls of one action.
type Calls struct {
	Allowed   int64 `json:"allowed"` // by the gate; the operation may have refused all the same
	Denied    int64 `json:"denied"`
	Throttled int64 `json:"throttled"`
}

// Admit implements awsapi.Gate.
func (g *gate) Admit(r *awsapi.Request, op awsapi.Operation) error {
	c := r.Credential
	service, _, _ := strings.Cut(op.Action, ":")
	// IAM and STS have no Regions: everybody signs for them as they like.
	if c.Region != "" && c.Region != g.region && op.Action != "" && service != "iam" {
		return awsapi.Refuse(http.StatusForbidden, "InvalidSignatureException",
			"Credential should be scoped to a valid region, not '%s': the emulator is in %s", c.Region, g.region)
	}
	if op.Action == "" {
		return nil
	}
	err := g.permitted(r, op)
	throttled := err == nil && !g.take(op.Action)
	g.mu.Lock()
	n := g.calls[op.Action]
	switch {
	case err != nil:
		n.Denied++
	case throttled:
		n.Throttled++
	default:
		n.Allowed++
	}
	g.calls[op.Action] = n
	g.mu.Unlock()
	if throttled {
		return awsapi.Refuse(http.StatusBadRequest, "ThrottlingException", "Rate exceeded")
	}
	return err
}

// permitted asks for each resource.
func (g *gate) permitted(r *awsapi.Request, op awsapi.Operation) error {
	resources := []string{"*"}
	if op.Resources != nil {
		resources = op.Resources(r)
	}
	for _, arn := range resources {
		if err := g.iam.May(r.Credential.AccessKey, op.Action, arn); err != nil {
			return dialect(err, op.Action)
		}
	}
	return nil
}

// dialect gives a denial the name that the service has for it.
func dialect(err error, action string) error {
	denied, ok := err.(*awsapi.Error) //nolint:errorlint // as iam makes it
	if !ok || denied.Code != "AccessDeniedException" {
		return err
	}
	service, _, _ := strings.Cut(action, ":")
	switch {
	case service == "iam":
		denied.Code = "AccessDenied"
	case service == "sqs":
		denied.Fields = map[string]string{awsapi.QueryCode: "AccessDenied"}
	case dataPlane(action):
		denied.Code = "ForbiddenException"
	}
	return denied
}

func dataPlane(action string) bool {
	return action == "iot:Publish" || strings.HasSuffix(action, "ThingShadow")
}

// tps is AWS's limit of a control-plane operation per second (AWS general
// reference, AWS IoT Core throttling limits, of 2019; others have at least as
// much today).
func tps(action string) float64 {
	switch action {
	case "iot:AttachPolicy", "iot:DetachPolicy", "iot:CreateThing", "iot:UpdateThing", "iot:DeleteThing",
		"iot:AttachThingPrincipal", "iot:DetachThingPrincipal":
		return 15
	}
	return 10
}

// bucket is a token bucket. It holds what one second brings.
type bucket struct {
	tokens float64
	at     time.Time
}

// take says whether an operation is within its rate.
func (g *gate) take(action string) bool {
	scale := g.faults.get().Throttle
	if scale <= 0 || !strings.HasPrefix(action, "iot:") || dataPlane(action) {
		return true
	}
	rate := tps(action) * scale
	burst := max(rate, 1)
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	b, ok := g.buckets[action]
	if !ok {
		b = &bucket{burst, now}
		g.buckets[action] = b
	}
	b.tokens = min(burst, b.tokens+now.Sub(b.at).Seconds()*rate)
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// counts is a copy of the calls so far.
func (g *gate) counts() map[string]Calls {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.calls)
}
