package cloud

import (
	"testing"

	"github.com/jitr-agent/jitr-agent/internal/policy"
)

func testPlace() Place {
	return Place{Partition: "aws", Region: "us-west-2", Account: "123456789012", Suffix: "amazonaws.com"}
}

// connection is what AWS IoT knows of a client whose certificate is attached
// to thing.
func connection(thing, clientID string) policy.Variables {
	v := policy.Variables{"iot:ClientId": clientID}
	if thing != "" && thing == clientID {
		v["iot:Connection.Thing.ThingName"], v["iot:Connection.Thing.IsAttached"] = thing, "true"
	}
	return v
}

// TestDevicePolicy asks the policy engine: everything that the agent does is
// allowed, and each neighbour is denied.
func TestDevicePolicy(t *testing.T) {
	self := connection("gw-1", "gw-1")
	for name, tt := range map[string]struct {
		prefix           string
		vars             policy.Variables
		action, resource string
		want             policy.Decision
	}{
		"connect":                        {"", self, "iot:Connect", "client/gw-1", policy.Allow},
		"init":                           {"", self, "iot:Publish", "topic/init/gw-1", policy.Allow},
		"telemetry":                      {"", self, "iot:Publish", "topic/dt/gw-1/system", policy.Allow},
		"telemetry of a program":         {"", self, "iot:Publish", "topic/dt/gw-1/a/b/c", policy.Allow},
		"gap record":                     {"", self, "iot:Publish", "topic/dt/gw-1/gap", policy.Allow},
		"shadow get":                     {"", self, "iot:Publish", "topic/$aws/things/gw-1/shadow/get", policy.Allow},
		"shadow update":                  {"", self, "iot:Publish", "topic/$aws/things/gw-1/shadow/update", policy.Allow},
		"named shadow get":               {"", self, "iot:Publish", "topic/$aws/things/gw-1/shadow/name/config/get", policy.Allow},
		"named shadow update":            {"", self, "iot:Publish", "topic/$aws/things/gw-1/shadow/name/config/update", policy.Allow},
		"subscribe get accepted":         {"", self, "iot:Subscribe", "topicfilter/$aws/things/gw-1/shadow/get/accepted", policy.Allow},
		"subscribe get rejected":         {"", self, "iot:Subscribe", "topicfilter/$aws/things/gw-1/shadow/get/rejected", policy.Allow},
		"subscribe update accepted":      {"", self, "iot:Subscribe", "topicfilter/$aws/things/gw-1/shadow/update/accepted", policy.Allow},
		"subscribe update rejected":      {"", self, "iot:Subscribe", "topicfilter/$aws/things/gw-1/shadow/update/rejected", policy.Allow},
		"subscribe delta":                {"", self, "iot:Subscribe", "topicfilter/$aws/things/gw-1/shadow/update/delta", policy.Allow},
		"subscribe named delta":          {"", self, "iot:Subscribe", "topicfilter/$aws/things/gw-1/shadow/name/config/update/delta", policy.Allow},
		"receive delta":                  {"", self, "iot:Receive", "topic/$aws/things/gw-1/shadow/update/delta", policy.Allow},
		"receive named get":              {"", self, "iot:Receive", "topic/$aws/things/gw-1/shadow/name/config/get/accepted", policy.Allow},
		"prefix: init":                   {"acme", self, "iot:Publish", "topic/acme/init/gw-1", policy.Allow},
		"prefix: telemetry":              {"acme", self, "iot:Publish", "topic/acme/dt/gw-1/system", policy.Allow},
		"prefix: shadow":                 {"acme", self, "iot:Publish", "topic/$aws/things/gw-1/shadow/update", policy.Allow},
		"other client id":                {"", self, "iot:Connect", "client/gw-2", policy.ImplicitDeny},
		"client id in mine":              {"", self, "iot:Connect", "client/gw-1-next", policy.ImplicitDeny},
		"my certificate, its id":         {"", connection("gw-1", "gw-2"), "iot:Connect", "client/gw-2", policy.ImplicitDeny},
		"no thing":                       {"", connection("", "gw-1"), "iot:Connect", "client/gw-1", policy.ImplicitDeny},
		"no thing publishes":             {"", connection("", "gw-1"), "iot:Publish", "topic/dt/gw-1/system", policy.ImplicitDeny},
		"other thing's init":             {"", self, "iot:Publish", "topic/init/gw-2", policy.ImplicitDeny},
		"below my init":                  {"", self, "iot:Publish", "topic/init/gw-1/x", policy.ImplicitDeny},
		"other thing's telemetry":        {"", self, "iot:Publish", "topic/dt/gw-2/system", policy.ImplicitDeny},
		"longer name":                    {"", self, "iot:Publish", "topic/dt/gw-12/system", policy.ImplicitDeny},
		"other thing's shadow":           {"", self, "iot:Publish", "topic/$aws/things/gw-2/shadow/update", policy.ImplicitDeny},
		"other thing's named shadow":     {"", self, "iot:Publish", "topic/$aws/things/gw-2/shadow/name/config/update", policy.ImplicitDeny},
		"answering in my shadow's name":  {"", self, "iot:Publish", "topic/$aws/things/gw-1/shadow/update/accepted", policy.ImplicitDeny},
		"deleting my shadow":             {"", self, "iot:Publish", "topic/$aws/things/gw-1/shadow/delete", policy.ImplicitDeny},
		"subscribe other's delta":        {"", self, "iot:Subscribe", "topicfilter/$aws/things/gw-2/shadow/update/delta", policy.ImplicitDeny},
		"subscribe all":                  {"", self, "iot:Subscribe", "topicfilter/#", policy.ImplicitDeny},
		"subscribe all telemetry":        {"", self, "iot:Subscribe", "topicfilter/dt/#", policy.ImplicitDeny},
		"subscribe every thing's delta":  {"", self, "iot:Subscribe", "topicfilter/$aws/things/+/shadow/update/delta", policy.ImplicitDeny},
		"subscribe all things":           {"", self, "iot:Subscribe", "topicfilter/$aws/things/#", policy.ImplicitDeny},
		"subscribe my own telemetry":     {"", self, "iot:Subscribe", "topicfilter/dt/gw-1/#", policy.ImplicitDeny},
		"receive other's delta":          {"", self, "iot:Receive", "topic/$aws/things/gw-2/shadow/update/delta", policy.ImplicitDeny},
		"receive other's telemetry":      {"", self, "iot:Receive", "topic/dt/gw-2/system", policy.ImplicitDeny},
		"retained":                       {"", self, "iot:RetainPublish", "topic/dt/gw-1/system", policy.ImplicitDeny},
		"prefix: without it":             {"acme", self, "iot:Publish", "topic/dt/gw-1/system", policy.ImplicitDeny},
		"prefix: other tenant":           {"acme", self, "iot:Publish", "topic/umbrella/dt/gw-1/system", policy.ImplicitDeny},
		"prefix: other tenant's thing":   {"acme", self, "iot:Publish", "topic/umbrella/dt/gw-9/system", policy.ImplicitDeny},
		"prefix: subscribe other tenant": {"acme", self, "iot:Subscribe", "topicfilter/umbrella/#", policy.ImplicitDeny},
		"events":                         {"", self, "iot:Publish", "topic/$aws/events/certificates/registered/x", policy.ImplicitDeny},
		"a name of wildcards":            {"", connection("*", "*"), "iot:Publish", "topic/dt/gw-2/system", policy.ImplicitDeny},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := policy.Parse([]byte(devicePolicy(testPlace(), tt.prefix).String()))
			if err != nil {
				t.Fatal(err)
			}
			got := policy.Evaluate([]*policy.Policy{p}, policy.Request{Action: tt.action, Resource: testPlace().arn("iot", tt.resource), Variables: tt.vars})
			if got != tt.want {
				t.Errorf("%s on %s: %s, want %s", tt.action, tt.resource, got, tt.want)
			}
		})
	}
}

// TestDevicePolicy_otherAccount: the ARNs are of one account and Region.
func TestDevicePolicy_otherAccount(t *testing.T) {
	p, err := policy.Parse([]byte(devicePolicy(testPlace(), "").String()))
	if err != nil {
		t.Fatal(err)
	}
	for _, elsewhere := range []Place{{Partition: "aws", Region: "us-west-2", Account: "999999999999"}, {Partition: "aws", Region: "eu-west-1", Account: "123456789012"}} {
		if got := policy.Evaluate([]*policy.Policy{p}, policy.Request{Action: "iot:Connect", Resource: elsewhere.arn("iot", "client/gw-1"), Variables: connection("gw-1", "gw-1")}); got != policy.ImplicitDeny {
			t.Errorf("%+v: %s", elsewhere, got)
		}
	}
}

// TestDevicePolicy_size: with the longest Region and prefix it is within AWS's
// limit, which policy.Parse applies.
func TestDevicePolicy_size(t *testing.T) {
	p := Place{Partition: "aws-us-gov", Region: "ap-southeast-99", Account: "123456789012"}
	segment := "01234567890123456789012345678901"
	prefix := segment + "/" + segment
	if !topicPrefix.MatchString(prefix) || topicPrefix.MatchString(prefix+"x") {
		t.Fatal("this is not the longest prefix")
	}
	doc := devicePolicy(p, prefix).String()
	if _, err := policy.Parse([]byte(doc)); err != nil {
		t.Errorf("%d characters: %v", len(doc), err)
	}
	t.Logf("at most %d of %d characters", len(doc), policy.MaxSize)
}
