// Package activation takes one device certificate from PENDING_ACTIVATION to
// ACTIVE: a thing, the certificate attached to it, the policy of its CA, and
// ACTIVE last. It is what jitr-activator runs in AWS Lambda, and what jitrctl
// runs for one certificate at the operator's word.
//
// It promises:
//
//   - A certificate that becomes ACTIVE has its thing and its policy. Whatever
//     call fails, the certificate is pending as before, and doing it again
//     completes it.
//   - Each CONNECT of a pending certificate publishes the event again, so
//     duplicates are the normal case: what this process has activated costs no
//     further call, and the same certificate is never worked on twice at once.
//   - A certificate of one tenant never gets the thing of another's.
//   - A refusal is final (INACTIVE) and says why in the log. What is not the
//     certificate's fault (throttling, a missing policy, a list of revocations
//     that is too old) refuses nothing: it is an error, and AWS delivers the
//     event again.
package activation

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"go.uber.org/zap"

	"github.com/jitr-agent/jitr-agent/internal/certs"
)

// Outcome is what became of a certificate.
type Outcome string

// The outcomes, as they stand in the log under "result".
const (
	Activated     Outcome = "activated"
	AlreadyActive Outcome = "already-active" // somebody else was faster
	Duplicate     Outcome = "duplicate"      // decided before by this process; no call was made
	Refused       Outcome = "refused"        // set to INACTIVE
	Stopped       Outcome = "stopped"        // INACTIVE, REVOKED or gone: somebody has decided; nothing was changed
	NotYetValid   Outcome = "not-yet-valid"  // nothing was changed; a later connection asks again
	Unknown       Outcome = "unknown-ca"     // no tenant of ours; nothing was changed
	Postponed     Outcome = "postponed"      // ErrNoTime
	Failed        Outcome = "failed"         // the error says why; it is tried again
)

// Result is an Outcome and what it is about. What was not found out is empty.
type Result struct {
	CertificateID   string
	CACertificateID string
	Thing           string
	Outcome         Outcome
	Why             string // one sentence; empty for Activated
}

// Request asks for the activation of one certificate.
type Request struct {
	CertificateID string

	// At is when the certificate was seen pending. It tells a duplicate from
	// a certificate that was deleted and registered again. The zero time is
	// now: no duplicate.
	At time.Time

	// Again also takes a certificate that is INACTIVE: an operator's second
	// thought about a refusal.
	Again bool
}

// Activator activates certificates. It is safe for concurrent use.
type Activator struct {
	cfg    Config
	api    API
	log    *zap.Logger
	checks []check
	memory *memory

	foreign atomic.Int64 // certificates that somebody else was found to have activated, since the last survey
}

// New makes an Activator that calls api no faster than the quotas of AWS IoT
// let it. The client behind api must leave throttled calls alone; see
// ClientOptions. Errors are about cfg and the files that it names.
func New(cfg Config, api API, log *zap.Logger) (*Activator, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	a := &Activator{cfg: cfg, api: newPacedAPI(api, cfg.quotaPercent()), log: log, memory: newMemory(remembered)}
	var err error
	if a.checks, err = newChecks(cfg, a.api); err != nil {
		return nil, err
	}
	return a, nil
}

// Activate decides on one certificate and carries the decision out. Errors
// are worth another try, and ErrNoTime means that nothing was begun. Each
// result but Duplicate is one line in the log.
func (a *Activator) Activate(ctx context.Context, req Request) (Result, error) {
	res, err := a.memory.once(ctx, req, func() (Result, error) { return a.decide(ctx, req) })
	switch {
	case errors.Is(err, ErrNoTime):
		res.Outcome, res.Why = Postponed, err.Error()
	case err != nil:
		res.Outcome, res.Why = Failed, err.Error()
	}
	a.report(res)
	return res, err
}

func (a *Activator) decide(ctx context.Context, req Request) (Result, error) {
	res := Result{CertificateID: req.CertificateID}
	if !enoughTime(ctx) {
		return res, ErrNoTime
	}
	d, err := a.describe(ctx, req.CertificateID)
	if isNotFound(err) {
		res.Outcome, res.Why = Stopped, "the certificate does not exist any more; the gateway's next connection registers it again"
		return res, nil
	}
	if err != nil {
		return res, err
	}
	res.CACertificateID = aws.ToString(d.CaCertificateId)
	policy, ours := a.cfg.Policies[res.CACertificateID]
	switch {
	case !ours:
		res.Outcome, res.Why = Unknown, "no policy is configured for the CA that signed it; deploy one with jitrctl cloud deploy --ca-id"
		return res, nil
	case d.Status == types.CertificateStatusActive:
		a.foreign.Add(1)
		res.Outcome, res.Why = AlreadyActive, "it is ACTIVE already"
		return res, nil
	case d.Status == types.CertificateStatusPendingActivation:
	case d.Status == types.CertificateStatusInactive && req.Again:
	default:
		res.Outcome, res.Why = Stopped, fmt.Sprintf("it is %s: somebody has decided on it", d.Status)
		return res, nil
	}

	err = a.provision(ctx, d, policy, &res)
	if early, ok := errors.AsType[*notYetValidError](err); ok {
		res.Outcome, res.Why = NotYetValid, early.Error()
		return res, nil
	}
	if refusal, ok := errors.AsType[*refusalError](err); ok {
		if err := a.setStatus(ctx, req.CertificateID, types.CertificateStatusInactive); err != nil {
			return res, fmt.Errorf("refuse it, because %w: %w", refusal, err)
		}
		res.Outcome, res.Why = Refused, refusal.Error()
		return res, nil
	}
	if err != nil {
		return res, err
	}
	res.Outcome = Activated
	return res, nil
}

// provision does the steps in their order. A refusal is a *refusalError.
func (a *Activator) provision(ctx context.Context, d *types.CertificateDescription, policy string, res *Result) error {
	leaf, err := parse(aws.ToString(d.CertificatePem))
	if err != nil {
		return err
	}
	c := candidate{leaf: leaf, id: res.CertificateID, caID: res.CACertificateID}
	if c.thing, err = a.cfg.ThingName.of(leaf); err != nil {
		return err
	}
	res.Thing = c.thing
	for _, check := range a.checks {
		if err := check(ctx, c); err != nil {
			return err
		}
	}
	if err := a.claimThing(ctx, c.thing, c.caID); err != nil {
		return err
	}
	if err := a.attach(ctx, c.thing, policy, aws.ToString(d.CertificateArn)); err != nil {
		return err
	}
	return a.setStatus(ctx, c.id, types.CertificateStatusActive)
}

func parse(pem string) (*x509.Certificate, error) {
	chain, err := certs.ParseChain([]byte(pem))
	if err != nil {
		return nil, refuse("the certificate cannot be read: %v", err)
	}
	return chain[0], nil
}

// attach gives the certificate its thing and its policy. Both calls may have
// been made before.
func (a *Activator) attach(ctx context.Context, thing, policy, certificateARN string) error {
	in := &iot.AttachThingPrincipalInput{ThingName: &thing, Principal: &certificateARN}
	if a.cfg.ExclusiveThing {
		in.ThingPrincipalType = types.ThingPrincipalTypeExclusiveThing
	}
	if _, err := a.api.AttachThingPrincipal(ctx, in); err != nil {
		return fmt.Errorf("attach the certificate to the thing %s: %w", thing, err)
	}
	_, err := a.api.AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: &policy, Target: &certificateARN})
	if isNotFound(err) {
		return fmt.Errorf("attach the policy %s: it does not exist; make it with jitrctl cloud deploy: %w", policy, err)
	}
	if err != nil {
		return fmt.Errorf("attach the policy %s: %w", policy, err)
	}
	return nil
}

func (a *Activator) describe(ctx context.Context, id string) (*types.CertificateDescription, error) {
	out, err := a.api.DescribeCertificate(ctx, &iot.DescribeCertificateInput{CertificateId: &id})
	if err != nil {
		return nil, fmt.Errorf("describe the certificate %s: %w", id, err)
	}
	if out.CertificateDescription == nil {
		return nil, fmt.Errorf("describe the certificate %s: the answer has no description", id)
	}
	return out.CertificateDescription, nil
}

func (a *Activator) setStatus(ctx context.Context, id string, to types.CertificateStatus) error {
	if _, err := a.api.UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: &id, NewStatus: to}); err != nil {
		return fmt.Errorf("set the certificate %s to %s: %w", id, to, err)
	}
	return nil
}
