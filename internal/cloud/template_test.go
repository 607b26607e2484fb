package cloud

import (
	"bytes"
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/jitr-agent/jitr-agent/internal/golden"
)

//go:generate go test -run TestTemplate -update

// TestTemplate makes cloud/*.yaml: CloudFormation templates of what deploy
// makes for one CA, out of the same Stack.
func TestTemplate(t *testing.T) {
	files := map[string]string{}
	for name, queue := range map[string]bool{"jitr.yaml": false, "jitr-queue.yaml": true} {
		files["../../cloud/"+name] = template(t, queue)
	}
	golden.Check(t, "./internal/cloud", files)
}

// TestTemplate_complete counts: everything in the stack has its resource.
func TestTemplate_complete(t *testing.T) {
	for _, queue := range []bool{false, true} {
		var doc struct {
			Resources map[string]struct {
				Type string `yaml:"Type"`
			} `yaml:"Resources"`
		}
		if err := yaml.Unmarshal([]byte(template(t, queue)), &doc); err != nil {
			t.Fatal(err)
		}
		got := map[string]int{}
		for _, r := range doc.Resources {
			got[r.Type]++
		}
		want := map[string]int{
			"AWS::IAM::Role": 2, "AWS::Logs::LogGroup": 1, "AWS::SQS::Queue": 1, "AWS::Lambda::Function": 1,
			"AWS::Lambda::EventInvokeConfig": 1, "AWS::IoT::Policy": 1, "AWS::IoT::TopicRule": 2, "AWS::Lambda::Permission": 2,
		}
		if queue {
			delete(want, "AWS::Lambda::Permission")
			want["AWS::Lambda::EventSourceMapping"], want["AWS::SQS::Queue"] = 1, 2
		}
		if !maps.Equal(got, want) {
			t.Errorf("queue %v: %v, want %v", queue, got, want)
		}
	}
}

// sampleCA stands for the CA in a stack for the template, which has
// parameters in its place.
var sampleCA = strings.Repeat("ca", 32)

const templateHead = `# CloudFormation template of what 'jitrctl cloud deploy' makes for one CA%s.
# Generated from internal/cloud by 'go generate ./internal/cloud'; do not edit.
#
# A template cannot carry the program: put internal/cloud/bundle/files/*.zip,
# which 'make build' makes, into an S3 bucket of the same Region.
#
#   aws cloudformation deploy --template-file %s --stack-name jitr \
#     --capabilities CAPABILITY_NAMED_IAM --parameter-overrides CaCertificateId=ID \
#     CaShortId=FIRST-12-DIGITS CodeBucket=BUCKET CodeKey=KEY
`

func template(t *testing.T, queue bool) string {
	t.Helper()
	p := Place{Partition: "${AWS::Partition}", Region: "${AWS::Region}", Account: "${AWS::AccountId}", Suffix: "${AWS::URLSuffix}"}
	stack, err := NewStack(p, Spec{
		Tenants: []Tenant{{CA: sampleCA, Name: shortID(sampleCA)}}, Arch: "arm64", Queue: queue,
	})
	if err != nil {
		t.Fatal(err)
	}
	name, what := "cloud/jitr.yaml", ""
	if queue {
		name, what = "cloud/jitr-queue.yaml", ", with --queue"
	}
	doc := fields{
		{"AWSTemplateFormatVersion", "2010-09-09"},
		{"Description", "jitr-agent: just-in-time registration" + what},
		{"Parameters", fields{
			{"CaCertificateId", parameter("the CA's certificate id, which 'jitrctl cloud register-ca' prints", "^[0-9a-f]{64}$")},
			{"CaShortId", parameter("its first 12 digits", "^[0-9a-f]{12}$")},
			{"CodeBucket", fields{{"Type", "String"}, {"Description", "S3 bucket with the function's zip"}}},
			{"CodeKey", fields{{"Type", "String"}, {"Description", "its key there"}}},
			{"Architecture", fields{{"Type", "String"}, {"Description", "of the zip"}, {"AllowedValues", list("arm64", "x86_64")}, {"Default", "arm64"}}},
		}},
		{"Resources", resources(stack, p)},
	}
	var out bytes.Buffer
	head := strings.Replace(strings.Replace(templateHead, "%s", what, 1), "%s", name, 1)
	out.WriteString(head)
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(node(t, doc)); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func parameter(what, pattern string) fields {
	return fields{{"Type", "String"}, {"Description", what}, {"AllowedPattern", pattern}}
}

// fields is a mapping whose order is kept.
type fields []field

type field struct {
	name  string
	value any
}

// ref is the value of a parameter.
type ref string

func list(values ...any) []any { return values }

func resources(s *Stack, p Place) fields {
	var out fields
	add := func(name, kind string, after []string, properties fields) {
		r := fields{{"Type", kind}}
		if len(after) > 0 {
			r = append(r, field{"DependsOn", strs(after)})
		}
		out = append(out, field{name, append(r, field{"Properties", properties})})
	}
	own := list(fields{{"Key", tagOwner}, {"Value", ownerIs}})
	for i, r := range s.Roles {
		add([]string{"ActivatorRole", "RulesRole"}[i], "AWS::IAM::Role", nil, fields{
			{"RoleName", r.Name}, {"AssumeRolePolicyDocument", r.Trust},
			{"Policies", list(fields{{"PolicyName", inlinePolicy}, {"PolicyDocument", r.Policy}})}, {"Tags", own},
		})
	}
	add("LogGroup", "AWS::Logs::LogGroup", nil, fields{{"LogGroupName", s.LogGroup.Name}, {"RetentionInDays", s.LogGroup.Days}, {"Tags", own}})
	for i, q := range s.Queues {
		f := fields{{"QueueName", q.Name}, {"VisibilityTimeout", seconds(q.Visibility)}, {"MessageRetentionPeriod", seconds(q.Retention)}}
		var after []string
		if q.DeadTo != "" {
			f = append(f, field{"RedrivePolicy", fields{{"deadLetterTargetArn", q.DeadTo}, {"maxReceiveCount", q.MaxReceive}}})
			after = []string{"FailedQueue"}
		}
		add([]string{"FailedQueue", "EventsQueue"}[i], "AWS::SQS::Queue", after, append(f, field{"Tags", own}))
	}
	fn := s.Function
	var env fields
	for _, name := range slices.Sorted(maps.Keys(fn.Environment)) {
		env = append(env, field{name, fn.Environment[name]})
	}
	f := fields{
		{"FunctionName", fn.Name}, {"Role", fn.Role}, {"Runtime", runtime}, {"Handler", handler},
		{"Code", fields{{"S3Bucket", ref("CodeBucket")}, {"S3Key", ref("CodeKey")}}},
		{"Architectures", list(ref("Architecture"))}, {"MemorySize", fn.MemoryMB}, {"Timeout", seconds(fn.Timeout)},
	}
	if fn.Concurrency > 0 {
		f = append(f, field{"ReservedConcurrentExecutions", fn.Concurrency})
	}
	add("Function", "AWS::Lambda::Function", []string{"ActivatorRole", "LogGroup"},
		append(f, field{"Environment", fields{{"Variables", env}}}, field{"Tags", own}))
	add("Failures", "AWS::Lambda::EventInvokeConfig", []string{"Function", "FailedQueue"}, fields{
		{"FunctionName", fn.Name}, {"Qualifier", "$LATEST"}, {"MaximumRetryAttempts", fn.Retries}, {"MaximumEventAgeInSeconds", seconds(fn.MaxAge)},
		{"DestinationConfig", fields{{"OnFailure", fields{{"Destination", fn.OnFailure}}}}},
	})
	ready := []string{"Function", "RulesRole", "FailedQueue", "Policy"}
	if m := s.Mapping; m != nil {
		add("Reader", "AWS::Lambda::EventSourceMapping", []string{"Function", "EventsQueue"}, fields{
			{"FunctionName", m.Function}, {"EventSourceArn", m.Queue}, {"BatchSize", m.Batch}, {"MaximumBatchingWindowInSeconds", seconds(m.Window)},
			{"ScalingConfig", fields{{"MaximumConcurrency", m.Concurrency}}}, {"FunctionResponseTypes", list(string(responses()[0]))}, {"Tags", own},
		})
		ready = append(ready, "Reader")
	}
	for _, d := range s.Policies {
		add("Policy", "AWS::IoT::Policy", nil, fields{{"PolicyName", d.Name}, {"PolicyDocument", d.Document}, {"Tags", append(slices.Clone(own), fields{{"Key", tagCA}, {"Value", d.CA}})}})
	}
	for _, r := range s.Rules {
		name, tags := "InitRule", slices.Clone(own)
		if r.CA != "" {
			name = "RegisteredRule"
			tags = append(tags, fields{{"Key", tagCA}, {"Value", r.CA}}, fields{{"Key", tagTenant}, {"Value", r.Tenant}})
		}
		after := ready
		if r.Function != "" {
			permission := strings.TrimSuffix(name, "Rule") + "Permission"
			after = append(slices.Clone(ready), permission)
			add(permission, "AWS::Lambda::Permission", []string{"Function"}, fields{
				{"FunctionName", functionName}, {"Action", "lambda:InvokeFunction"}, {"Principal", "iot.amazonaws.com"},
				{"SourceArn", p.arn("iot", "rule/"+r.Name)}, {"SourceAccount", p.Account},
			})
		}
		toQueue := func(url string) fields {
			return fields{{"Sqs", fields{{"QueueUrl", url}, {"RoleArn", r.Role}, {"UseBase64", false}}}}
		}
		action := toQueue(r.Queue)
		if r.Function != "" {
			action = fields{{"Lambda", fields{{"FunctionArn", r.Function}}}}
		}
		add(name, "AWS::IoT::TopicRule", after, fields{
			{"RuleName", r.Name},
			{"TopicRulePayload", fields{
				{"AwsIotSqlVersion", sqlVersion}, {"Sql", r.SQL}, {"Description", r.Description}, {"RuleDisabled", false},
				{"Actions", list(action)}, {"ErrorAction", toQueue(r.ErrorQueue)},
			}},
			{"Tags", tags},
		})
	}
	return out
}

func strs(s []string) []any {
	var out []any
	for _, v := range s {
		out = append(out, v)
	}
	return out
}

var variable = regexp.MustCompile(`\$\{[^}]*\}`)

// node writes strings with pseudo parameters as !Sub; what IoT policies have
// for variables is escaped there.
func node(t *testing.T, v any) *yaml.Node {
	t.Helper()
	switch v := v.(type) {
	case fields:
		n := &yaml.Node{Kind: yaml.MappingNode}
		for _, f := range v {
			n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: f.name}, node(t, f.value))
		}
		return n
	case []any:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		for _, e := range v {
			n.Content = append(n.Content, node(t, e))
		}
		return n
	case ref:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!Ref", Value: string(v)}
	case document:
		return node(t, ordered(t, v))
	case string:
		s := strings.ReplaceAll(v, sampleCA, "${CaCertificateId}")
		s = strings.ReplaceAll(s, shortID(sampleCA), "${CaShortId}")
		if !strings.Contains(s, "${AWS::") && !strings.Contains(s, "${Ca") {
			n := &yaml.Node{}
			n.SetString(s)
			if _, err := time.Parse(time.DateOnly, s); err == nil {
				n.Style = yaml.DoubleQuotedStyle // else it is a date
			}
			return n
		}
		s = variable.ReplaceAllStringFunc(s, func(in string) string {
			if strings.HasPrefix(in, "${AWS::") || strings.HasPrefix(in, "${Ca") {
				return in
			}
			return "${!" + in[2:]
		})
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!Sub", Value: s, Style: yaml.TaggedStyle | yaml.DoubleQuotedStyle}
	default:
		n := &yaml.Node{}
		if err := n.Encode(v); err != nil {
			t.Fatal(err)
		}
		return n
	}
}

// ordered is a document in the order of its JSON.
func ordered(t *testing.T, d document) any {
	t.Helper()
	var walk func(dec *json.Decoder) any
	walk = func(dec *json.Decoder) any {
		token, err := dec.Token()
		if err != nil {
			t.Fatal(err)
		}
		switch token {
		case json.Delim('{'):
			var f fields
			for dec.More() {
				name, err := dec.Token()
				if err != nil {
					t.Fatal(err)
				}
				f = append(f, field{name.(string), walk(dec)})
			}
			_, _ = dec.Token() // the brace that More has seen
			return f
		case json.Delim('['):
			var l []any
			for dec.More() {
				l = append(l, walk(dec))
			}
			_, _ = dec.Token() // likewise
			return l
		}
		return token
	}
	return walk(json.NewDecoder(strings.NewReader(d.String())))
}
