package cloud

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
)

// Place is an account and a Region. In the CloudFormation template its fields
// are pseudo parameters, as ${AWS::Region}.
type Place struct {
	Partition string // aws, aws-cn, aws-us-gov
	Region    string
	Account   string
	Suffix    string // of the services' host names
}

// arn names a resource of a regional service: arn("lambda", "function:f").
func (p Place) arn(service, resource string) string {
	return "arn:" + p.Partition + ":" + service + ":" + p.Region + ":" + p.Account + ":" + resource
}

func (p Place) roleARN(name string) string {
	return "arn:" + p.Partition + ":iam::" + p.Account + ":role/" + name
}

// queueURL is the form that SQS gives a queue's URL (SQS developer guide).
func (p Place) queueURL(name string) string {
	return "https://sqs." + p.Region + "." + p.Suffix + "/" + p.Account + "/" + name
}

// The tags of what is ours. tagOwner is on everything; its value says what
// made it. The others are how a plan knows again what was decided before.
const (
	tagOwner  = "jitr-agent"
	tagCA     = "jitr-agent-ca"     // of a rule and a policy: the CA's certificateId
	tagTenant = "jitr-agent-tenant" // of a rule
	tagPrefix = "jitr-agent-prefix" // of a policy: before all topics
	ownerIs   = "jitrctl"

	// tagStack is CloudFormation's own, on what a stack has (CloudFormation user guide, "Resource tag").
	tagStack = "aws:cloudformation:stack-name"
)

// The names of what there is once. IAM's are for the whole account, so they
// carry the Region.
const (
	functionName = "jitr-activator"
	failedQueue  = "jitr-activator-failed" // what neither function nor rule could deal with
	eventsQueue  = "jitr-activator-events"
	logGroupName = "/aws/lambda/" + functionName
	inlinePolicy = "jitr-agent" // the one policy of each role
)

func (p Place) activatorRole() string { return "jitr-activator-" + p.Region }
func (p Place) rulesRole() string     { return "jitr-rules-" + p.Region }

// shortID is enough of an id to tell CAs apart, and fits into every name.
func shortID(id string) string { return id[:min(12, len(id))] }

// The prefixes of names that are ours where the account can have many.
const (
	rulePrefix   = "jitr_"
	policyPrefix = "jitr-"
)

// ruleName is the rule that hands on the events of a CA.
func ruleName(ca string) string { return rulePrefix + shortID(ca) }

// initRuleName is the rule on the init topic of all tenants with that topic
// prefix. Rule names have no room for a prefix's characters, so it is hashed.
func initRuleName(prefix string) string {
	if prefix == "" {
		return rulePrefix + "init"
	}
	sum := sha256.Sum256([]byte(prefix))
	return rulePrefix + "init_" + hex.EncodeToString(sum[:4])
}

func policyName(tenant string) string { return policyPrefix + tenant }

var (
	// tenantName leaves room for the prefix in a policy's name.
	tenantName = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,64}$`)
	// topicPrefix is one or two segments: with init/THING or dt/THING/SOURCE
	// and a few segments of a program's own behind it, AWS's 8 are enough.
	topicPrefix = regexp.MustCompile(`^[a-zA-Z0-9_.:-]{1,32}(/[a-zA-Z0-9_.:-]{1,32})?$`)
)
