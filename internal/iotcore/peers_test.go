package iotcore

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
)

// tool finds a peer that the tests need. Where it is missing, a developer's
// machine skips; the project's own test run installs them all.
func tool(t *testing.T, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skipf("%s is not installed", names[0])
	return ""
}

// mosquitto is a command line of mosquitto_pub or mosquitto_sub.
func (b *bench) mosquitto(i identity, program, version, clientID string, args ...string) *exec.Cmd {
	b.t.Helper()
	cert, key := i.files(b.t)
	root := filepath.Join(b.t.TempDir(), "root.pem")
	if err := os.WriteFile(root, b.ServerCAPEM(), 0o600); err != nil {
		b.t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(b.MQTTAddr())
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	b.t.Cleanup(cancel)
	all := append([]string{"--cafile", root, "--cert", cert, "--key", key, "-h", host, "-p", port, "-V", version, "-i", clientID, "-q", "1"}, args...)
	// stdbuf, because debug lines would stay in the program's buffer.
	return exec.CommandContext(ctx, tool(b.t, "stdbuf"), append([]string{"-oL", tool(b.t, program)}, all...)...)
}

// kill ends a program that was started, and waits for it.
func kill(cmd *exec.Cmd) {
	_ = cmd.Process.Kill() // an error says that it has ended
	_ = cmd.Wait()         // "signal: killed" is the rule here
}

// subscriber starts mosquitto_sub and waits until it has its SUBACK.
func (b *bench) subscriber(i identity, version, clientID string, args ...string) *bufio.Scanner {
	b.t.Helper()
	subscribed := make(chan struct{}, 1)
	cmd := b.mosquitto(i, "mosquitto_sub", version, clientID, append([]string{"-d"}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	r, w := io.Pipe()
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	go func() { // debug lines stay here, messages go on
		s := bufio.NewScanner(out)
		for s.Scan() {
			switch line := s.Text(); {
			case strings.HasPrefix(line, "Subscribed"):
				subscribed <- struct{}{}
			case strings.HasPrefix(line, "Client "):
			default:
				_, _ = io.WriteString(w, line+"\n") // an error says that the test reads no more
			}
		}
		w.Close()
		close(subscribed)
	}()
	b.t.Cleanup(func() { r.Close(); kill(cmd) })
	<-subscribed
	return bufio.NewScanner(r)
}

func TestMosquitto(t *testing.T) {
	for _, version := range []string{"mqttv5", "311"} {
		t.Run(version, func(t *testing.T) {
			b := start(t, Config{NoConnectRate: true})
			op := b.accepted("operator", "")
			lines := b.subscriber(op, version, "operator", "-t", "init/#", "-t", "$aws/events/#", "-F", "%t %p", "-C", "2")
			gw := b.ca.issue(t, "gw-1")
			pub := func() (string, error) {
				out, err := b.mosquitto(gw, "mosquitto_pub", version, "gw-1", "-t", "init/gw-1", "-m", "hello").CombinedOutput()
				return string(out), err
			}
			if out, err := pub(); err == nil {
				t.Errorf("a pending certificate published: %s", out)
			}
			if err := b.Activate(gw.id); err != nil {
				t.Fatal(err)
			}
			if out, err := pub(); err != nil {
				t.Errorf("an active certificate: %v: %s", err, out)
			}
			for _, want := range []string{"$aws/events/certificates/registered/" + b.caID + ` {"certificateId":"` + gw.id, "init/gw-1 hello"} {
				if !lines.Scan() || !strings.HasPrefix(lines.Text(), want) {
					t.Errorf("the observer saw %q, want %q", lines.Text(), want)
				}
			}
		})
	}
}

// MQTT 3.1.1 is cut off where MQTT 5 gets a reason code.
func TestMosquittoDenied(t *testing.T) {
	b := start(t, Config{NoConnectRate: true})
	gw := b.accepted("gw-1", narrow)
	none := b.accepted("none", `{"Statement":{"Effect":"Allow","Action":"iot:Publish","Resource":"*"}}`)
	run := func(i identity, program, version, id string, args ...string) string {
		out, err := b.mosquitto(i, program, version, id, args...).CombinedOutput()
		if err == nil && version == "311" {
			t.Errorf("%s %s %v succeeded: %s", program, version, args, out)
		}
		return string(out)
	}
	if out := run(none, "mosquitto_pub", "mqttv5", "none", "-t", "x", "-m", "x"); !strings.Contains(strings.ToLower(out), "not authorized") {
		t.Errorf("MQTT 5, no iot:Connect: %s", out)
	}
	if out := run(none, "mosquitto_pub", "311", "none", "-t", "x", "-m", "x"); strings.Contains(strings.ToLower(out), "authori") {
		t.Errorf("MQTT 3.1.1, no iot:Connect: it saw a CONNACK: %s", out)
	}
	if out := run(gw, "mosquitto_pub", "mqttv5", "gw-1", "-t", "other/x", "-m", "x", "-d"); !strings.Contains(out, "PUBACK (Mid: 1, RC:135)") {
		t.Errorf("MQTT 5 PUBLISH: %s", out)
	}
	if out := run(gw, "mosquitto_pub", "311", "gw-1", "-t", "other/x", "-m", "x", "-d"); !strings.Contains(out, "CONNACK (0)") || strings.Contains(out, "PUBACK") {
		t.Errorf("MQTT 3.1.1 PUBLISH: %s", out)
	}
}

// What happens to a 3.1.1 client that asks for too much: connect, subscribe,
// closed, without end.
func TestMosquittoSubscribesInALoop(t *testing.T) {
	connects := make(chan Attempt, 64)
	b := start(t, Config{NoConnectRate: true, OnConnect: func(a Attempt) { connects <- a }})
	gw := b.accepted("gw-1", `{"Statement":{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}}`)
	cmd := b.mosquitto(gw, "mosquitto_sub", "311", "gw-1", "-t", "x", "-d")
	var out strings.Builder
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		select {
		case a := <-connects:
			if a.Outcome != OutcomeAccepted || a.ProtocolVersion != 4 {
				t.Errorf("attempt %+v", a)
			}
		case <-time.After(patience):
			t.Error("it did not come back")
		}
	}
	kill(cmd)
	if strings.Contains(out.String(), "SUBACK") || strings.Contains(out.String(), "Subscribed") {
		t.Errorf("it saw a SUBACK: %s", out.String())
	}
}

func TestPahoClient(t *testing.T) {
	b := start(t, Config{})
	gw := b.accepted("gw-1", "")
	received := make(chan *paho.Publish, 1)
	c := paho.NewClient(paho.ClientConfig{
		Conn: b.mustDial(gw),
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			received <- p.Packet
			return true, nil
		}},
	})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ack, err := c.Connect(ctx, &paho.Connect{ClientID: "gw-1", KeepAlive: 60, CleanStart: true})
	if err != nil || ack.ReasonCode != 0 {
		t.Fatalf("connect: %v", err)
	}
	if _, err := c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "cmd/gw-1", QoS: 1}}}); err != nil {
		t.Fatal(err)
	}
	props := &paho.PublishProperties{ContentType: "text/plain", ResponseTopic: "re/x", CorrelationData: []byte{1, 2}}
	props.User.Add("stream", "s").Add("seq", "1")
	res, err := c.Publish(ctx, &paho.Publish{Topic: "cmd/gw-1", QoS: 1, Payload: []byte("hello"), Properties: props})
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Properties.User) > 0 {
		t.Errorf("the PUBACK echoes the user properties: %v", res.Properties.User)
	}
	select {
	case m := <-received:
		p := m.Properties
		if string(m.Payload) != "hello" || p.ContentType != "text/plain" || p.ResponseTopic != "re/x" || string(p.CorrelationData) != "\x01\x02" || p.User.Get("seq") != "1" {
			t.Errorf("message %v %+v", m, p)
		}
	case <-ctx.Done():
		t.Fatal("no message")
	}
	if err := c.Disconnect(&paho.Disconnect{}); err != nil {
		t.Error(err)
	}
}

func TestAWSCommandLine(t *testing.T) {
	aws := tool(t, "/usr/bin/aws", "aws")
	b := start(t, Config{})
	gw := b.ca.issue(t, "gw-1")
	b.try(gw, "gw-1")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(ctx, aws, append(args, "--endpoint-url", "http://"+b.APIAddr(), "--output", "text")...)
		cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID=x", "AWS_SECRET_ACCESS_KEY=x", "AWS_DEFAULT_REGION=us-east-1", "AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER=")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("aws %v: %v: %s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	if got := run("iot", "get-registration-code"); got != b.registry.registrationCode() {
		t.Errorf("registration code %q", got)
	}
	run("iot", "attach-policy", "--policy-name", ownPolicy, "--target", ownARN+"cert/"+gw.id)
	run("iot", "update-certificate", "--certificate-id", gw.id, "--new-status", "ACTIVE")
	if got := run("iot", "describe-certificate", "--certificate-id", gw.id, "--query", "certificateDescription.status"); got != "ACTIVE" {
		t.Errorf("status %q", got)
	}
	if got := b.try(gw, "gw-1"); got != "connack 0x0" {
		t.Errorf("after activation: %s", got)
	}
	b.api("POST", "/things/gw-1/shadow", `{"state":{"reported":{"a":1}}}`)
	file := filepath.Join(t.TempDir(), "shadow.json")
	run("iot-data", "get-thing-shadow", "--thing-name", "gw-1", file)
	if data, err := os.ReadFile(file); err != nil || !strings.Contains(string(data), `{"state":{"reported":{"a":1}}`) {
		t.Errorf("shadow %s, %v", data, err)
	}
}

// Both generations of the aws CLI build the cloud side. The one that this
// machine lacks is skipped.
func TestAWSCommandLineCloud(t *testing.T) {
	for _, path := range []string{"/usr/bin/aws", "aws"} {
		t.Run(path, func(t *testing.T) {
			aws := tool(t, path)
			if path != aws && aws == "/usr/bin/aws" {
				t.Skip("it is the only one, and has had its turn")
			}
			a := start(t, Config{NoConnectRate: true}).account("admin", "us-east-1")
			dir := t.TempDir()
			zipped, err := testZip()
			if err != nil {
				t.Fatal(err)
			}
			for name, data := range map[string][]byte{
				"f.zip": zipped, "trust.json": []byte(trustLambda), "role.json": []byte(`{"Version":"2012-10-17","Statement":[` + logActions + `,` + iotActions + `]}`),
				"rule.json": []byte(`{"sql":"SELECT * FROM '$aws/events/certificates/registered/` + a.caID + `'","awsIotSqlVersion":"2016-03-23",
					"actions":[{"lambda":{"functionArn":"arn:aws:lambda:us-east-1:123456789012:function:f"}}]}`),
			} {
				if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
			defer cancel()
			run := func(args ...string) string {
				t.Helper()
				cmd := exec.CommandContext(ctx, aws, append(args, "--endpoint-url", "http://"+a.APIAddr(), "--output", "text")...)
				cmd.Dir = dir
				cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID=x", "AWS_SECRET_ACCESS_KEY=x", "AWS_DEFAULT_REGION=us-east-1", "AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER=")
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Fatalf("aws %v: %v: %s", args, err, out)
				}
				return strings.TrimSpace(string(out))
			}
			want := func(want string, args ...string) {
				t.Helper()
				if got := run(args...); got != want {
					t.Errorf("aws %v: %q, want %q", args, got, want)
				}
			}
			want("123456789012", "sts", "get-caller-identity", "--query", "Account")
			want("arn:aws:iam::123456789012:role/r", "iam", "create-role", "--role-name", "r", "--assume-role-policy-document", "file://trust.json", "--tags", "Key=k,Value=v", "--query", "Role.Arn")
			run("iam", "put-role-policy", "--role-name", "r", "--policy-name", "p", "--policy-document", "file://role.json")
			want("p", "iam", "list-role-policies", "--role-name", "r", "--query", "PolicyNames")
			want("lambda.amazonaws.com\tiot.amazonaws.com", "iam", "get-role", "--role-name", "r", "--query", "Role.AssumeRolePolicyDocument.Statement[0].Principal.Service")
			run("lambda", "create-function", "--function-name", "f", "--runtime", "provided.al2023", "--handler", "bootstrap", "--timeout", "20",
				"--role", "arn:aws:iam::123456789012:role/r", "--zip-file", "fileb://f.zip", "--architectures", string(hostArchitecture(t)), "--environment", "Variables={POLICY="+ownPolicy+"}")
			run("lambda", "wait", "function-active", "--function-name", "f")
			run("lambda", "add-permission", "--function-name", "f", "--statement-id", "s", "--action", "lambda:InvokeFunction",
				"--principal", "iot.amazonaws.com", "--source-arn", ownARN+"rule/registered", "--source-account", "123456789012")
			run("lambda", "put-function-concurrency", "--function-name", "f", "--reserved-concurrent-executions", "1")
			run("iot", "create-topic-rule", "--rule-name", "registered", "--topic-rule-payload", "file://rule.json", "--tags", "k=v")
			gw := a.ca.issue(t, "gw-1")
			a.try(gw, "gw-1")
			a.until("it is ACTIVE", func() bool { return a.status(gw.id) == statusActive })
			want(ownPolicy, "iot", "list-attached-policies", "--target", ownARN+"cert/"+gw.id, "--query", "policies[].policyName")
			if got := run("logs", "filter-log-events", "--log-group-name", "/aws/lambda/f", "--query", "events[].message"); !strings.Contains(got, "START RequestId") {
				t.Errorf("the log is %q", got)
			}
			run("logs", "put-retention-policy", "--log-group-name", "/aws/lambda/f", "--retention-in-days", "30")
			want("30", "logs", "describe-log-groups", "--query", "logGroups[0].retentionInDays")
			want("registered", "iot", "list-topic-rules", "--query", "rules[].ruleName")
			run("iot", "delete-topic-rule", "--rule-name", "registered")
			run("lambda", "delete-function", "--function-name", "f")
			want("", "lambda", "list-functions", "--query", "Functions[].FunctionName")
			if strings.Contains(run("--version"), "aws-cli/2.9.") {
				return // its SQS speaks the query protocol that AWS has given up
			}
			want("http://"+a.APIAddr()+"/123456789012/q", "sqs", "create-queue", "--queue-name", "q", "--tags", "k=v")
			run("sqs", "send-message", "--queue-url", "http://x/123456789012/q", "--message-body", "hello")
			want("hello", "sqs", "receive-message", "--queue-url", "http://x/123456789012/q", "--query", "Messages[].Body")
			want("arn:aws:sqs:us-east-1:123456789012:q", "sqs", "get-queue-attributes", "--queue-url", "http://x/123456789012/q", "--attribute-names", "All", "--query", "Attributes.QueueArn")
		})
	}
}
