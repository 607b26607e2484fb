package activation

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"go.uber.org/zap"
)

// replace deactivates the certificate that an init message says was replaced,
// if the message is right: it came over a connection of the new certificate,
// the new one is ACTIVE and the later one, and both are attached to the thing
// whose client id the connection has. Else nothing is changed, and the log
// says why: a gateway's word alone must not shut another one out.
//
// The later one: whoever got hold of a replaced key must not use the last
// moments of its certificate to turn the new one off.
func (a *Activator) replace(ctx context.Context, e *initEvent) error {
	if e.malformed {
		a.log.Warn("An init message was not understood, and nothing was done for it.", zap.String("principal", e.Principal),
			zap.String("result", string(Stopped)), zap.String("why", "one of the two is not a certificateId"))
		return nil
	}
	if aws.ToString(e.Replaces) == "" {
		return nil // the first certificate of a gateway
	}
	log := a.log.With(zap.String("certificateId", e.CertificateID), zap.String("replaces", *e.Replaces), zap.String("thing", e.ClientID))
	err := a.deactivateReplaced(ctx, e)
	if refusal, ok := errors.AsType[*refusalError](err); ok {
		log.Warn("The replaced certificate was left as it is.", zap.String("result", string(Stopped)), zap.String("why", refusal.why))
		return nil
	}
	if err != nil {
		err = fmt.Errorf("deactivate the certificate %s, which %s replaces: %w", *e.Replaces, e.CertificateID, err)
		log.Error("The replaced certificate could not be deactivated.", zap.String("result", string(Failed)), zap.Error(err))
		return err
	}
	log.Info("The replaced certificate is INACTIVE.", zap.String("result", "replaced"))
	return nil
}

func (a *Activator) deactivateReplaced(ctx context.Context, e *initEvent) error {
	oldID := *e.Replaces
	switch {
	case e.Principal != e.CertificateID:
		return refuse("the message came from the certificate %s", e.Principal)
	case oldID == e.CertificateID:
		return refuse("it would replace itself")
	}
	old, err := a.describe(ctx, oldID)
	if isNotFound(err) {
		return nil // gone, which is more than INACTIVE
	}
	if err != nil {
		return err
	}
	if old.Status != types.CertificateStatusActive {
		return nil // done before
	}
	young, err := a.describe(ctx, e.CertificateID)
	if err != nil {
		return err
	}
	_, ours := a.cfg.Policies[aws.ToString(young.CaCertificateId)]
	switch {
	case young.Status != types.CertificateStatusActive:
		return refuse("the new certificate is %s", young.Status)
	case !ours || !a.sameTenant(aws.ToString(old.CaCertificateId), aws.ToString(young.CaCertificateId)):
		return refuse("the two are not of one tenant's CAs")
	case young.CreationDate == nil || old.CreationDate == nil || !young.CreationDate.After(*old.CreationDate):
		return refuse("it was registered after the one that is said to replace it")
	}
	both, err := a.attachedTo(ctx, e.ClientID, aws.ToString(young.CertificateArn), aws.ToString(old.CertificateArn))
	if err != nil {
		return err
	}
	if !both {
		return refuse("the two do not both belong to the thing %s", e.ClientID)
	}
	return a.setStatus(ctx, oldID, types.CertificateStatusInactive)
}

// attachedTo says whether all principals are attached to the thing.
func (a *Activator) attachedTo(ctx context.Context, thing string, principals ...string) (bool, error) {
	pages := iot.NewListThingPrincipalsPaginator(a.api, &iot.ListThingPrincipalsInput{ThingName: &thing})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if isNotFound(err) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("list the principals of the thing %s: %w", thing, err)
		}
		principals = slices.DeleteFunc(principals, func(p string) bool { return slices.Contains(page.Principals, p) })
		if len(principals) == 0 {
			return true, nil
		}
	}
	return false, nil
}
