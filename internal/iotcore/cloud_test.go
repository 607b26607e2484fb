package iotcore

import (
	"archive/zip"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	logstypes "github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
)

// account is the real AWS SDK against the emulator, as the holder of a key.
type account struct {
	*bench
	config aws.Config
	iot    *iot.Client
	iam    *iam.Client
	sts    *sts.Client
	lambda *lambda.Client
	sqs    *sqs.Client
	logs   *cloudwatchlogs.Client
}

func (b *bench) account(key, region string) *account {
	c := aws.Config{
		Region: region, Credentials: credentials.NewStaticCredentialsProvider(key, "secret", ""),
		BaseEndpoint: aws.String("http://" + b.APIAddr()), RetryMaxAttempts: 1,
	}
	return &account{
		b, c, iot.NewFromConfig(c), iam.NewFromConfig(c), sts.NewFromConfig(c),
		lambda.NewFromConfig(c), sqs.NewFromConfig(c), cloudwatchlogs.NewFromConfig(c),
	}
}

// must is the output of a call that has to succeed.
func must[T any](t *testing.T) func(T, error) T {
	return func(out T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
}

// refused checks the name of AWS's error, and a part of its sentence.
func refused(t *testing.T, err error, code, sentence string) {
	t.Helper()
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok || api.ErrorCode() != code || !strings.Contains(api.ErrorMessage(), sentence) {
		t.Errorf("got %v, want %s: ...%s...", err, code, sentence)
	}
}

// testZip is the function of testdata, built once.
var testZip = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "x")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "bootstrap")
	// The host's architecture, also where the test is a 32-bit program.
	build := exec.CommandContext(context.Background(), "sh", "-c", `GOARCH=$(go env GOHOSTARCH) CGO_ENABLED=0 go build -tags lambda.norpc -ldflags "-s -w" -o "$0" ./testdata/function`, path)
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the function: %w: %s", err, out)
	}
	binary, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return zipOf("bootstrap", binary, 0o755)
})

func zipOf(name string, data []byte, mode os.FileMode) ([]byte, error) {
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	h := &zip.FileHeader{Name: name, Method: zip.Deflate}
	h.SetMode(mode)
	f, err := w.CreateHeader(h)
	if err == nil {
		_, err = f.Write(data)
	}
	err = errors.Join(err, w.Close())
	return out.Bytes(), err
}

func hostArchitecture(t *testing.T) lambdatypes.Architecture {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", "GOHOSTARCH").Output()
	if err != nil {
		t.Fatal(err)
	}
	switch arch := strings.TrimSpace(string(out)); arch {
	case "amd64":
		return lambdatypes.ArchitectureX8664
	case "arm64":
		return lambdatypes.ArchitectureArm64
	default:
		t.Skipf("Lambda has no architecture for %s", arch)
		return ""
	}
}

const (
	trustLambda = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":["lambda.amazonaws.com","iot.amazonaws.com"]},"Action":"sts:AssumeRole"}]}`

	logActions = `{"Effect":"Allow","Action":["logs:CreateLogGroup","logs:CreateLogStream","logs:PutLogEvents"],"Resource":"arn:aws:logs:us-east-1:123456789012:log-group:/aws/lambda/f:*"}`
	iotActions = `{"Effect":"Allow","Action":["iot:CreateThing","iot:AttachThingPrincipal","iot:AttachPolicy","iot:UpdateCertificate"],"Resource":["` + ownARN + `cert/*","` + ownARN + `thing/*"]}`
	sqsActions = `{"Effect":"Allow","Action":["sqs:SendMessage","sqs:ReceiveMessage","sqs:DeleteMessage","sqs:GetQueueAttributes"],"Resource":"arn:aws:sqs:us-east-1:123456789012:*"}`
)

// role makes the role r with the statements; it may log, call AWS IoT and use
// queues where the statements say so.
func (a *account) role(statements ...string) string {
	a.t.Helper()
	out := must[*iam.CreateRoleOutput](a.t)(a.iam.CreateRole(a.t.Context(), &iam.CreateRoleInput{RoleName: aws.String("r"), AssumeRolePolicyDocument: aws.String(trustLambda)}))
	a.putPolicy(statements...)
	return *out.Role.Arn
}

func (a *account) putPolicy(statements ...string) {
	a.t.Helper()
	document := `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
	must[*iam.PutRolePolicyOutput](a.t)(a.iam.PutRolePolicy(a.t.Context(), &iam.PutRolePolicyInput{RoleName: aws.String("r"), PolicyName: aws.String("p"), PolicyDocument: &document}))
}

// function makes the function f of the role, and waits until it is ready.
func (a *account) function(role string, change ...func(*lambda.CreateFunctionInput)) string {
	a.t.Helper()
	zipped, err := testZip()
	if err != nil {
		a.t.Fatal(err)
	}
	in := &lambda.CreateFunctionInput{
		FunctionName: aws.String("f"), Role: &role, Runtime: lambdatypes.RuntimeProvidedal2023, Handler: aws.String("bootstrap"),
		Architectures: []lambdatypes.Architecture{hostArchitecture(a.t)},
		Timeout:       aws.Int32(20), Code: &lambdatypes.FunctionCode{ZipFile: zipped},
		Environment: &lambdatypes.Environment{Variables: map[string]string{"POLICY": ownPolicy}},
	}
	for _, f := range change {
		f(in)
	}
	out := must[*lambda.CreateFunctionOutput](a.t)(a.lambda.CreateFunction(a.t.Context(), in))
	if out.State != lambdatypes.StatePending {
		a.t.Errorf("a new function is %s", out.State)
	}
	a.ready()
	return *out.FunctionArn
}

func (a *account) ready() {
	a.t.Helper()
	a.until("the function is ready", func() bool {
		out, err := a.lambda.GetFunctionConfiguration(a.t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: aws.String("f")})
		return err == nil && out.State == lambdatypes.StateActive && out.LastUpdateStatus == lambdatypes.LastUpdateStatusSuccessful
	})
}

// until waits for something that only asking can tell.
func (b *bench) until(what string, f func() bool) {
	b.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-deadline:
			b.t.Fatalf("it did not come true that %s", what)
		}
	}
}

func (a *account) invoke(payload string) *lambda.InvokeOutput {
	a.t.Helper()
	return must[*lambda.InvokeOutput](a.t)(a.lambda.Invoke(a.t.Context(), &lambda.InvokeInput{FunctionName: aws.String("f"), Payload: []byte(payload)}))
}

func (a *account) queue(name string, attributes map[string]string) (url, arn string) {
	a.t.Helper()
	out := must[*sqs.CreateQueueOutput](a.t)(a.sqs.CreateQueue(a.t.Context(), &sqs.CreateQueueInput{QueueName: &name, Attributes: attributes}))
	got := must[*sqs.GetQueueAttributesOutput](a.t)(a.sqs.GetQueueAttributes(a.t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: out.QueueUrl, AttributeNames: []sqstypes.QueueAttributeName{"QueueArn"}}))
	return *out.QueueUrl, got.Attributes["QueueArn"]
}

// receive waits for one message and deletes it.
func (a *account) receive(url string) string {
	a.t.Helper()
	out := must[*sqs.ReceiveMessageOutput](a.t)(a.sqs.ReceiveMessage(a.t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &url, WaitTimeSeconds: 20}))
	if len(out.Messages) != 1 {
		a.t.Fatalf("%d messages in %s", len(out.Messages), url)
	}
	must[*sqs.DeleteMessageOutput](a.t)(a.sqs.DeleteMessage(a.t.Context(), &sqs.DeleteMessageInput{QueueUrl: &url, ReceiptHandle: out.Messages[0].ReceiptHandle}))
	return *out.Messages[0].Body
}

// waiting is how many messages there are, in flight or not.
func (a *account) waiting(url string) string {
	a.t.Helper()
	out := must[*sqs.GetQueueAttributesOutput](a.t)(a.sqs.GetQueueAttributes(a.t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: &url, AttributeNames: []sqstypes.QueueAttributeName{"All"}}))
	return out.Attributes["ApproximateNumberOfMessages"] + "+" + out.Attributes["ApproximateNumberOfMessagesNotVisible"]
}

func (a *account) rule(name string, payload *iottypes.TopicRulePayload) {
	a.t.Helper()
	payload.AwsIotSqlVersion = aws.String("2016-03-23")
	must[*iot.CreateTopicRuleOutput](a.t)(a.iot.CreateTopicRule(a.t.Context(), &iot.CreateTopicRuleInput{RuleName: &name, TopicRulePayload: payload}))
}

func (a *account) registeredRule(function string, errorAction *iottypes.Action) {
	a.t.Helper()
	a.rule("registered", &iottypes.TopicRulePayload{
		Sql:     aws.String("SELECT * FROM '$aws/events/certificates/registered/" + a.caID + "' WHERE certificateStatus = 'PENDING_ACTIVATION'"),
		Actions: []iottypes.Action{{Lambda: &iottypes.LambdaAction{FunctionArn: &function}}}, ErrorAction: errorAction,
	})
}

// allow lets a rule call the function.
func (a *account) allow(rule string) {
	a.t.Helper()
	must[*lambda.AddPermissionOutput](a.t)(a.lambda.AddPermission(a.t.Context(), &lambda.AddPermissionInput{
		FunctionName: aws.String("f"), StatementId: aws.String("s"), Action: aws.String("lambda:InvokeFunction"), Principal: aws.String("iot.amazonaws.com"),
		SourceArn: aws.String(ownARN + "rule/" + rule), SourceAccount: aws.String("123456789012"),
	}))
}

func (b *bench) status(id string) status {
	rec, err := b.registry.certificate(id)
	if err != nil {
		b.t.Fatal(err)
	}
	return rec.Status
}

// The whole way: a device connects, the event passes the rule, the zip that
// was deployed activates it with the rights of its role.
func TestDeployedFunctionActivates(t *testing.T) {
	a := start(t, Config{NoConnectRate: true, AsyncRetry: time.Millisecond}).account("admin", "us-east-1")
	function := a.function(a.role(logActions, iotActions))
	a.registeredRule(function, nil)
	a.allow("registered")
	gw := a.ca.issue(t, "gw-1")
	a.try(gw, "gw-1")
	a.until("it is ACTIVE", func() bool { return a.status(gw.id) == statusActive })
	a.connect(gw, "gw-1")
	if n := a.Calls()["iot:UpdateCertificate"]; n != (Calls{Allowed: 1}) {
		t.Errorf("UpdateCertificate was called %+v", n)
	}
	a.until("the log tells of it", func() bool {
		out, err := a.logs.FilterLogEvents(t.Context(), &cloudwatchlogs.FilterLogEventsInput{LogGroupName: aws.String("/aws/lambda/f"), FilterPattern: aws.String("REPORT")})
		return err == nil && len(out.Events) == 1 && strings.Contains(*out.Events[0].Message, "Init Duration")
	})
}

// Without the function's permission, for another rule's or for another
// account's, nothing is called and the error action hears of it.
func TestRuleNeedsThePermissionOfTheFunction(t *testing.T) {
	for _, tt := range []struct{ name, source, account string }{
		{"none", "", ""},
		{"another rule", ownARN + "rule/other", "123456789012"},
		{"another account", ownARN + "rule/registered", "999999999999"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := start(t, Config{}).account("admin", "us-east-1")
			role := a.role(logActions, iotActions, sqsActions)
			function := a.function(role)
			url, _ := a.queue("errors", nil)
			a.registeredRule(function, &iottypes.Action{Sqs: &iottypes.SqsAction{RoleArn: &role, QueueUrl: &url}})
			if tt.source != "" {
				must[*lambda.AddPermissionOutput](t)(a.lambda.AddPermission(t.Context(), &lambda.AddPermissionInput{
					FunctionName: aws.String("f"), StatementId: aws.String("s"), Action: aws.String("lambda:InvokeFunction"),
					Principal: aws.String("iot.amazonaws.com"), SourceArn: &tt.source, SourceAccount: &tt.account,
				}))
			}
			gw := a.ca.issue(t, "gw-1")
			a.try(gw, "gw-1")
			var report struct {
				RuleName string
				Failures []struct{ FailedAction, ErrorMessage string }
			}
			if err := json.Unmarshal([]byte(a.receive(url)), &report); err != nil {
				t.Fatal(err)
			}
			if report.RuleName != "registered" || len(report.Failures) != 1 || report.Failures[0].FailedAction != "LambdaAction" ||
				!strings.Contains(report.Failures[0].ErrorMessage, "lambda:InvokeFunction") {
				t.Errorf("the error action was told %+v", report)
			}
			if got := a.status(gw.id); got != statusPending {
				t.Errorf("the certificate is %s", got)
			}
		})
	}
}

// The role that was deployed is evaluated: each missing action fails by name,
// is tried three times, and ends at the on-failure destination.
func TestMissingPermissionOfTheRole(t *testing.T) {
	a := start(t, Config{AsyncRetry: time.Millisecond}).account("admin", "us-east-1")
	role := a.role(logActions, iotActions, sqsActions)
	function := a.function(role)
	a.registeredRule(function, nil)
	a.allow("registered")
	url, arn := a.queue("failed", nil)
	must[*lambda.PutFunctionEventInvokeConfigOutput](t)(a.lambda.PutFunctionEventInvokeConfig(t.Context(), &lambda.PutFunctionEventInvokeConfigInput{
		FunctionName: aws.String("f"), DestinationConfig: &lambdatypes.DestinationConfig{OnFailure: &lambdatypes.OnFailure{Destination: &arn}},
	}))
	for _, action := range []string{"CreateThing", "AttachThingPrincipal", "AttachPolicy", "UpdateCertificate"} {
		a.putPolicy(logActions, strings.Replace(iotActions, `"iot:`+action+`"`, `"iot:None"`, 1), sqsActions)
		gw := a.ca.issue(t, "gw-1")
		a.try(gw, "gw-1")
		var record struct {
			RequestContext struct {
				Condition              string
				ApproximateInvokeCount int
			}
			RequestPayload  struct{ CertificateID string }
			ResponsePayload struct{ ErrorMessage string }
		}
		if err := json.Unmarshal([]byte(a.receive(url)), &record); err != nil {
			t.Fatal(err)
		}
		if record.RequestContext.Condition != "RetriesExhausted" || record.RequestContext.ApproximateInvokeCount != 3 || record.RequestPayload.CertificateID != gw.id {
			t.Errorf("%s: record %+v", action, record)
		}
		want := "User: arn:aws:sts::123456789012:assumed-role/r/f is not authorized to perform: iot:" + action + " on resource: " + ownARN
		if got := record.ResponsePayload.ErrorMessage; !strings.Contains(got, want) || !strings.Contains(got, "AccessDeniedException") {
			t.Errorf("%s: the function got %q", action, got)
		}
		if got := a.status(gw.id); got != statusPending {
			t.Errorf("%s: the certificate is %s", action, got)
		}
	}
}

func TestInvoke(t *testing.T) {
	a := start(t, Config{}).account("admin", "us-east-1")
	a.function(a.role(logActions), func(in *lambda.CreateFunctionInput) { in.Timeout = aws.Int32(1) })
	var env map[string]string
	if err := json.Unmarshal(a.invoke(`{"do":"environment"}`).Payload, &env); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"AWS_REGION": "us-east-1", "AWS_LAMBDA_FUNCTION_NAME": "f", "_HANDLER": "bootstrap", "POLICY": ownPolicy, "AWS_ENDPOINT_URL": "http://" + a.APIAddr(),
	} {
		if env[name] != want {
			t.Errorf("%s is %q, want %q", name, env[name], want)
		}
	}
	if env["AWS_SESSION_TOKEN"] == "" || env["HOME"] != "" {
		t.Errorf("the environment is %v", env)
	}
	if got := string(a.invoke(`{"do":"count"}`).Payload); got != "2" {
		t.Errorf("a warm instance remembers %s calls", got)
	}
	out := a.invoke(`{"do":"fail"}`)
	if *out.FunctionError != "Unhandled" || !strings.Contains(string(out.Payload), "told to fail") {
		t.Errorf("failed with %s", out.Payload)
	}
	if got := string(a.invoke(`{"do":"count"}`).Payload); got != "4" {
		t.Errorf("after an error the instance remembers %s calls", got)
	}
	if out := a.invoke(`{"do":"exit"}`); out.FunctionError == nil || !strings.Contains(string(out.Payload), "exit status 3") {
		t.Errorf("exit gave %s", out.Payload)
	}
	if got := string(a.invoke(`{"do":"count"}`).Payload); got != "1" {
		t.Errorf("a new instance remembers %s calls", got)
	}
	if out := a.invoke(`{"do":"sleep"}`); out.FunctionError == nil || !strings.Contains(string(out.Payload), "Task timed out after 1.00 seconds") {
		t.Errorf("sleep gave %s", out.Payload)
	}
	if got := string(a.invoke(`{"do":"count"}`).Payload); got != "1" {
		t.Errorf("the instance that was killed remembers %s calls", got)
	}
	old := env["AWS_ACCESS_KEY_ID"]
	_, err := a.account(old, "us-east-1").iot.DescribeEndpoint(t.Context(), &iot.DescribeEndpointInput{})
	refused(t, err, "ExpiredTokenException", "expired")
}

func TestReservedConcurrency(t *testing.T) {
	a := start(t, Config{}).account("admin", "us-east-1")
	a.function(a.role(logActions))
	concurrency := func(n int32) error {
		_, err := a.lambda.PutFunctionConcurrency(t.Context(), &lambda.PutFunctionConcurrencyInput{FunctionName: aws.String("f"), ReservedConcurrentExecutions: &n})
		return err
	}
	refused(t, concurrency(901), "InvalidParameterValueException", "below its minimum value of [100]")
	if err := concurrency(0); err != nil {
		t.Fatal(err)
	}
	_, err := a.lambda.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("f"), Payload: []byte(`{"do":"count"}`)})
	refused(t, err, "TooManyRequestsException", "Rate Exceeded")
	if err := concurrency(1); err != nil {
		t.Fatal(err)
	}
	// Four asynchronous events share one instance, one after the other. An
	// instance has one log stream.
	for range 4 {
		must[*lambda.InvokeOutput](t)(a.lambda.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("f"), InvocationType: lambdatypes.InvocationTypeEvent, Payload: []byte(`{"do":"wait"}`)}))
	}
	a.until("all four have ended", func() bool { return len(a.said("END RequestId")) == 4 })
	streams := must[*cloudwatchlogs.DescribeLogStreamsOutput](t)(a.logs.DescribeLogStreams(t.Context(), &cloudwatchlogs.DescribeLogStreamsInput{LogGroupName: aws.String("/aws/lambda/f")}))
	if len(streams.LogStreams) != 1 {
		t.Errorf("%d instances", len(streams.LogStreams))
	}
}

// said are the events in the log of the function f that match a filter
// pattern, oldest first.
func (a *account) said(pattern string) []logstypes.FilteredLogEvent {
	out, err := a.logs.FilterLogEvents(a.t.Context(), &cloudwatchlogs.FilterLogEventsInput{LogGroupName: aws.String("/aws/lambda/f"), FilterPattern: &pattern})
	if err != nil {
		return nil // there is no log yet
	}
	return out.Events
}

// MaximumConcurrency bounds the batches of one queue that are worked on at
// once.
func TestMaximumConcurrency(t *testing.T) {
	a := start(t, Config{}).account("admin", "us-east-1")
	a.function(a.role(logActions, sqsActions))
	url, arn := a.queue("events", nil)
	for range 6 {
		must[*sqs.SendMessageOutput](t)(a.sqs.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &url, MessageBody: aws.String("slow")}))
	}
	must[*lambda.CreateEventSourceMappingOutput](t)(a.lambda.CreateEventSourceMapping(t.Context(), &lambda.CreateEventSourceMappingInput{
		EventSourceArn: &arn, FunctionName: aws.String("f"), BatchSize: aws.Int32(1), ScalingConfig: &lambdatypes.ScalingConfig{MaximumConcurrency: aws.Int32(2)},
	}))
	a.until("all six have ended", func() bool { return len(a.said("END RequestId")) == 6 })
	events := a.said("?START ?END")
	// What happened in one millisecond has no order: an end is taken for the
	// first of it.
	slices.SortStableFunc(events, func(x, y logstypes.FilteredLogEvent) int {
		return cmp.Or(cmp.Compare(*x.Timestamp, *y.Timestamp), strings.Compare(*x.Message, *y.Message))
	})
	open, most := 0, 0
	for _, e := range events {
		if strings.HasPrefix(*e.Message, "START") {
			open++
		} else {
			open--
		}
		most = max(most, open)
	}
	if open != 0 || most < 1 || most > 2 {
		t.Errorf("%d batches at once, %d without an end, of %d events", most, open, len(events))
	}
}

// A message that the function reports as failed comes again, until it is moved
// to the dead-letter queue; the others are deleted.
func TestQueueBetween(t *testing.T) {
	a := start(t, Config{}).account("admin", "us-east-1")
	role := a.role(logActions, sqsActions)
	a.function(role, func(in *lambda.CreateFunctionInput) { in.Timeout = aws.Int32(1) })
	dead, deadARN := a.queue("dead", nil)
	url, arn := a.queue("events", map[string]string{
		"VisibilityTimeout": "4", "RedrivePolicy": `{"deadLetterTargetArn":"` + deadARN + `","maxReceiveCount":2}`,
	})
	a.rule("tosqs", &iottypes.TopicRulePayload{
		Sql:     aws.String("SELECT body FROM 'events/+'"),
		Actions: []iottypes.Action{{Sqs: &iottypes.SqsAction{RoleArn: &role, QueueUrl: &url}}},
	})
	in := &lambda.CreateEventSourceMappingInput{
		EventSourceArn: &arn, FunctionName: aws.String("f"), BatchSize: aws.Int32(100), MaximumBatchingWindowInSeconds: aws.Int32(1),
		FunctionResponseTypes: []lambdatypes.FunctionResponseType{"ReportBatchItemFailures"}, ScalingConfig: &lambdatypes.ScalingConfig{MaximumConcurrency: aws.Int32(2)},
	}
	made := must[*lambda.CreateEventSourceMappingOutput](t)(a.lambda.CreateEventSourceMapping(t.Context(), in))
	_, err := a.lambda.CreateEventSourceMapping(t.Context(), in)
	refused(t, err, "ResourceConflictException", *made.UUID)
	must[*sqs.SendMessageOutput](t)(a.sqs.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &url, MessageBody: aws.String("bad one")}))
	a.want(200, "", "POST", "/topics/events%2Fx", `{"body":"good"}`)
	if got := a.receive(dead); got != "bad one" {
		t.Errorf("the dead letter is %q", got)
	}
	a.until("the queue is empty", func() bool { return a.waiting(url) == "0+0" })
	if got := a.waiting(dead); got != "0+0" {
		t.Errorf("more dead letters: %s", got)
	}
	a.until("the mapping says OK", func() bool {
		out, err := a.lambda.GetEventSourceMapping(t.Context(), &lambda.GetEventSourceMappingInput{UUID: made.UUID})
		return err == nil && *out.State == "Enabled" && aws.ToString(out.LastProcessingResult) == "OK"
	})
	must[*lambda.DeleteEventSourceMappingOutput](t)(a.lambda.DeleteEventSourceMapping(t.Context(), &lambda.DeleteEventSourceMappingInput{UUID: made.UUID}))
}

func TestMappingChecks(t *testing.T) {
	a := start(t, Config{}).account("admin", "us-east-1")
	a.function(a.role(logActions))
	_, arn := a.queue("events", map[string]string{"VisibilityTimeout": "10"})
	create := func(change func(*lambda.CreateEventSourceMappingInput)) error {
		in := &lambda.CreateEventSourceMappingInput{EventSourceArn: &arn, FunctionName: aws.String("f")}
		change(in)
		_, err := a.lambda.CreateEventSourceMapping(t.Context(), in)
		return err
	}
	refused(t, create(func(*lambda.CreateEventSourceMappingInput) {}), "InvalidParameterValueException", "Queue visibility timeout: 10 seconds is less than Function timeout: 20 seconds")
	must[*sqs.SetQueueAttributesOutput](t)(a.sqs.SetQueueAttributes(t.Context(), &sqs.SetQueueAttributesInput{
		QueueUrl: aws.String("http://x/123456789012/events"), Attributes: map[string]string{"VisibilityTimeout": "60"},
	}))
	refused(t, create(func(*lambda.CreateEventSourceMappingInput) {}), "InvalidParameterValueException", "does not have permissions to call ReceiveMessage on SQS")
	a.putPolicy(sqsActions)
	refused(t, create(func(in *lambda.CreateEventSourceMappingInput) { in.BatchSize = aws.Int32(11) }), "InvalidParameterValueException", "batch window")
	refused(t, create(func(in *lambda.CreateEventSourceMappingInput) {
		in.ScalingConfig = &lambdatypes.ScalingConfig{MaximumConcurrency: aws.Int32(1)}
	}), "InvalidParameterValueException", "MaximumConcurrency 1 is not from 2")
	if err := create(func(*lambda.CreateEventSourceMappingInput) {}); err != nil {
		t.Error(err)
	}
}

func TestCreateFunctionChecks(t *testing.T) {
	a := start(t, Config{}).account("admin", "us-east-1")
	zipped, err := zipOf("bootstrap", []byte("#!/bin/sh\n"), 0o755)
	if err != nil {
		t.Fatal(err)
	}
	create := func(change func(*lambda.CreateFunctionInput)) error {
		in := &lambda.CreateFunctionInput{
			FunctionName: aws.String("f"), Role: aws.String("arn:aws:iam::123456789012:role/r"), Runtime: lambdatypes.RuntimeProvidedal2023,
			Handler: aws.String("bootstrap"), Code: &lambdatypes.FunctionCode{ZipFile: zipped},
		}
		change(in)
		_, err := a.lambda.CreateFunction(t.Context(), in)
		return err
	}
	same := func(*lambda.CreateFunctionInput) {}
	const invalid, assume = "InvalidParameterValueException", "The role defined for the function cannot be assumed by Lambda."
	refused(t, create(same), invalid, assume)
	_, err = a.iam.CreateRole(t.Context(), &iam.CreateRoleInput{
		RoleName: aws.String("r"), AssumeRolePolicyDocument: aws.String(strings.Replace(trustLambda, `"Action"`, `"Resource":"*","Action"`, 1)),
	})
	refused(t, err, "MalformedPolicyDocument", "has prohibited field Resource")
	role := must[*iam.CreateRoleOutput](t)(a.iam.CreateRole(t.Context(), &iam.CreateRoleInput{
		RoleName: aws.String("r"), AssumeRolePolicyDocument: aws.String(strings.ReplaceAll(trustLambda, "lambda.", "ec2.")),
	}))
	refused(t, create(same), invalid, assume)
	must[*iam.UpdateAssumeRolePolicyOutput](t)(a.iam.UpdateAssumeRolePolicy(t.Context(), &iam.UpdateAssumeRolePolicyInput{RoleName: role.Role.RoleName, PolicyDocument: aws.String(trustLambda)}))
	a.SetFaults(Faults{RoleSettleSeconds: 3600})
	refused(t, create(same), invalid, assume)
	a.SetFaults(Faults{})
	refused(t, create(func(in *lambda.CreateFunctionInput) { in.Runtime = lambdatypes.RuntimePython27 }), invalid, "no longer supported")
	refused(t, create(func(in *lambda.CreateFunctionInput) { in.Code.ZipFile = []byte("x") }), invalid, "Could not unzip")
	refused(t, create(func(in *lambda.CreateFunctionInput) {
		in.Environment = &lambdatypes.Environment{Variables: map[string]string{"AWS_REGION": "x"}}
	}), invalid, "reserved keys")
	refused(t, create(func(in *lambda.CreateFunctionInput) {
		in.Environment = &lambdatypes.Environment{Variables: map[string]string{"A": strings.Repeat("x", 4096)}}
	}), invalid, "4KB limit")
	outside, err := zipOf("../bootstrap", []byte("x"), 0o755)
	if err != nil {
		t.Fatal(err)
	}
	refused(t, create(func(in *lambda.CreateFunctionInput) { in.Code.ZipFile = outside }), invalid, "outside")
	if err := create(same); err != nil {
		t.Fatal(err)
	}
	refused(t, create(same), "ResourceConflictException", "already exist")
	_, err = a.lambda.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("f"), Timeout: aws.Int32(5)})
	refused(t, err, "ResourceConflictException", "An update is in progress")
	a.ready()
	must[*lambda.UpdateFunctionConfigurationOutput](t)(a.lambda.UpdateFunctionConfiguration(t.Context(), &lambda.UpdateFunctionConfigurationInput{FunctionName: aws.String("f"), Timeout: aws.Int32(5)}))
}

// A bootstrap for another architecture, or one that cannot be executed, fails
// as at AWS.
func TestInvalidEntrypoint(t *testing.T) {
	other := map[lambdatypes.Architecture]lambdatypes.Architecture{
		lambdatypes.ArchitectureX8664: lambdatypes.ArchitectureArm64, lambdatypes.ArchitectureArm64: lambdatypes.ArchitectureX8664,
	}
	for name, tt := range map[string]struct {
		change func(*testing.T, *lambda.CreateFunctionInput)
		want   string
	}{
		"architecture": {func(t *testing.T, in *lambda.CreateFunctionInput) {
			in.Architectures = []lambdatypes.Architecture{other[hostArchitecture(t)]}
		}, "exec format error"},
		"mode": {func(t *testing.T, in *lambda.CreateFunctionInput) {
			in.Code.ZipFile = must[[]byte](t)(zipOf("bootstrap", []byte("#!/bin/sh\n"), 0o644))
		}, "permission denied"},
		"name": {func(t *testing.T, in *lambda.CreateFunctionInput) {
			in.Code.ZipFile = must[[]byte](t)(zipOf("main", []byte("#!/bin/sh\n"), 0o755))
		}, "Couldn't find valid bootstrap(s)"},
	} {
		t.Run(name, func(t *testing.T) {
			a := start(t, Config{}).account("admin", "us-east-1")
			a.function(a.role(logActions), func(in *lambda.CreateFunctionInput) { tt.change(t, in) })
			out := a.invoke(`{}`)
			if got := string(out.Payload); !strings.Contains(got, "Runtime.InvalidEntrypoint") || !strings.Contains(got, tt.want) {
				t.Errorf("got %s", got)
			}
		})
	}
}

func TestCopiesOfAnEvent(t *testing.T) {
	a := start(t, Config{}).account("admin", "us-east-1")
	role := a.role(logActions, iotActions)
	function := a.function(role)
	one := int32(1)
	must[*lambda.PutFunctionConcurrencyOutput](t)(a.lambda.PutFunctionConcurrency(t.Context(), &lambda.PutFunctionConcurrencyInput{FunctionName: &function, ReservedConcurrentExecutions: &one}))
	a.SetFaults(Faults{Copies: 3})
	must[*lambda.InvokeOutput](t)(a.lambda.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: &function, InvocationType: lambdatypes.InvocationTypeEvent, Payload: []byte(`{"do":"count"}`)}))
	a.until("the log has three copies of one request", func() bool {
		out, err := a.logs.FilterLogEvents(t.Context(), &cloudwatchlogs.FilterLogEventsInput{LogGroupName: aws.String("/aws/lambda/f"), FilterPattern: aws.String("START")})
		if err != nil || len(out.Events) != 3 {
			return false
		}
		return *out.Events[0].Message == *out.Events[2].Message
	})
}

func relative(t *testing.T, dir string) string {
	t.Helper()
	here, err := os.Getwd()
	if err == nil {
		dir, err = filepath.Rel(here, dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// Everything is there again after a restart, an event that was not done too.
func TestCloudSurvivesARestart(t *testing.T) {
	// Relative, as on a command line.
	cfg := Config{Dir: relative(t, t.TempDir()), AsyncRetry: time.Millisecond, NoConnectRate: true}
	a := start(t, cfg).account("admin", "us-east-1")
	role := a.role(logActions, iotActions, sqsActions)
	function := a.function(role)
	a.registeredRule(function, nil)
	a.allow("registered")
	url, arn := a.queue("events", map[string]string{"VisibilityTimeout": "30"})
	must[*lambda.CreateEventSourceMappingOutput](t)(a.lambda.CreateEventSourceMapping(t.Context(), &lambda.CreateEventSourceMappingInput{
		EventSourceArn: &arn, FunctionName: &function, FunctionResponseTypes: []lambdatypes.FunctionResponseType{"ReportBatchItemFailures"},
	}))
	zero := int32(0)
	must[*lambda.PutFunctionConcurrencyOutput](t)(a.lambda.PutFunctionConcurrency(t.Context(), &lambda.PutFunctionConcurrencyInput{FunctionName: &function, ReservedConcurrentExecutions: &zero}))
	gw := a.ca.issue(t, "gw-1")
	a.try(gw, "gw-1")
	must[*sqs.SendMessageOutput](t)(a.sqs.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &url, MessageBody: aws.String("good")}))
	a.until("the rule has seen the event", func() bool {
		data, err := a.Server.lambda.MarshalJSON()
		return err == nil && strings.Contains(string(data), gw.id)
	})
	a.stop()

	b := start(t, cfg).account("admin", "us-east-1")
	if got := b.status(gw.id); got != statusPending {
		t.Fatalf("the certificate is %s", got)
	}
	must[*lambda.DeleteFunctionConcurrencyOutput](t)(b.lambda.DeleteFunctionConcurrency(t.Context(), &lambda.DeleteFunctionConcurrencyInput{FunctionName: &function}))
	b.until("it is ACTIVE", func() bool { return b.status(gw.id) == statusActive })
	rules := must[*iot.ListTopicRulesOutput](t)(b.iot.ListTopicRules(t.Context(), &iot.ListTopicRulesInput{}))
	if len(rules.Rules) != 1 || *rules.Rules[0].RuleName != "registered" {
		t.Errorf("rules %+v", rules.Rules)
	}
	groups := must[*cloudwatchlogs.DescribeLogGroupsOutput](t)(b.logs.DescribeLogGroups(t.Context(), &cloudwatchlogs.DescribeLogGroupsInput{}))
	if len(groups.LogGroups) != 1 {
		t.Errorf("log groups %+v", groups.LogGroups)
	}
}

// A second Region's signature, and a key with a policy of its own.
func TestRegionAndPermissions(t *testing.T) {
	b := start(t, Config{})
	_, err := b.account("admin", "eu-central-1").iot.DescribeEndpoint(t.Context(), &iot.DescribeEndpointInput{})
	refused(t, err, "InvalidSignatureException", "Credential should be scoped to a valid region")
	_, err = b.account("admin", "eu-central-1").sqs.ListQueues(t.Context(), &sqs.ListQueuesInput{})
	refused(t, err, "InvalidSignatureException", "valid region")

	a := b.account("AKIATESTTESTTESTTEST", "us-east-1")
	who := must[*sts.GetCallerIdentityOutput](t)(a.sts.GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{}))
	if *who.Account != "123456789012" {
		t.Errorf("caller %+v", who)
	}
	const path = "/sim/access-keys/AKIATESTTESTTESTTEST"
	b.want(400, "MalformedPolicyDocument", "PUT", path, "{}")
	b.want(200, "", "PUT", path, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iot:Describe*","sqs:*","iam:PassRole"],"Resource":"*"},{"Effect":"Deny","Action":"sqs:SendMessage","Resource":"*"}]}`)
	must[*iot.DescribeEndpointOutput](t)(a.iot.DescribeEndpoint(t.Context(), &iot.DescribeEndpointInput{}))
	who = must[*sts.GetCallerIdentityOutput](t)(a.sts.GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{}))
	const notAuthorized = "User: arn:aws:iam::123456789012:user/AKIATESTTESTTESTTEST is not authorized to perform: "
	if *who.Arn != "arn:aws:iam::123456789012:user/AKIATESTTESTTESTTEST" {
		t.Errorf("caller %s", *who.Arn)
	}
	_, err = a.iot.GetRegistrationCode(t.Context(), &iot.GetRegistrationCodeInput{})
	refused(t, err, "AccessDeniedException", notAuthorized+"iot:GetRegistrationCode on resource: * because no identity-based policy allows the iot:GetRegistrationCode action")
	_, err = a.iot.UpdateCertificate(t.Context(), &iot.UpdateCertificateInput{CertificateId: aws.String(strings.Repeat("a", 64)), NewStatus: "ACTIVE"})
	refused(t, err, "AccessDeniedException", "iot:UpdateCertificate on resource: "+ownARN+"cert/"+strings.Repeat("a", 64))
	_, err = a.iam.GetRole(t.Context(), &iam.GetRoleInput{RoleName: aws.String("r")})
	refused(t, err, "AccessDenied", notAuthorized+"iam:GetRole on resource: arn:aws:iam::123456789012:role/r")
	_, err = a.lambda.GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: aws.String("f")})
	refused(t, err, "AccessDeniedException", "lambda:GetFunction on resource: arn:aws:lambda:us-east-1:123456789012:function:f")
	_, err = a.logs.PutRetentionPolicy(t.Context(), &cloudwatchlogs.PutRetentionPolicyInput{LogGroupName: aws.String("g"), RetentionInDays: aws.Int32(7)})
	refused(t, err, "AccessDeniedException", "logs:PutRetentionPolicy")
	url, _ := a.queue("q", nil)
	_, err = a.sqs.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &url, MessageBody: aws.String("x")})
	refused(t, err, "AccessDenied", "with an explicit deny in an identity-based policy")
	b.want(200, "", "DELETE", path, "")
	must[*iot.GetRegistrationCodeOutput](t)(a.iot.GetRegistrationCode(t.Context(), &iot.GetRegistrationCodeInput{}))
}

func TestThrottle(t *testing.T) {
	b := start(t, Config{})
	a := b.account("admin", "us-east-1")
	describe := func() error {
		_, err := a.iot.DescribeCertificate(t.Context(), &iot.DescribeCertificateInput{CertificateId: aws.String(strings.Repeat("a", 64))})
		return err
	}
	for range 30 {
		refused(t, describe(), "ResourceNotFoundException", "")
	}
	b.want(200, "", "POST", "/sim/faults", `{"throttle":0.0001}`)
	refused(t, describe(), "ResourceNotFoundException", "")
	refused(t, describe(), "ThrottlingException", "Rate exceeded")
	if _, err := a.iot.DescribeEndpoint(t.Context(), &iot.DescribeEndpointInput{}); err != nil {
		t.Errorf("another operation: %v", err) // each has a rate of its own
	}
	b.want(200, "", "POST", "/topics/x", "{}") // the data plane is not limited
	b.want(200, "", "POST", "/topics/x", "{}")
	calls := b.want(200, "", "GET", "/sim/calls", "")["calls"].(map[string]any)["iot:DescribeCertificate"].(map[string]any)
	if calls["allowed"] != 31.0 || calls["throttled"] != 1.0 {
		t.Errorf("calls %v", calls)
	}
	b.want(200, "", "POST", "/sim/faults", `{"throttle":0}`)
	refused(t, describe(), "ResourceNotFoundException", "")
}

func TestUnknownOperations(t *testing.T) {
	b := start(t, Config{})
	b.want(http.StatusNotFound, "UnknownOperationException", "POST", "/", "")
	b.want(http.StatusBadRequest, "UnknownOperationException", "POST", "/", "{}", "X-Amz-Target", "AmazonSQS.StartMessageMoveTask")
}
