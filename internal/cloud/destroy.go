package cloud

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/jitr-agent/jitr-agent/internal/activation"
)

// Removal says what Destroy takes away.
type Removal struct {
	CA string // only this one's; empty: everything

	// Registered also takes the CAs, their device certificates, and the things
	// that were made for them.
	Registered bool
}

// PlanDestroy is the way back from Deploy, and from RegisterCA where r says so.
// The last CA takes with it what all share. While device certificates are
// ACTIVE the error wraps ErrStillActive: their gateways would be cut off.
func (a *Account) PlanDestroy(ctx context.Context, r Removal) (Plan, error) {
	plan, err := a.planDestroy(ctx, r)
	return plan, explain(err)
}

func (a *Account) planDestroy(ctx context.Context, r Removal) (Plan, error) {
	if r.CA != "" && !activation.IsCertificateID(r.CA) {
		return nil, fmt.Errorf("%q: %w", r.CA, ErrBadID)
	}
	s, err := a.survey(ctx)
	if err != nil {
		return nil, err
	}
	cas := []string{r.CA}
	rest := slices.DeleteFunc(s.tenants(), func(t Tenant) bool { return t.CA == r.CA || r.CA == "" })
	if r.CA == "" {
		if cas, err = a.ourCAs(ctx, s, r.Registered); err != nil {
			return nil, err
		}
	}
	working := cas
	if len(rest) == 0 { // then all policies go, also those of a CA whose rule somebody deleted
		working = append(s.namedCAs(), cas...)
	}
	slices.Sort(working)
	for _, ca := range slices.Compact(working) {
		if err := a.noneActive(ctx, ca); err != nil {
			return nil, err
		}
	}

	var plan Plan
	if len(rest) > 0 {
		plan, err = a.removeTenant(ctx, s, r.CA, rest)
	} else {
		plan, err = a.removeAll(ctx, s)
	}
	if err != nil {
		return nil, err
	}
	if r.Registered {
		for _, ca := range cas {
			changes, err := a.removeRegistered(ctx, ca)
			if err != nil {
				return nil, err
			}
			plan = append(plan, changes...)
		}
	}
	return plan.once(), nil
}

// namedCAs are those that our rules and policies were made for.
func (s *survey) namedCAs() []string {
	ids := map[string]bool{}
	for _, of := range []map[string]found{s.rules, s.policies} {
		for _, f := range of {
			if id := f.tags[tagCA]; f.ours() && id != "" {
				ids[id] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(ids))
}

// ourCAs are the named ones, and with registered also those that RegisterCA
// has tagged.
func (a *Account) ourCAs(ctx context.Context, s *survey, registered bool) ([]string, error) {
	ids := s.namedCAs()
	if !registered {
		return ids, nil
	}
	cas, err := a.listCAs(ctx)
	if err != nil {
		return nil, err
	}
	for _, ca := range cas {
		if ca.tags[tagOwner] != "" && !slices.Contains(ids, ca.id) {
			ids = append(ids, ca.id)
		}
	}
	return ids, nil
}

// noneActive refuses where gateways work.
func (a *Account) noneActive(ctx context.Context, ca string) error {
	n := 0
	err := a.eachCertificate(ctx, ca, func(c iottypes.Certificate) error {
		if c.Status == iottypes.CertificateStatusActive {
			n++
		}
		return nil
	})
	if err != nil {
		return err
	}
	if n > 0 {
		return fmt.Errorf("%w: %d of the CA %s, and their gateways would be cut off; take them out of service first: jitrctl cloud list --ca-id %s --status ACTIVE --ids | xargs -r jitrctl cloud deactivate",
			ErrStillActive, n, shortID(ca), ca)
	}
	return nil
}

// removeTenant takes one CA out, and leaves the rest of the tenants.
func (a *Account) removeTenant(ctx context.Context, s *survey, ca string, rest []Tenant) (Plan, error) {
	spec, err := s.asDeployed("")
	if err != nil {
		return nil, err
	}
	spec.Tenants = rest
	// Reserved concurrency is not this command's business.
	spec.Unreserved = s.function == nil || s.function.Concurrency == nil
	if spec.Arch == "" { // no function: somebody deleted it, and deploy makes it anew
		spec.Arch = Architectures()[0]
	}
	stack, err := NewStack(a.Place, *spec)
	if err != nil {
		return nil, err
	}
	var plan Plan
	for _, p := range stack.Policies {
		if have := s.policies[p.Name]; have.ours() && have.tags[tagCA] == ca {
			plan = append(plan, a.retagPolicy(have.arn, p)) // it stays, for another CA of the tenant
		}
	}
	for _, name := range s.superfluous(stack.Rules) {
		plan = append(plan, a.removeRule(name))
	}
	_, needless, err := a.planPermissions(ctx, stack.Rules)
	if err != nil {
		return nil, err
	}
	plan = append(plan, needless...)
	if s.function != nil {
		plan = append(plan, a.planConfiguration(s.function.Configuration, stack.Function)...)
	}
	for _, name := range slices.Sorted(maps.Keys(s.policies)) {
		p := s.policies[name]
		wanted := slices.ContainsFunc(stack.Policies, func(w DevicePolicy) bool { return w.Name == name })
		if !p.ours() || wanted || p.tags[tagCA] != ca && s.rules[ruleName(ca)].tags[tagTenant] != name[len(policyPrefix):] {
			continue
		}
		changes, err := a.removePolicy(ctx, name)
		if err != nil {
			return nil, err
		}
		plan = append(plan, changes...)
	}
	return plan, nil
}

// removeAll ends the flow of events first, so that nothing is activated
// half-way.
func (a *Account) removeAll(ctx context.Context, s *survey) (Plan, error) {
	var plan Plan
	var failed error
	add := func(changes []Change, err error) {
		if failed == nil {
			plan, failed = append(plan, changes...), err
		}
	}
	for _, name := range s.superfluous(nil) {
		add([]Change{a.removeRule(name)}, nil)
	}
	add(a.removeMappings(ctx))
	add(a.removeFunction(s.function))
	for _, name := range []string{eventsQueue, failedQueue} {
		add(a.removeQueue(ctx, name))
	}
	add(a.removeLogGroup(ctx, logGroupName))
	for _, name := range slices.Sorted(maps.Keys(s.policies)) {
		if s.policies[name].ours() {
			add(a.removePolicy(ctx, name))
		}
	}
	for _, name := range []string{a.activatorRole(), a.rulesRole()} {
		add(a.removeRole(ctx, name))
	}
	return plan, failed
}

// removeRegistered takes a CA, its device certificates and their things. The
// things come first, and are found by the CA that they name: cut off, the
// same command finds the rest.
func (a *Account) removeRegistered(ctx context.Context, ca string) ([]Change, error) {
	var changes []Change
	err := a.eachThing(ctx, ca, func(t iottypes.ThingAttribute) error {
		name := aws.ToString(t.ThingName)
		principals, err := a.principals(ctx, name)
		if err != nil {
			return err
		}
		for _, p := range principals {
			changes = append(changes, a.detachThing(name, p))
		}
		changes = append(changes, a.removeThing(name))
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = a.eachCertificate(ctx, ca, func(c iottypes.Certificate) error {
		more, err := a.removeCertificate(ctx, c)
		changes = append(changes, more...)
		return err
	})
	if err != nil {
		return nil, err
	}
	out, err := a.iot.DescribeCACertificate(ctx, &iot.DescribeCACertificateInput{CertificateId: &ca})
	if absent(err) {
		return changes, nil
	}
	if err != nil {
		return nil, fmt.Errorf("describe the CA %s: %w", ca, err)
	}
	if out.CertificateDescription.Status == iottypes.CACertificateStatusActive {
		changes = append(changes, change(Update, kindCA, ca, func(ctx context.Context) error {
			_, err := a.iot.UpdateCACertificate(ctx, &iot.UpdateCACertificateInput{CertificateId: &ca, NewStatus: iottypes.CACertificateStatusInactive})
			return err
		}, differs("status", iottypes.CACertificateStatusActive, iottypes.CACertificateStatusInactive)))
	}
	return append(changes, change(Delete, kindCA, ca, func(ctx context.Context) error {
		_, err := a.iot.DeleteCACertificate(ctx, &iot.DeleteCACertificateInput{CertificateId: &ca})
		return err
	})), nil
}

// eachThing visits the things that the activator made for a CA.
func (a *Account) eachThing(ctx context.Context, ca string, visit func(iottypes.ThingAttribute) error) error {
	in := &iot.ListThingsInput{AttributeName: aws.String(activation.OwnerAttribute), AttributeValue: &ca}
	for pages := iot.NewListThingsPaginator(a.iot, in); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("list the things of the CA %s: %w", ca, err)
		}
		for _, t := range page.Things {
			if err := visit(t); err != nil {
				return err
			}
		}
	}
	return nil
}
