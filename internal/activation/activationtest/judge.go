package activationtest

import (
	"context"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// Registered is what the registry says of a certificate.
type Registered struct {
	Status   types.CertificateStatus
	Things   []string
	Policies []string
}

// Look asks the registry for a certificate.
func Look(ctx context.Context, api *iot.Client, id string) (Registered, error) {
	d, err := api.DescribeCertificate(ctx, &iot.DescribeCertificateInput{CertificateId: &id})
	if err != nil {
		return Registered{}, err
	}
	arn := d.CertificateDescription.CertificateArn
	things, err := api.ListPrincipalThings(ctx, &iot.ListPrincipalThingsInput{Principal: arn})
	if err != nil {
		return Registered{}, err
	}
	policies, err := api.ListAttachedPolicies(ctx, &iot.ListAttachedPoliciesInput{Target: arn})
	if err != nil {
		return Registered{}, err
	}
	r := Registered{Status: d.CertificateDescription.Status, Things: things.Things}
	for _, p := range policies.Policies {
		r.Policies = append(r.Policies, aws.ToString(p.PolicyName))
	}
	return r, nil
}

// Activated says whether a certificate is as an activation leaves it: ACTIVE,
// with exactly that thing and that policy.
func (r Registered) Activated(thing, policy string) bool {
	return r.Status == types.CertificateStatusActive && slices.Equal(r.Things, []string{thing}) && slices.Equal(r.Policies, []string{policy})
}
