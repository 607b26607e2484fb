package cloud

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
	"go.uber.org/zap"

	"github.com/jitr-agent/jitr-agent/internal/activation"
	"github.com/jitr-agent/jitr-agent/internal/certs"
)

const (
	kindCertificate     = "certificate"
	kindThing           = "thing"
	kindThingAttachment = "thing attachment"
)

// Certificate is a device certificate as AWS IoT has it.
type Certificate struct {
	ID        string     `json:"certificate_id"`
	CA        string     `json:"ca_certificate_id"`
	Status    string     `json:"status"`
	Name      *string    `json:"name"`   // the common name; null: it has none
	Things    []string   `json:"things"` // that it is attached to
	CreatedAt time.Time  `json:"created_at"`
	NotAfter  *time.Time `json:"not_after_at"`
}

// Filter says which certificates to list. What is empty lets all through.
type Filter struct {
	CA     string // of one CA; empty: of all that are registered here
	Status string // as PENDING_ACTIVATION
	Brief  bool   // only what the list has: no Name, Things and NotAfter, and a call for 250 certificates instead of two for each
}

// Certificates visits the device certificates that f describes. With two
// calls for each, a fleet of 10,000 takes half an hour at AWS's 10 calls a
// second, so each is visited as soon as it is known.
func (a *Account) Certificates(ctx context.Context, f Filter, visit func(Certificate) error) error {
	return explain(a.certificates(ctx, f, visit))
}

func (a *Account) certificates(ctx context.Context, f Filter, visit func(Certificate) error) error {
	var ids []string
	if f.CA != "" {
		if _, err := a.ca(ctx, f.CA); err != nil {
			return err
		}
		ids = []string{f.CA}
	} else {
		cas, err := a.listCAs(ctx)
		if err != nil {
			return err
		}
		for _, ca := range cas {
			ids = append(ids, ca.id)
		}
	}
	for _, id := range ids {
		err := a.eachCertificate(ctx, id, func(c iottypes.Certificate) error {
			if f.Status != "" && string(c.Status) != f.Status {
				return nil
			}
			row := Certificate{ID: aws.ToString(c.CertificateId), CA: id, Status: string(c.Status), CreatedAt: aws.ToTime(c.CreationDate).UTC(), Things: []string{}}
			if !f.Brief {
				if err := a.complete(ctx, &row, aws.ToString(c.CertificateArn)); err != nil {
					return err
				}
			}
			return visit(row)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// complete adds what a list does not have. A certificate that was deleted
// meanwhile stays as it was listed.
func (a *Account) complete(ctx context.Context, row *Certificate, arn string) error {
	leaf, err := a.leaf(ctx, row.ID)
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	row.NotAfter = new(leaf.NotAfter.UTC())
	if leaf.Subject.CommonName != "" {
		row.Name = &leaf.Subject.CommonName
	}
	row.Things, err = a.thingsOf(ctx, arn)
	return err
}

// leaf is a certificate itself.
func (a *Account) leaf(ctx context.Context, id string) (*x509.Certificate, error) {
	out, err := a.iot.DescribeCertificate(ctx, &iot.DescribeCertificateInput{CertificateId: &id})
	if err != nil {
		return nil, fmt.Errorf("describe the certificate %s: %w", id, err)
	}
	if out.CertificateDescription == nil {
		return nil, fmt.Errorf("describe the certificate %s: the answer has no description", id)
	}
	chain, err := certs.ParseChain([]byte(aws.ToString(out.CertificateDescription.CertificatePem)))
	if err != nil {
		return nil, fmt.Errorf("read the certificate %s: %w", id, err)
	}
	return chain[0], nil
}

// eachCertificate visits the device certificates of a CA.
func (a *Account) eachCertificate(ctx context.Context, ca string, visit func(iottypes.Certificate) error) error {
	in := &iot.ListCertificatesByCAInput{CaCertificateId: &ca, PageSize: aws.Int32(250)} // the most that AWS takes
	for pages := iot.NewListCertificatesByCAPaginator(a.iot, in); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if absent(err) { // no such CA
			return nil
		}
		if err != nil {
			return fmt.Errorf("list the certificates of the CA %s: %w", ca, err)
		}
		for _, c := range page.Certificates {
			if err := visit(c); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *Account) thingsOf(ctx context.Context, arn string) ([]string, error) {
	things := []string{}
	for pages := iot.NewListPrincipalThingsPaginator(a.iot, &iot.ListPrincipalThingsInput{Principal: &arn}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if absent(err) {
			return things, nil
		}
		if err != nil {
			return nil, fmt.Errorf("list the things of %s: %w", arn, err)
		}
		things = append(things, page.Things...)
	}
	return things, nil
}

func (a *Account) principals(ctx context.Context, thing string) ([]string, error) {
	var principals []string
	for pages := iot.NewListThingPrincipalsPaginator(a.iot, &iot.ListThingPrincipalsInput{ThingName: &thing}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if absent(err) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("list what is attached to the thing %s: %w", thing, err)
		}
		principals = append(principals, page.Principals...)
	}
	return principals, nil
}

// registeredCA is a CA of the account.
type registeredCA struct {
	id   string
	tags map[string]string
}

func (a *Account) listCAs(ctx context.Context) ([]registeredCA, error) {
	var cas []registeredCA
	for pages := iot.NewListCACertificatesPaginator(a.iot, &iot.ListCACertificatesInput{}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list the CAs: %w", err)
		}
		for _, c := range page.Certificates {
			tagged := map[string]found{}
			if err := a.note(ctx, tagged, "", c.CertificateId, c.CertificateArn); err != nil {
				return nil, err
			}
			id := aws.ToString(c.CertificateId)
			cas = append(cas, registeredCA{id: id, tags: tagged[id].tags})
		}
	}
	return cas, nil
}

// PlanActivate does for certificates what the deployed function does, at the
// operator's word: name pattern, inventory and revocation lists are not
// asked, and a certificate that is INACTIVE is taken too. Where one is not
// activated all the same, Apply's error wraps ErrRefused and says why.
func (a *Account) PlanActivate(ctx context.Context, ids []string) (Plan, error) {
	plan, err := a.planActivate(ctx, ids)
	return plan, explain(err)
}

func (a *Account) planActivate(ctx context.Context, ids []string) (Plan, error) {
	activator, err := a.activator(ctx)
	if err != nil {
		return nil, err
	}
	var plan Plan
	for _, id := range ids {
		status, err := a.certificateStatus(ctx, id)
		if err != nil {
			return nil, err
		}
		if status == iottypes.CertificateStatusActive {
			plan = append(plan, keep(kindCertificate, id, string(status))...)
			continue
		}
		if status == iottypes.CertificateStatusRevoked {
			return nil, fmt.Errorf("%w: %s is REVOKED, which is for good; sign its gateway a new one with 'jitrctl ca sign --renew'", ErrRefused, id)
		}
		plan = append(plan, change(Update, kindCertificate, id, func(ctx context.Context) error {
			return activate(ctx, activator, id)
		}, differs("status", status, iottypes.CertificateStatusActive)))
	}
	return plan, nil
}

func activate(ctx context.Context, activator *activation.Activator, id string) error {
	res, err := activator.Activate(ctx, activation.Request{CertificateID: id, Again: true})
	if err != nil {
		return err
	}
	switch res.Outcome {
	case activation.Activated, activation.AlreadyActive:
		return nil
	default:
		return fmt.Errorf("%w: %s", ErrRefused, res.Why)
	}
}

// activator has the policies of what is deployed, and no optional check.
func (a *Account) activator(ctx context.Context) (*activation.Activator, error) {
	s, err := a.survey(ctx)
	if err != nil {
		return nil, err
	}
	deployed, err := s.checks()
	if err != nil {
		return nil, err
	}
	cfg := activation.Config{
		Policies: map[string]string{}, Account: a.Account,
		ThingName: deployed.ThingName, ExclusiveThing: deployed.ExclusiveThing, QuotaPercent: deployed.QuotaPercent,
	}
	for _, t := range s.tenants() {
		cfg.Policies[t.CA] = policyName(t.Name)
	}
	if len(cfg.Policies) == 0 {
		return nil, fmt.Errorf("%w, so nobody knows which policy the certificate gets; run 'jitrctl cloud deploy --ca-id ID' first", ErrNotDeployed)
	}
	return activation.New(cfg, iot.NewFromConfig(a.config, activation.ClientOptions), zap.NewNop()) // the error has all that a line would say
}

// PlanDeactivate takes certificates out of service: AWS IoT ends their
// connections within a few minutes. What is REVOKED stays so.
func (a *Account) PlanDeactivate(ctx context.Context, ids []string) (Plan, error) {
	var plan Plan
	for _, id := range ids {
		changes, err := a.planDeactivate(ctx, id)
		if err != nil {
			return nil, explain(err)
		}
		plan = append(plan, changes...)
	}
	return plan, nil
}

func (a *Account) planDeactivate(ctx context.Context, id string) ([]Change, error) {
	switch status, err := a.certificateStatus(ctx, id); {
	case err != nil:
		return nil, err
	case status == iottypes.CertificateStatusInactive, status == iottypes.CertificateStatusRevoked:
		return keep(kindCertificate, id, string(status)), nil
	default:
		return []Change{a.deactivate(id, status)}, nil
	}
}

func (a *Account) certificateStatus(ctx context.Context, id string) (iottypes.CertificateStatus, error) {
	if !activation.IsCertificateID(id) {
		return "", fmt.Errorf("%q: %w; 'jitrctl cloud list' shows them", id, ErrBadID)
	}
	out, err := a.iot.DescribeCertificate(ctx, &iot.DescribeCertificateInput{CertificateId: &id})
	if absent(err) {
		return "", fmt.Errorf("%s is not registered in account %s and Region %s (ResourceNotFoundException); 'jitrctl cloud list' shows those that are", id, a.Account, a.Region)
	}
	if err != nil {
		return "", fmt.Errorf("describe the certificate %s: %w", id, err)
	}
	if out.CertificateDescription == nil {
		return "", errors.New("describe the certificate " + id + ": the answer has no description")
	}
	return out.CertificateDescription.Status, nil
}

func (a *Account) deactivate(id string, from iottypes.CertificateStatus, details ...string) Change {
	details = append(details, differs("status", from, iottypes.CertificateStatusInactive))
	return change(Update, kindCertificate, id, func(ctx context.Context) error {
		_, err := a.iot.UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: &id, NewStatus: iottypes.CertificateStatusInactive})
		return err
	}, details...)
}

// removeCertificate deletes a certificate with its attachments. AWS IoT does
// not delete what is ACTIVE or attached to something (DeleteCertificate in the
// API reference).
func (a *Account) removeCertificate(ctx context.Context, c iottypes.Certificate, why ...string) ([]Change, error) {
	id, arn := aws.ToString(c.CertificateId), aws.ToString(c.CertificateArn)
	var changes []Change
	if c.Status == iottypes.CertificateStatusActive {
		changes = append(changes, a.deactivate(id, c.Status, why...))
	}
	// ready is asked before anything is taken from the certificate: a gateway
	// that was activated since the plan was made keeps what it needs.
	ready := func(ctx context.Context) error {
		if c.Status != iottypes.CertificateStatusPendingActivation {
			return nil
		}
		return a.stillPending(ctx, id)
	}
	for pages := iot.NewListAttachedPoliciesPaginator(a.iot, &iot.ListAttachedPoliciesInput{Target: &arn}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list the policies of the certificate %s: %w", id, err)
		}
		for _, p := range page.Policies {
			changes = append(changes, a.detachPolicy(aws.ToString(p.PolicyName), arn).after(ready))
		}
	}
	things, err := a.thingsOf(ctx, arn)
	if err != nil {
		return nil, err
	}
	for _, t := range things {
		changes = append(changes, a.detachThing(t, arn).after(ready))
	}
	return append(changes, change(Delete, kindCertificate, id, func(ctx context.Context) error {
		return a.deleteCertificate(ctx, id)
	}, why...)), nil
}

// deleteCertificate does not make a pending certificate INACTIVE first: cut
// off behind that, its gateway would be shut out for good. The reference says
// only that ACTIVE ones are not deleted; where AWS does not delete a pending
// one either, there is no other way. What is ACTIVE by now stays.
func (a *Account) deleteCertificate(ctx context.Context, id string) error {
	in := &iot.DeleteCertificateInput{CertificateId: &id}
	_, err := a.iot.DeleteCertificate(ctx, in)
	if code(err) != "CertificateStateException" {
		return err
	}
	if err := a.stillPending(ctx, id); err != nil {
		return err
	}
	if _, err := a.iot.UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: &id, NewStatus: iottypes.CertificateStatusInactive}); err != nil {
		return err
	}
	_, err = a.iot.DeleteCertificate(ctx, in)
	return err
}

// stillPending is nil where a certificate is what a plan took it for.
func (a *Account) stillPending(ctx context.Context, id string) error {
	status, err := a.certificateStatus(ctx, id)
	if err != nil {
		return err
	}
	if status != iottypes.CertificateStatusPendingActivation {
		return fmt.Errorf("it became %s since the plan was made; give the same command again", status)
	}
	return nil
}

func (a *Account) detachThing(thing, principal string) Change {
	return change(Delete, kindThingAttachment, thing+" of "+afterSlash(principal), func(ctx context.Context) error {
		_, err := a.iot.DetachThingPrincipal(ctx, &iot.DetachThingPrincipalInput{ThingName: &thing, Principal: &principal})
		return err
	})
}

func (a *Account) removeThing(name string, why ...string) Change {
	return change(Delete, kindThing, name, func(ctx context.Context) error {
		_, err := a.iot.DeleteThing(ctx, &iot.DeleteThingInput{ThingName: &name})
		return err
	}, why...)
}

// afterSlash is the name at the end of an ARN.
func afterSlash(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }
