package cloud

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/jitr-agent/jitr-agent/internal/cloud/bundle"
)

// Status is what the operator's side looks like. In JSON every key is always
// there.
type Status struct {
	Schema  int        `json:"schema"` // 1
	Account string     `json:"account"`
	Region  string     `json:"region"`
	CAs     []CAStatus `json:"cas"`

	Deployed bool     `json:"deployed"` // a function is there
	Drift    []Change `json:"drift"`    // what deploy would change
	Queue    *int     `json:"queue"`    // events that wait; null: no queue
	Failed   *int     `json:"failed"`   // events that nobody could deal with; null: no such queue
}

// CAStatus is a registered CA.
type CAStatus struct {
	ID               string         `json:"ca_certificate_id"`
	Status           string         `json:"status"`
	AutoRegistration bool           `json:"auto_registration"`
	Mode             string         `json:"mode"`
	NotAfter         *time.Time     `json:"not_after_at"`
	Tenant           *string        `json:"tenant"` // null: not deployed
	Prefix           string         `json:"topic_prefix"`
	Certificates     map[string]int `json:"certificates"` // by status
}

// Status looks at everything. The code that is deployed is compared with
// what zip gives; without zip it is not looked at.
func (a *Account) Status(ctx context.Context, zip func(arch string) ([]byte, error)) (*Status, error) {
	st, err := a.status(ctx, zip)
	return st, explain(err)
}

func (a *Account) status(ctx context.Context, zip func(arch string) ([]byte, error)) (*Status, error) {
	st := &Status{Schema: 1, Account: a.Account, Region: a.Region, CAs: []CAStatus{}, Drift: []Change{}}
	s, err := a.survey(ctx)
	if err != nil {
		return nil, err
	}
	st.Deployed = s.function != nil
	tenants := map[string]Tenant{}
	for _, t := range s.tenants() {
		tenants[t.CA] = t
	}
	registered, err := a.listCAs(ctx)
	if err != nil {
		return nil, err
	}
	for _, ca := range registered {
		row, err := a.caStatus(ctx, ca.id, tenants)
		if errors.Is(err, ErrNotRegistered) { // deleted since it was listed
			continue
		}
		if err != nil {
			return nil, err
		}
		st.CAs = append(st.CAs, *row)
	}
	if len(tenants) > 0 {
		if st.Drift, err = a.drift(ctx, s, zip); err != nil {
			return nil, err
		}
	}
	if st.Queue, err = a.depth(ctx, eventsQueue); err != nil {
		return nil, err
	}
	st.Failed, err = a.depth(ctx, failedQueue)
	return st, err
}

func (a *Account) caStatus(ctx context.Context, id string, tenants map[string]Tenant) (*CAStatus, error) {
	d, err := a.ca(ctx, id)
	if err != nil {
		return nil, err
	}
	row := &CAStatus{
		ID: id, Status: string(d.Status), Mode: string(d.CertificateMode), Certificates: map[string]int{},
		AutoRegistration: d.AutoRegistrationStatus == iottypes.AutoRegistrationStatusEnable,
	}
	if d.Validity != nil && d.Validity.NotAfter != nil {
		row.NotAfter = new(d.Validity.NotAfter.UTC())
	}
	if t, ok := tenants[id]; ok {
		row.Tenant, row.Prefix = &t.Name, t.Prefix
	}
	return row, a.eachCertificate(ctx, id, func(c iottypes.Certificate) error {
		row.Certificates[string(c.Status)]++
		return nil
	})
}

// drift is what deploy would change, with the same choices as before.
func (a *Account) drift(ctx context.Context, s *survey, zip func(arch string) ([]byte, error)) ([]Change, error) {
	spec, err := s.asDeployed(Architectures()[0])
	if err != nil {
		return nil, err
	}
	spec.Unreserved = s.function != nil && s.function.Concurrency == nil
	// The inventory of a deployed function is in its zip and nowhere else.
	if zip != nil && spec.Checks.Inventory == "" {
		if spec.Zip, err = zip(spec.Arch); err != nil && !errors.Is(err, bundle.ErrNone) {
			return nil, err
		}
	}
	plan, err := a.compare(ctx, s, spec)
	if err != nil {
		return nil, err
	}
	drift := []Change{}
	for _, c := range plan {
		if c.Action != Keep {
			drift = append(drift, c)
		}
	}
	return drift, nil
}

// depth is how many messages a queue of ours has, about; nil where there is
// none.
func (a *Account) depth(ctx context.Context, name string) (*int, error) {
	q, err := a.queue(ctx, name)
	if q == nil || err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(q.attributes["ApproximateNumberOfMessages"])
	if err != nil {
		return nil, nil //nolint:nilerr // SQS did not say
	}
	return aws.Int(n), nil
}
