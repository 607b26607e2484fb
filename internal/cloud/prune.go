package cloud

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/jitr-agent/jitr-agent/internal/activation"
)

// Leftovers says what PlanPrune takes away.
type Leftovers struct {
	CA        string        // only of this CA; empty: of all that are deployed
	OlderThan time.Duration // how long a certificate must be of no use
	Now       time.Time
}

// PlanPrune finds what nobody needs any more:
//
//   - Certificates that have been PENDING_ACTIVATION for longer than that.
//     They are deleted and not refused: where the gateway comes back after
//     all, it is registered anew.
//   - Certificates that expired longer ago than that.
//   - Things that were made for a gateway and that no certificate is attached to.
//
// A certificate that is INACTIVE or REVOKED and has not expired stays: without
// it the gateway's next CONNECT would register it again as pending.
func (a *Account) PlanPrune(ctx context.Context, l Leftovers) (Plan, error) {
	plan, err := a.planPrune(ctx, l)
	return plan, explain(err)
}

func (a *Account) planPrune(ctx context.Context, l Leftovers) (Plan, error) {
	cas := []string{l.CA}
	if l.CA == "" {
		s, err := a.survey(ctx)
		if err != nil {
			return nil, err
		}
		cas = nil
		for _, t := range s.tenants() {
			cas = append(cas, t.CA)
		}
	} else if !activation.IsCertificateID(l.CA) {
		return nil, fmt.Errorf("%q: %w", l.CA, ErrBadID)
	}
	var plan Plan
	for _, ca := range cas {
		err := a.eachCertificate(ctx, ca, func(c iottypes.Certificate) error {
			why, err := a.useless(ctx, c, l)
			if why == "" || err != nil {
				return err
			}
			changes, err := a.removeCertificate(ctx, c, why)
			plan = append(plan, changes...)
			return err
		})
		if err != nil {
			return nil, err
		}
		err = a.eachThing(ctx, ca, func(t iottypes.ThingAttribute) error {
			name := aws.ToString(t.ThingName)
			principals, err := a.principals(ctx, name)
			if len(principals) == 0 && err == nil {
				plan = append(plan, a.removeThing(name, "no certificate is attached to it"))
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return plan, nil
}

// useless says why a certificate can go, "" where it stays.
func (a *Account) useless(ctx context.Context, c iottypes.Certificate, l Leftovers) (why string, err error) {
	since := aws.ToTime(c.CreationDate)
	if l.Now.Sub(since) < l.OlderThan { // it cannot have expired longer ago either
		return "", nil
	}
	if c.Status == iottypes.CertificateStatusPendingActivation {
		return "pending since " + since.UTC().Format(time.DateOnly), nil
	}
	leaf, err := a.leaf(ctx, aws.ToString(c.CertificateId))
	if absent(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if l.Now.Sub(leaf.NotAfter) >= l.OlderThan {
		return "expired " + leaf.NotAfter.UTC().Format(time.DateOnly), nil
	}
	return "", nil
}
