package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/jitr-agent/jitr-agent/internal/ca"
	"github.com/jitr-agent/jitr-agent/internal/certs"
	"github.com/jitr-agent/jitr-agent/internal/cloud"
	"github.com/jitr-agent/jitr-agent/internal/cloud/bundle"
)

// account is where it is measured, and what is made there.
type account struct {
	*cloud.Account

	iot      *iot.Client
	endpoint string         // host:port of the data plane
	roots    *x509.CertPool // nil: the system's
	emulator bool
	dir      string // of the CA
	zip      string
	settle   time.Duration
	ca       *ca.CA
}

func open(ctx context.Context, o options) (*account, error) {
	c, err := cloud.Connect(ctx, cloud.Options{})
	if err != nil {
		return nil, err
	}
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the AWS configuration: %w", err)
	}
	a := &account{
		Account: c, iot: iot.NewFromConfig(cfg), emulator: os.Getenv("AWS_ENDPOINT_URL") != "",
		dir: filepath.Join(o.dir, "CA"), zip: o.zip, settle: o.settle,
	}
	at, err := a.iot.DescribeEndpoint(ctx, &iot.DescribeEndpointInput{EndpointType: aws.String("iot:Data-ATS")})
	if err != nil {
		return nil, fmt.Errorf("ask for the endpoint: %w", err)
	}
	a.endpoint = dialable(aws.ToString(at.EndpointAddress))
	if file := os.Getenv("AWS_TEST_SERVER_CA"); file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read AWS_TEST_SERVER_CA: %w", err)
		}
		a.roots = x509.NewCertPool()
		if !a.roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read AWS_TEST_SERVER_CA: there is no certificate in %s", file)
		}
	}
	return a, nil
}

// dialable adds the port. The emulator may say an IP address, for which TLS
// sends no server name; its certificate also names localhost.
func dialable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host, port = address, "8883"
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

// column is the table's.
func (a *account) column() string {
	if a.emulator {
		return "emulator"
	}
	return "AWS"
}

// mustBeFree refuses a Region where gateways may work: the function is one for
// all CAs.
func (a *account) mustBeFree(ctx context.Context) error {
	st, err := a.Status(ctx, nil)
	if err != nil {
		return err
	}
	if st.Deployed {
		return fmt.Errorf("the Region %s has a deployment of jitr-agent, which is not to be touched; take another Region with AWS_REGION", a.Region)
	}
	return nil
}

// caDays is how long the CA is of use: long enough for the measurement.
const caDays = 2

// register makes the CA and registers it. From here on there is something to
// clear.
func (a *account) register(ctx context.Context) error {
	now := time.Now()
	var err error
	// Dated back, for the certificate that is to have expired.
	a.ca, err = ca.Init(ctx, a.dir, ca.InitOptions{CommonName: "jitr-agent make test-aws", Algorithm: ca.Algorithms()[0], Days: caDays + backdated, Now: now.AddDate(0, 0, -backdated)})
	if err != nil {
		return err
	}
	fmt.Printf("CA %s; should this program be killed, run it again, or:\n  jitrctl cloud destroy --ca-id %s --ca\n", certs.ID(a.ca.Certificate()), certs.ID(a.ca.Certificate()))
	prove, err := a.ca.Prover(now)
	if err != nil {
		return err
	}
	plan, err := a.PlanRegisterCA(ctx, cloud.Registration{CA: a.ca.Certificate(), Now: now, Prove: func(code string) ([]byte, error) {
		proof, err := prove(code)
		if err != nil {
			return nil, err
		}
		return certs.EncodeChain([]*x509.Certificate{proof}), nil
	}})
	if err != nil {
		return err
	}
	return plan.Apply(ctx, tell())
}

func tell() cloud.Progress {
	return cloud.Progress{
		Done: func(c cloud.Change) { fmt.Println("  " + c.String()) },
		Waiting: func(c cloud.Change, why error) {
			fmt.Printf("  waiting to %s the %s %s: %v\n", c.Action, c.Kind, c.Name, why)
		},
	}
}

// deploy sets up the function. It reserves no concurrency: new accounts have
// none to spare.
func (a *account) deploy(ctx context.Context) error {
	d, err := a.PlanDeploy(ctx, cloud.Choices{CA: certs.ID(a.ca.Certificate()), DefaultArch: cloud.ArchitectureFor(runtime.GOARCH), Unreserved: true, Zip: func(arch string) ([]byte, error) {
		if a.zip != "" {
			return os.ReadFile(a.zip)
		}
		return bundle.Zip(arch)
	}})
	if err != nil {
		return err
	}
	return d.Apply(ctx, tell())
}

// ownPolicy is the name of the policy that is not deploy's.
func ownPolicy(caID string) string { return "jitr-test-aws-" + caID[:12] }

// allow makes that policy, and attaches it to a certificate.
func (a *account) allow(ctx context.Context, certificateARN string) error {
	name := ownPolicy(certs.ID(a.ca.Certificate()))
	document := fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iot:Connect","iot:Publish"],"Resource":["arn:%[1]s:iot:%[2]s:%[3]s:client/*","arn:%[1]s:iot:%[2]s:%[3]s:topic/jitr-test-aws/*"]}]}`,
		a.Partition, a.Region, a.Account.Account)
	if _, err := a.iot.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: &name, PolicyDocument: &document}); err != nil {
		return fmt.Errorf("create the policy %s: %w", name, err)
	}
	if _, err := a.iot.AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: &name, Target: &certificateARN}); err != nil {
		return fmt.Errorf("attach the policy %s: %w", name, err)
	}
	return nil
}

// describe is nil for a certificate that is not registered.
func (a *account) describe(ctx context.Context, id string) (*types.CertificateDescription, error) {
	out, err := a.iot.DescribeCertificate(ctx, &iot.DescribeCertificateInput{CertificateId: &id})
	if _, missing := errors.AsType[*types.ResourceNotFoundException](err); missing {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("describe the certificate %s: %w", id, err)
	}
	return out.CertificateDescription, nil
}

func (a *account) setStatus(ctx context.Context, id string, status types.CertificateStatus) error {
	if _, err := a.iot.UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: &id, NewStatus: status}); err != nil {
		return fmt.Errorf("set the certificate %s %s: %w", id, status, err)
	}
	return nil
}

// clearLeftover clears what a run that was killed has left.
func (a *account) clearLeftover(ctx context.Context) error {
	left, err := ca.Open(a.dir, nil)
	if errors.Is(err, ca.ErrNoCA) || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for what an earlier run has left in %s: %w", a.dir, err)
	}
	fmt.Println("an earlier run was killed; clearing what it has left")
	a.ca = left
	return a.clear(ctx)
}

// clear deletes everything: what is registered, what is deployed, and last the
// CA on the disk, by which it would be found again.
func (a *account) clear(ctx context.Context) error {
	if a.ca == nil {
		return nil
	}
	id := certs.ID(a.ca.Certificate())
	if err := a.clearCloud(ctx, id); err != nil {
		return fmt.Errorf("delete what was made: %w; run it again, or: jitrctl cloud destroy --ca-id %s --ca, and: aws iot delete-policy --policy-name %s", err, id, ownPolicy(id))
	}
	if err := os.RemoveAll(a.dir); err != nil {
		return fmt.Errorf("delete the CA on the disk: %w", err)
	}
	a.ca = nil
	fmt.Println("everything that was made is deleted")
	return nil
}

// clearCloud plans and carries out until there is nothing left to do. A run of
// the function that was under way makes things, and attaches policies, behind
// the first plan's back: to wait for that policy's deletion is in vain, so no
// round is patient at first. AWS deletes a policy up to 5 minutes after it was
// detached (AWS IoT API reference, DeletePolicy).
func (a *account) clearCloud(ctx context.Context, id string) error {
	const (
		rounds = 12
		most   = time.Minute // between two rounds
	)
	pause, limit := a.settle, 15*time.Second
	for round := 1; ; round++ {
		if err := wait(ctx, pause); err != nil {
			return err
		}
		done, err := a.clearOnce(ctx, id, limit)
		switch {
		case done && err == nil:
			return nil
		case round == rounds || ctx.Err() != nil:
			return err
		case err != nil:
			fmt.Println("  once more:", err)
		}
		pause, limit = min(2*pause, most), 2*limit
	}
}

// clearOnce is done when there was nothing left to do.
func (a *account) clearOnce(ctx context.Context, id string, limit time.Duration) (done bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	// Not registered: then there are no certificates either.
	var active []string
	err = a.Certificates(ctx, cloud.Filter{CA: id, Status: string(types.CertificateStatusActive), Brief: true}, func(c cloud.Certificate) error {
		active = append(active, c.ID)
		return nil
	})
	if err != nil && !errors.Is(err, cloud.ErrNotRegistered) {
		return false, err
	}
	deactivate, err := a.PlanDeactivate(ctx, active)
	if err == nil {
		err = deactivate.Apply(ctx, tell())
	}
	if err != nil {
		return false, err
	}
	plan, err := a.PlanDestroy(ctx, cloud.Removal{CA: id, Registered: true})
	if err != nil {
		return false, err
	}
	if err := plan.Apply(ctx, tell()); err != nil {
		return false, err
	}
	_, err = a.iot.DeletePolicy(ctx, &iot.DeletePolicyInput{PolicyName: aws.String(ownPolicy(id))})
	if _, missing := errors.AsType[*types.ResourceNotFoundException](err); missing {
		err = nil
	}
	return plan.Pending() == 0, err
}
