package cloud

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/jitr-agent/jitr-agent/internal/activation"
)

// Choices are what an operator says to Deploy. What is nil or empty stays as
// it is deployed, so that nobody has to say everything again for a second CA.
type Choices struct {
	CA          string    // certificateId of a registered CA
	Tenant      string    // empty: the first 12 digits of CA
	Prefix      *string   // before all topics
	Arch        string    // empty: DefaultArch for a new function
	DefaultArch string    // of Architectures
	Queue       *bool     // a queue between rules and function
	Unreserved  bool      // no reserved concurrency
	NamePattern *string   // see activation.Config
	CRLs        *[]string // URLs; see activation.Config
	Inventory   *string   // see activation.Config; a file's name in the zip

	// Zip is the code for an architecture, with the inventory in it.
	Zip func(arch string) ([]byte, error)
}

// Deployment is a plan to deploy.
type Deployment struct {
	Plan
	// Warnings are what the operator may not have meant: that no gateway will
	// be registered though all is deployed, or that a check is more CAs' than
	// the one that was named.
	Warnings []string
}

// PlanDeploy compares the account with what c asks for, beside what other CAs
// have. The CA has to be registered: else the error wraps ErrNotRegistered.
func (a *Account) PlanDeploy(ctx context.Context, c Choices) (*Deployment, error) {
	d, err := a.planDeploy(ctx, c)
	return d, explain(err)
}

func (a *Account) planDeploy(ctx context.Context, c Choices) (*Deployment, error) {
	ca, err := a.ca(ctx, c.CA)
	if err != nil {
		return nil, err
	}
	s, err := a.survey(ctx)
	if err != nil {
		return nil, err
	}
	spec, err := s.spec(c)
	if err != nil {
		return nil, err
	}
	before, err := s.asDeployed(spec.Arch)
	if err != nil {
		return nil, err
	}
	plan, err := a.compare(ctx, s, spec)
	if err != nil {
		return nil, err
	}
	d := &Deployment{Plan: plan, Warnings: checkWarnings(before, spec, c)}
	if w := caWarning(ca); w != "" {
		d.Warnings = append(d.Warnings, w)
	}
	return d, nil
}

// checkWarnings are about checks that this plan changes for other CAs as well,
// or that stand already where it adds a CA: its gateways are judged by them.
func checkWarnings(before, after *Spec, c Choices) (warnings []string) {
	n := len(after.Tenants)
	if n < 2 {
		return nil
	}
	joins := before.tenant(c.CA) == nil
	for _, check := range []struct {
		name         string
		set, changed bool
	}{
		{"the name pattern", after.Checks.NamePattern != "", before.Checks.NamePattern != after.Checks.NamePattern},
		// The file's name in the zip is always the same.
		{"the inventory", after.Checks.Inventory != "", after.Checks.Inventory != "" || before.Checks.Inventory != ""},
		{"the list of CRLs", len(after.Checks.CRLs) > 0, !slices.Equal(before.Checks.CRLs, after.Checks.CRLs)},
	} {
		switch {
		case check.set && (check.changed || joins):
			warnings = append(warnings, fmt.Sprintf("%s holds for all %d CAs", check.name, n))
		case check.changed:
			warnings = append(warnings, fmt.Sprintf("%s is dropped for all %d CAs", check.name, n))
		}
	}
	return warnings
}

// caWarning says what is not as register-ca leaves it.
func caWarning(ca *iottypes.CACertificateDescription) string {
	var wrong []string
	if ca.Status != iottypes.CACertificateStatusActive {
		wrong = append(wrong, string(ca.Status))
	}
	if ca.AutoRegistrationStatus != iottypes.AutoRegistrationStatusEnable {
		wrong = append(wrong, "without auto-registration")
	}
	if len(wrong) == 0 {
		return ""
	}
	return fmt.Sprintf("the CA %s is %s, so none of its gateways is registered; run 'jitrctl cloud register-ca' again", shortID(aws.ToString(ca.CertificateId)), strings.Join(wrong, " and "))
}

func (s *Spec) tenant(ca string) *Tenant {
	for i := range s.Tenants {
		if s.Tenants[i].CA == ca {
			return &s.Tenants[i]
		}
	}
	return nil
}

// spec is what is deployed, with the choices put in.
func (s *survey) spec(c Choices) (*Spec, error) {
	spec, err := s.asDeployed(c.DefaultArch)
	if err != nil {
		return nil, err
	}
	if err := spec.join(c); err != nil {
		return nil, err
	}
	if c.Arch != "" {
		spec.Arch = c.Arch
	}
	if c.Queue != nil {
		spec.Queue = *c.Queue
	}
	spec.Unreserved = c.Unreserved
	if c.NamePattern != nil {
		spec.Checks.NamePattern = *c.NamePattern
	}
	if c.CRLs != nil {
		spec.Checks.CRLs = *c.CRLs
	}
	switch {
	case c.Inventory != nil:
		spec.Checks.Inventory = *c.Inventory
	case spec.Checks.Inventory != "":
		return nil, fmt.Errorf("%w: the function that is deployed lets in only the gateways of an inventory, and it would be lost; give it again with --inventory FILE, or drop it with --inventory=''", ErrBadChoice)
	}
	if err := spec.check(); err != nil {
		return nil, err
	}
	for flag, check := range map[string]activation.Config{
		"--name-pattern": {NamePattern: spec.Checks.NamePattern},
		"--crl":          {CRLs: spec.Checks.CRLs},
	} {
		check.Policies = map[string]string{c.CA: functionName} // it needs one, which is not what is looked at
		if err := check.Validate(); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrBadChoice, flag, firstLine(err))
		}
	}
	if spec.Zip, err = c.Zip(spec.Arch); err != nil {
		return nil, err
	}
	return spec, nil
}

// asDeployed is the Spec of what is there, without code.
func (s *survey) asDeployed(arch string) (*Spec, error) {
	spec := &Spec{Tenants: s.tenants(), Arch: arch, Queue: s.queue}
	if s.function != nil && len(s.function.Configuration.Architectures) > 0 {
		spec.Arch = string(s.function.Configuration.Architectures[0])
	}
	var err error
	spec.Checks, err = s.checks()
	return spec, err
}

// join puts the CA of c among the tenants.
func (s *Spec) join(c Choices) error {
	t := s.tenant(c.CA)
	switch {
	case t == nil:
		s.Tenants = append(s.Tenants, Tenant{CA: c.CA, Name: c.Tenant})
		t = &s.Tenants[len(s.Tenants)-1]
		if t.Name == "" {
			t.Name = shortID(c.CA)
		}
		if i := slices.IndexFunc(s.Tenants, func(o Tenant) bool { return o.Name == t.Name }); s.Tenants[i].CA != t.CA {
			t.Prefix = s.Tenants[i].Prefix
		}
	case c.Tenant != "" && c.Tenant != t.Name:
		// Its gateways have the other policy, and would keep it.
		return fmt.Errorf("%w: the CA %s is deployed as the tenant %s; a CA does not change its tenant, so take it out first with 'jitrctl cloud destroy --ca-id'", ErrBadChoice, shortID(c.CA), t.Name)
	}
	if c.Prefix != nil {
		for i := range s.Tenants {
			if s.Tenants[i].Name == t.Name {
				s.Tenants[i].Prefix = *c.Prefix
			}
		}
	}
	return nil
}

// compare is the plan from what s saw to spec, in an order in which nothing
// refers to what is not there yet, and no event goes where nobody reads.
func (a *Account) compare(ctx context.Context, s *survey, spec *Spec) (Plan, error) {
	stack, err := NewStack(a.Place, *spec)
	if err != nil {
		return nil, err
	}
	var plan Plan
	var failed error
	add := func(changes []Change, err error) {
		if failed == nil {
			plan, failed = append(plan, changes...), err
		}
	}
	for _, r := range stack.Roles {
		add(a.planRole(ctx, r))
	}
	add(a.planLogGroup(ctx, stack.LogGroup))
	for _, q := range stack.Queues {
		add(a.planQueue(ctx, q))
	}
	add(a.planFunction(ctx, s.function, stack.Function))
	if stack.Mapping != nil {
		add(a.planMapping(ctx, *stack.Mapping))
	}
	for _, p := range stack.Policies {
		add(a.planPolicy(ctx, s.policies[p.Name], p))
	}
	needed, needless, err := a.planPermissions(ctx, stack.Rules)
	add(needed, err)
	for _, r := range stack.Rules {
		add(a.planRule(ctx, s.rules[r.Name], r))
	}
	for _, name := range s.superfluous(stack.Rules) {
		add([]Change{a.removeRule(name)}, nil)
	}
	add(needless, nil)
	if stack.Mapping == nil && s.queue {
		// What is still in the queue is lost, and costs nothing: the gateway's
		// next CONNECT makes the event again.
		add(a.removeMappings(ctx))
		add(a.removeQueue(ctx, eventsQueue))
	}
	return plan, failed
}
