package cloud

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/activation"
)

// Spec is what an operator can choose.
type Spec struct {
	Tenants    []Tenant          // at least one; see Tenant
	Arch       string            // x86_64 or arm64, as Lambda names them
	Queue      bool              // a queue between rules and function, for power-ons of many gateways
	Unreserved bool              // no reserved concurrency, which a new account does not have
	Checks     activation.Config // only its optional checks
	Zip        []byte            // the function's code
}

// Tenant is a CA and what its gateways get. CAs with the same Name are one
// tenant: they share policy and topics, as an old CA and its successor do.
type Tenant struct {
	CA     string // certificateId
	Name   string // in the policy's name
	Prefix string // before all topics, as "acme"; empty: none
}

// Stack is what should be in the account: the one source of a plan and of the
// CloudFormation template.
type Stack struct {
	Roles    []Role
	LogGroup LogGroup
	Queues   []Queue
	Function Function
	Mapping  *Mapping // nil: rules invoke the function
	Policies []DevicePolicy
	Rules    []Rule
}

// Role is an IAM role with its only policy.
type Role struct {
	Name   string
	Trust  document
	Policy document
}

// LogGroup is where the function's lines go.
type LogGroup struct {
	Name string
	Days int32 // retention
}

// Queue is an SQS standard queue.
type Queue struct {
	Name       string
	Visibility time.Duration
	Retention  time.Duration
	DeadTo     string // ARN of the queue for messages that nobody could deal with; empty: none
	MaxReceive int
}

// Function is the activator in AWS Lambda.
type Function struct {
	Name        string
	Role        string // ARN
	Arch        string
	MemoryMB    int32
	Timeout     time.Duration
	Concurrency int32 // reserved; 0: none
	Environment map[string]string
	OnFailure   string // ARN of the queue for asynchronous events that failed
	Retries     int32
	MaxAge      time.Duration // of an asynchronous event
	Zip         []byte
}

// Lambda's names for a Go program in a zip (Lambda developer guide, "Building
// Lambda functions with Go").
const (
	runtime = "provided.al2023"
	handler = "bootstrap"
)

// Mapping lets the function read a queue.
type Mapping struct {
	Queue       string // ARN
	Function    string // name
	Batch       int32
	Window      time.Duration
	Concurrency int32
}

// DevicePolicy is a tenant's AWS IoT policy.
type DevicePolicy struct {
	Name     string
	CA       string // for which it was made
	Prefix   string
	Document document
}

// Rule is an AWS IoT rule. Its messages go to the function, or to a queue.
type Rule struct {
	Name        string
	Description string
	SQL         string
	CA, Tenant  string // of a rule for a CA
	Function    string // ARN; empty: Queue
	Queue       string // URL
	Role        string // ARN; for queues
	ErrorQueue  string // URL
}

const (
	sqlVersion = "2016-03-23" // the newest of AWS IoT SQL

	logDays = 30 // as long as an operator may need to hear of a gateway that does not come up

	// failedRetention is the most that SQS keeps a message: what is in that
	// queue waits for a person.
	failedRetention = 14 * 24 * time.Hour
	// eventsRetention is longer than any storm. A lost event costs nothing:
	// the gateway's next CONNECT makes it again.
	eventsRetention = 24 * time.Hour

	// Lambda tries an asynchronous event three times, and waits up to six
	// hours for concurrency (its defaults, said because drift is told).
	asyncRetries = 2
	asyncMaxAge  = 6 * time.Hour
)

// NewStack works out what s means at p. The error is about s.
func NewStack(p Place, s Spec) (*Stack, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	tenants := slices.SortedFunc(slices.Values(s.Tenants), func(a, b Tenant) int { return strings.Compare(a.CA, b.CA) })
	failedURL, failedARN := p.queueURL(failedQueue), p.arn("sqs", failedQueue)
	eventsURL, eventsARN := p.queueURL(eventsQueue), p.arn("sqs", eventsQueue)

	st := &Stack{
		LogGroup: LogGroup{Name: logGroupName, Days: logDays},
		Queues:   []Queue{{Name: failedQueue, Visibility: 30 * time.Second, Retention: failedRetention}},
		Function: Function{
			Name: functionName, Role: p.roleARN(p.activatorRole()), Arch: s.Arch,
			MemoryMB: activation.MemoryMB, Timeout: activation.Timeout, Concurrency: activation.DirectConcurrency,
			OnFailure: failedARN, Retries: asyncRetries, MaxAge: asyncMaxAge, Zip: s.Zip,
		},
	}
	to := Rule{Function: p.arn("lambda", "function:"+functionName), Role: p.roleARN(p.rulesRole()), ErrorQueue: failedURL}
	sendTo, read := []string{failedARN}, []statement{}
	if s.Queue {
		st.Queues = append(st.Queues, Queue{
			Name: eventsQueue, Visibility: activation.QueueVisibilityTimeout, Retention: eventsRetention,
			DeadTo: failedARN, MaxReceive: activation.QueueMaxReceives,
		})
		st.Mapping = &Mapping{
			Queue: eventsARN, Function: functionName, Batch: activation.QueueBatchSize,
			Window: activation.QueueBatchWindow, Concurrency: activation.QueueConcurrency,
		}
		to.Function, to.Queue = "", eventsURL
		sendTo = append(sendTo, eventsARN)
		read = append(read, statement{Sid: "Events", Action: []string{"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}, Resource: []string{eventsARN}})
	}
	if s.Queue || s.Unreserved {
		st.Function.Concurrency = 0
	}
	st.Roles = []Role{
		{Name: p.activatorRole(), Trust: trust("lambda.amazonaws.com", nil), Policy: activatorPermissions(p, failedARN, read)},
		{Name: p.rulesRole(), Trust: trust("iot.amazonaws.com", map[string]map[string]string{
			"StringEquals": {"aws:SourceAccount": p.Account},
			"ArnLike":      {"aws:SourceArn": p.arn("iot", "rule/"+rulePrefix+"*")},
		}), Policy: allow(statement{Sid: "Queues", Action: []string{"sqs:SendMessage"}, Resource: sendTo})},
	}

	checks := s.Checks
	checks.Account, checks.Policies = p.Account, map[string]string{}
	prefixes := map[string]bool{}
	for _, t := range tenants {
		checks.Policies[t.CA] = policyName(t.Name)
		prefixes[t.Prefix] = true
		if !slices.ContainsFunc(st.Policies, func(d DevicePolicy) bool { return d.Name == policyName(t.Name) }) {
			st.Policies = append(st.Policies, DevicePolicy{Name: policyName(t.Name), CA: t.CA, Prefix: t.Prefix, Document: devicePolicy(p, t.Prefix)})
		}
		r := to
		r.Name, r.CA, r.Tenant, r.SQL = ruleName(t.CA), t.CA, t.Name, activation.RegisteredSQL(t.CA)
		r.Description = "jitr-agent: activates the gateways of the CA " + t.CA
		st.Rules = append(st.Rules, r)
	}
	for _, prefix := range slices.Sorted(maps.Keys(prefixes)) {
		r := to
		r.Name, r.SQL = initRuleName(prefix), activation.InitSQL(withPrefix(prefix, initTopic("+")))
		r.Description = "jitr-agent: takes replaced certificates out of service"
		st.Rules = append(st.Rules, r)
	}
	st.Function.Environment = checks.Environment()
	return st, nil
}

// activatorPermissions is what the activator calls, and no more.
func activatorPermissions(p Place, failedARN string, more []statement) document {
	var s []statement
	for _, needed := range activation.Permissions() {
		var arns []string
		for _, r := range needed.Resources {
			if r != "*" {
				r = p.arn("iot", r)
			}
			arns = append(arns, r)
		}
		if i := slices.IndexFunc(s, func(have statement) bool { return slices.Equal(have.Resource, arns) }); i >= 0 {
			s[i].Action = append(s[i].Action, needed.Action)
			continue
		}
		s = append(s, statement{Action: []string{needed.Action}, Resource: arns})
	}
	s = append(s,
		statement{Sid: "Logs", Action: []string{"logs:CreateLogStream", "logs:PutLogEvents"}, Resource: []string{p.arn("logs", "log-group:"+logGroupName+":*")}},
		statement{Sid: "Failed", Action: []string{"sqs:SendMessage"}, Resource: []string{failedARN}})
	return allow(append(s, more...)...)
}

// Architectures are those that Lambda has, as it names them.
func Architectures() []string { return []string{"arm64", "x86_64"} }

// ArchitectureFor is the one for programs of a GOARCH. What Lambda does not have
// runs as arm64, the cheaper of its two.
func ArchitectureFor(goarch string) string {
	if goarch == "amd64" || goarch == "386" {
		return "x86_64"
	}
	return "arm64"
}

func (s Spec) check() error {
	if !slices.Contains(Architectures(), s.Arch) {
		return fmt.Errorf("%w: the architecture %q is none of %s", ErrBadChoice, s.Arch, strings.Join(Architectures(), ", "))
	}
	prefixOf, caOf := map[string]string{}, map[string]string{}
	for _, t := range s.Tenants {
		if err := t.check(); err != nil {
			return err
		}
		if prefix, ok := prefixOf[t.Name]; ok && prefix != t.Prefix {
			return fmt.Errorf("%w: the tenant %s has one policy, so it cannot have both %q and %q before its topics", ErrBadChoice, t.Name, prefix, t.Prefix)
		}
		prefixOf[t.Name] = t.Prefix
		if other, ok := caOf[ruleName(t.CA)]; ok && other != t.CA {
			return fmt.Errorf("%w: the CAs %s and %s have the same first 12 digits, and their rules would have one name", ErrBadChoice, other, t.CA)
		}
		caOf[ruleName(t.CA)] = t.CA
	}
	return nil
}

func (t Tenant) check() error {
	if t.Name == "" || !tenantName.MatchString(t.Name) {
		return fmt.Errorf("%w: the tenant %q is not 1 to 64 of a-z A-Z 0-9 _ . -", ErrBadChoice, t.Name)
	}
	if t.Prefix != "" && !topicPrefix.MatchString(t.Prefix) {
		return fmt.Errorf("%w: the topic prefix %q is not one or two segments of up to 32 of a-z A-Z 0-9 _ . : -", ErrBadChoice, t.Prefix)
	}
	// Under the prefix dt the init messages would be dt/init/THING, which a
	// gateway called init of another tenant may publish.
	for segment := range strings.SplitSeq(t.Prefix, "/") {
		if segment == "init" || segment == "dt" {
			return fmt.Errorf("%w: the topic prefix %q has a segment %s, which the gateways' own topics begin with", ErrBadChoice, t.Prefix, segment)
		}
	}
	return nil
}
