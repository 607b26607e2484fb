package activation

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/jitr-agent/jitr-agent/internal/certs"
)

// OwnerAttribute is the thing attribute that says whose a thing is: the
// certificateId of the CA that signed its gateway's first certificate. It is
// one of the three attributes that a thing without a type may have.
const OwnerAttribute = "caCertificateId"

// claimThing makes the thing, or makes sure that the one there is belongs to
// the same tenant. CreateThing decides between two that come at once, and
// costs one call for a new gateway and for a renewal under the same CA.
//
// CAs with the same policy are one tenant: what the policy allows to one it
// allows to the other, and a CA that follows an expired one must reach the
// things of the first. A thing that names no CA was made by somebody else,
// perhaps for something else than a gateway; handing it over is for the
// operator.
func (a *Activator) claimThing(ctx context.Context, name, caID string) error {
	_, err := a.api.CreateThing(ctx, &iot.CreateThingInput{
		ThingName:        &name,
		AttributePayload: &types.AttributePayload{Attributes: map[string]string{OwnerAttribute: caID}},
	})
	if err == nil {
		return nil
	}
	if _, differs := errors.AsType[*types.ResourceAlreadyExistsException](err); !differs {
		return fmt.Errorf("create the thing %s: %w", name, err)
	}
	out, err := a.api.DescribeThing(ctx, &iot.DescribeThingInput{ThingName: &name})
	if err != nil {
		return fmt.Errorf("describe the thing %s: %w", name, err)
	}
	owner := out.Attributes[OwnerAttribute]
	switch {
	case owner == "":
		return refuse("the thing %s exists and does not say which CA it belongs to; "+
			"if it is this gateway's, set its attribute %s to %s and activate the certificate again", name, OwnerAttribute, caID)
	case !a.sameTenant(owner, caID):
		return refuse("the thing %s belongs to another CA, %s; give this gateway another name", name, owner)
	}
	return nil
}

// sameTenant says whether two CAs have the same policy.
func (a *Activator) sameTenant(x, y string) bool {
	px, ok := a.cfg.Policies[x]
	return x == y || ok && px == a.cfg.Policies[y]
}

// of is the thing name that a certificate stands for.
func (s NameSource) of(leaf *x509.Certificate) (string, error) {
	var name, what string
	switch s {
	case FromSerialNumber:
		name, what = leaf.Subject.SerialNumber, "serialNumber in its subject"
	case FromCertificateID:
		return certs.ID(leaf), nil
	default:
		name, what = leaf.Subject.CommonName, "common name"
	}
	if name == "" {
		return "", refuse("it has no %s, so nobody knows the gateway's name; sign one that has", what)
	}
	if !certs.ValidThingName(name) {
		return "", refuse("its %s %q cannot name a thing; use 1 to 128 of a-z A-Z 0-9 : _ -", what, name)
	}
	return name, nil
}
