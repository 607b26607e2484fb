package cloud

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/jitr-agent/jitr-agent/internal/certs"
	"github.com/jitr-agent/jitr-agent/internal/cloud/bundle"
	"github.com/jitr-agent/jitr-agent/internal/iotcore"
)

const testRegion = "us-west-2"

// credentials of nobody: the environment of whoever runs the tests must not
// reach them.
func credentials(t *testing.T) {
	t.Helper()
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "", "AWS_REGION": "",
		"AWS_DEFAULT_REGION": "", "AWS_ENDPOINT_URL": "", "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
		"AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(name, value)
	}
}

// emulator is an account to work in, behind a proxy that records what is
// called.
type emulator struct {
	*iotcore.Server
	url string

	mu    sync.Mutex
	calls []string // all so far
	left  int      // calls until cut is called; negative: never
	cut   context.CancelFunc

	refuse func(call string) (code string) // nil: nothing is refused
}

func newEmulator(t *testing.T) *emulator {
	t.Helper()
	srv, err := iotcore.New(t.Context(), iotcore.Config{Region: testRegion})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	e := &emulator{Server: srv, left: -1}
	target := &url.URL{Scheme: "http", Host: srv.APIAddr()}
	reverse := httputil.NewSingleHostReverseProxy(target)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		call := operationOf(r)
		e.mu.Lock()
		e.calls = append(e.calls, call)
		e.left--
		last, cut, refuse := e.left == 0, e.cut, e.refuse
		e.mu.Unlock()
		if refuse != nil {
			if code := refuse(call); code != "" {
				w.Header().Set("X-Amzn-Errortype", code)
				w.WriteHeader(http.StatusNotAcceptable)
				return
			}
		}
		if !last {
			reverse.ServeHTTP(w, r)
			return
		}
		// The call is carried out, and nobody hears of it.
		reverse.ServeHTTP(httptest.NewRecorder(), r)
		cut()
		panic(http.ErrAbortHandler)
	}))
	proxy.Config.ErrorLog = nil
	e.url = proxy.URL
	t.Cleanup(func() {
		proxy.Close()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return e
}

// operationOf names a call, as the AWS protocols have it.
func operationOf(r *http.Request) string {
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		return target[strings.LastIndexByte(target, '.')+1:]
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		body, _ := io.ReadAll(r.Body) // a form is in memory already
		r.Body = io.NopCloser(bytes.NewReader(body))
		form, _ := url.ParseQuery(string(body))
		return form.Get("Action")
	}
	return r.Method + " " + r.URL.EscapedPath()
}

// writing says whether a call changes anything.
func writing(call string) bool {
	if method, path, ok := strings.Cut(call, " "); ok {
		return method != http.MethodGet && !strings.HasPrefix(path, "/attached-policies/") && !strings.HasPrefix(path, "/policy-targets/")
	}
	for _, reading := range []string{"Get", "List", "Describe", "Filter"} {
		if strings.HasPrefix(call, reading) {
			return false
		}
	}
	return true
}

// record forgets the calls so far and returns what gives those from now on.
func (e *emulator) record() (calls func() []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls = nil
	return func() []string {
		e.mu.Lock()
		defer e.mu.Unlock()
		return append([]string{}, e.calls...)
	}
}

// cutAfter gives a context that ends when the k-th call from now on has been
// carried out, before its answer.
func (e *emulator) cutAfter(t *testing.T, k int) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.left, e.cut = k, cancel
	return ctx
}

// refusing answers calls in AWS's place with the error that refuse names.
func (e *emulator) refusing(refuse func(call string) (code string)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.refuse = refuse
}

func (e *emulator) uncut() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.left = -1
}

func writes(calls []string) (w []string) {
	for _, c := range calls {
		if writing(c) {
			w = append(w, c)
		}
	}
	return w
}

func (e *emulator) connect(ctx context.Context) (*Account, error) {
	return Connect(ctx, Options{Region: testRegion, Endpoint: e.url})
}

// account is a connection that must work.
func (e *emulator) account(t *testing.T) *Account {
	t.Helper()
	a, err := e.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// testCA is an operator's CA.
type testCA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func (ca *testCA) id() string { return certs.ID(ca.cert) }

func newCA(t *testing.T, change ...func(*x509.Certificate)) *testCA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	for _, c := range change {
		c(template)
	}
	return &testCA{cert: sign(t, template, template, key, key), key: key}
}

func sign(t *testing.T, template, parent *x509.Certificate, subject, issuer *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &subject.PublicKey, issuer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// device is a gateway's certificate and key.
type device struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	ca   *testCA
}

func (d *device) id() string { return certs.ID(d.cert) }

// device signs a certificate with a common name.
func (ca *testCA) device(t *testing.T, name string, change ...func(*x509.Certificate)) *device {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(23 * time.Hour),
	}
	for _, c := range change {
		c(template)
	}
	return &device{cert: sign(t, template, ca.cert, key, ca.key), key: key, ca: ca}
}

func (ca *testCA) prove(t *testing.T) func(string) ([]byte, error) {
	return func(code string) ([]byte, error) {
		return toPEM(ca.device(t, code).cert), nil
	}
}

func toPEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// registration is what register-ca is asked for.
func (ca *testCA) registration(t *testing.T) Registration {
	return Registration{CA: ca.cert, Prove: ca.prove(t), Now: time.Now()}
}

// choices is what deploy is asked for.
func choices(ca *testCA) Choices {
	return Choices{CA: ca.id(), DefaultArch: "x86_64", Zip: func(string) ([]byte, error) { return bundle.Pack([]byte("#!/bin/sh\nexit 1\n")) }}
}

// registerCA and deploy do what the commands do.
func registerCA(ctx context.Context, e *emulator, r Registration) error {
	a, err := e.connect(ctx)
	if err != nil {
		return err
	}
	plan, err := a.PlanRegisterCA(ctx, r)
	if err != nil {
		return err
	}
	return plan.Apply(ctx, Progress{})
}

func deploy(ctx context.Context, e *emulator, c Choices) error {
	a, err := e.connect(ctx)
	if err != nil {
		return err
	}
	d, err := a.PlanDeploy(ctx, c)
	if err != nil {
		return err
	}
	return d.Apply(ctx, Progress{})
}

func destroy(ctx context.Context, e *emulator, r Removal) error {
	a, err := e.connect(ctx)
	if err != nil {
		return err
	}
	plan, err := a.PlanDestroy(ctx, r)
	if err != nil {
		return err
	}
	return plan.Apply(ctx, Progress{})
}

// must fails the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// forbid takes one action from whoever calls.
func (e *emulator) forbid(t *testing.T, action string) {
	t.Helper()
	policy := fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":%q,"Resource":"*"}]}`, action)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://"+e.APIAddr()+"/sim/access-keys/AKIATEST", strings.NewReader(policy))
	must(t, err)
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body) // for the message
		t.Fatalf("%s: %s", resp.Status, body)
	}
}

// present is a gateway's connection: TLS with its certificate, and the
// CONNECT on which AWS registers it. It waits until the service closes.
func (e *emulator) present(t *testing.T, d *device) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(e.ServerCAPEM())
	dialer := tls.Dialer{Config: &tls.Config{
		RootCAs: roots, ServerName: "localhost",
		Certificates: []tls.Certificate{{Certificate: [][]byte{d.cert.Raw, d.ca.cert.Raw}, PrivateKey: d.key}},
	}}
	conn, err := dialer.DialContext(t.Context(), "tcp", e.MQTTAddr())
	must(t, err)
	defer conn.Close()
	name := d.cert.Subject.CommonName
	packet := append([]byte{0x10, byte(12 + len(name)), 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, byte(len(name))}, name...)
	_, err = conn.Write(packet)
	must(t, err)
	_, _ = io.Copy(io.Discard, conn) // how it is closed is not the question here
}

// pending has gateways register themselves.
func (e *emulator) pending(t *testing.T, devices ...*device) {
	t.Helper()
	for _, d := range devices {
		e.present(t, d)
		if got := e.status(t, d); got != iottypes.CertificateStatusPendingActivation {
			t.Fatalf("%s is %s after its first connection", d.cert.Subject.CommonName, got)
		}
	}
}

// status of a gateway's certificate, "" where AWS does not know it.
func (e *emulator) status(t *testing.T, d *device) iottypes.CertificateStatus {
	t.Helper()
	out, err := e.account(t).iot.DescribeCertificate(t.Context(), &iot.DescribeCertificateInput{CertificateId: new(d.id())})
	if absent(err) {
		return ""
	}
	must(t, err)
	return out.CertificateDescription.Status
}

// everything is all that there is in the account, asked service by service with the plain
// SDK.
func (e *emulator) everything(t *testing.T) []string {
	t.Helper()
	a := e.account(t)
	ctx := t.Context()
	var all []string
	add := func(kind string, name *string) { all = append(all, kind+" "+aws.ToString(name)) }

	rules, err := a.iot.ListTopicRules(ctx, &iot.ListTopicRulesInput{})
	must(t, err)
	for _, r := range rules.Rules {
		add("rule", r.RuleName)
	}
	policies, err := a.iot.ListPolicies(ctx, &iot.ListPoliciesInput{})
	must(t, err)
	for _, p := range policies.Policies {
		if aws.ToString(p.PolicyName) != "iotcore-sim" { // the emulator's own
			add("policy", p.PolicyName)
		}
	}
	cas, err := a.iot.ListCACertificates(ctx, &iot.ListCACertificatesInput{})
	must(t, err)
	for _, c := range cas.Certificates {
		add("CA", c.CertificateId)
	}
	certificates, err := a.iot.ListCertificates(ctx, &iot.ListCertificatesInput{})
	must(t, err)
	for _, c := range certificates.Certificates {
		add("certificate", c.CertificateId)
	}
	things, err := a.iot.ListThings(ctx, &iot.ListThingsInput{})
	must(t, err)
	for _, th := range things.Things {
		add("thing", th.ThingName)
	}
	functions, err := a.lambda.ListFunctions(ctx, &lambda.ListFunctionsInput{})
	must(t, err)
	for _, f := range functions.Functions {
		add("function", f.FunctionName)
	}
	mappings, err := a.lambda.ListEventSourceMappings(ctx, &lambda.ListEventSourceMappingsInput{})
	must(t, err)
	for _, m := range mappings.EventSourceMappings {
		add("mapping", m.UUID)
	}
	queues, err := a.sqs.ListQueues(ctx, &sqs.ListQueuesInput{})
	must(t, err)
	for _, q := range queues.QueueUrls {
		add("queue", &q)
	}
	groups, err := a.logs.DescribeLogGroups(ctx, &cloudwatchlogs.DescribeLogGroupsInput{})
	must(t, err)
	for _, g := range groups.LogGroups {
		add("log group", g.LogGroupName)
	}
	for _, name := range []string{a.activatorRole(), a.rulesRole()} {
		if _, err := a.iam.GetRole(ctx, &iam.GetRoleInput{RoleName: &name}); err == nil {
			add("role", &name)
		} else if !absent(err) {
			t.Fatal(err)
		}
	}
	return all
}

func join(lines []string) string { return fmt.Sprint("\n  ", strings.Join(lines, "\n  ")) }
