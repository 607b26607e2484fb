package policy

import (
	"strings"
	"testing"
)

const arn = "arn:aws:iot:us-west-2:123456789012:"

// leastPrivilege is the device policy that AWS recommends: everything hangs
// on the thing that the certificate is attached to.
const leastPrivilege = `{"Version":"2012-10-17","Statement":[
 {"Effect":"Allow","Action":"iot:Connect","Resource":"` + arn + `client/${iot:Connection.Thing.ThingName}",
  "Condition":{"Bool":{"iot:Connection.Thing.IsAttached":["true"]}}},
 {"Effect":"Allow","Action":["iot:Publish"],"Resource":["` + arn + `topic/dt/${iot:Connection.Thing.ThingName}/*",
  "` + arn + `topic/$aws/things/${iot:Connection.Thing.ThingName}/shadow/update"]},
 {"Effect":"Deny","Action":"iot:Pub*","Resource":"` + arn + `topic/dt/*/secret"}]}`

func attached(thing string) Variables {
	return Variables{
		"iot:Connection.Thing.ThingName":  thing,
		"iot:Connection.Thing.IsAttached": "true",
		"iot:ClientId":                    thing,
	}
}

func TestEvaluate(t *testing.T) {
	howto := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iot:Connect","iot:Publish","iot:UpdateThingShadow"],"Resource":["` + arn + `*"]}]}`
	byName := `{"Statement":{"Effect":"Allow","Action":"iot:Connect","Resource":"*","Condition":{"StringLike":{"iot:Certificate.Subject.CommonName":"gw-?"}}}}`
	notName := `{"Statement":{"Effect":"Allow","Action":"iot:Connect","Resource":"*","Condition":{"StringNotEquals":{"iot:ClientId":"gw-1"}}}}`
	self := `{"Statement":{"Effect":"Allow","Action":"iot:Connect","Resource":"*","Condition":{"StringEquals":{"iot:ClientId":"${iot:Certificate.Subject.CommonName}"}}}}`
	tests := []struct {
		name             string
		doc              string
		action, resource string
		vars             Variables
		want             Decision
	}{
		{"thing connects as itself", leastPrivilege, "iot:Connect", "client/gw-1", attached("gw-1"), Allow},
		{"thing connects as another", leastPrivilege, "iot:Connect", "client/gw-2", attached("gw-1"), ImplicitDeny},
		{"no thing: variable without value", leastPrivilege, "iot:Connect", "client/gw-1", Variables{"iot:Connection.Thing.IsAttached": "false"}, ImplicitDeny},
		{"not attached", leastPrivilege, "iot:Connect", "client/gw-1", Variables{"iot:Connection.Thing.ThingName": "gw-1", "iot:Connection.Thing.IsAttached": "false"}, ImplicitDeny},
		{"own topic", leastPrivilege, "iot:Publish", "topic/dt/gw-1/system", attached("gw-1"), Allow},
		{"own topic, deeper", leastPrivilege, "iot:Publish", "topic/dt/gw-1/a/b", attached("gw-1"), Allow},
		{"foreign topic", leastPrivilege, "iot:Publish", "topic/dt/gw-2/system", attached("gw-1"), ImplicitDeny},
		{"deny wins", leastPrivilege, "iot:Publish", "topic/dt/gw-1/secret", attached("gw-1"), ExplicitDeny},
		{"dollar topic", leastPrivilege, "iot:Publish", "topic/$aws/things/gw-1/shadow/update", attached("gw-1"), Allow},
		{"a value is no wildcard", leastPrivilege, "iot:Connect", "client/gw-1", attached("gw-*"), ImplicitDeny},
		{"subscribe not named", leastPrivilege, "iot:Subscribe", "topicfilter/dt/gw-1/x", attached("gw-1"), ImplicitDeny},
		{"how-to: publish", howto, "iot:Publish", "topic/init/x", nil, Allow},
		{"how-to: subscribe", howto, "iot:Subscribe", "topicfilter/init/x", nil, ImplicitDeny},
		{"how-to: other account", howto, "iot:Publish", "arn:aws:iot:us-west-2:999999999999:topic/x", nil, ImplicitDeny},
		{"action without regard to case", howto, "IOT:publish", "topic/x", nil, Allow},
		{"like", byName, "iot:Connect", "client/x", Variables{"iot:Certificate.Subject.CommonName": "gw-7"}, Allow},
		{"like, too long", byName, "iot:Connect", "client/x", Variables{"iot:Certificate.Subject.CommonName": "gw-77"}, ImplicitDeny},
		{"like, no value", byName, "iot:Connect", "client/x", nil, ImplicitDeny},
		{"not equals", notName, "iot:Connect", "client/x", Variables{"iot:ClientId": "gw-2"}, Allow},
		{"not equals, equal", notName, "iot:Connect", "client/x", Variables{"iot:ClientId": "gw-1"}, ImplicitDeny},
		{"condition value is a variable", self, "iot:Connect", "client/x", Variables{"iot:ClientId": "a", "iot:Certificate.Subject.CommonName": "a"}, Allow},
		{"condition value is another", self, "iot:Connect", "client/x", Variables{"iot:ClientId": "a", "iot:Certificate.Subject.CommonName": "b"}, ImplicitDeny},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := Parse([]byte(tt.doc))
			if err != nil {
				t.Fatal(err)
			}
			resource := tt.resource
			if !strings.HasPrefix(resource, "arn:") {
				resource = arn + resource
			}
			if got := Evaluate([]*Policy{p}, Request{Action: tt.action, Resource: resource, Variables: tt.vars}); got != tt.want {
				t.Errorf("%s on %s: %v, want %v", tt.action, resource, got, tt.want)
			}
		})
	}
}

func TestDenyInAnotherPolicyWins(t *testing.T) {
	allow, err := Parse([]byte(`{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	deny, err := Parse([]byte(`{"Statement":[{"Effect":"Deny","Action":"iot:Receive","Resource":"*"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, order := range [][]*Policy{{allow, deny}, {deny, allow}} {
		if got := Evaluate(order, Request{Action: "iot:Receive", Resource: arn + "topic/x"}); got != ExplicitDeny {
			t.Errorf("Receive: %v", got)
		}
		if got := Evaluate(order, Request{Action: "iot:Publish", Resource: arn + "topic/x"}); got != Allow {
			t.Errorf("Publish: %v", got)
		}
	}
	if got := Evaluate(nil, Request{Action: "iot:Publish", Resource: "x"}); got != ImplicitDeny {
		t.Errorf("no policy at all: %v", got)
	}
}

func TestGlob(t *testing.T) {
	tests := []struct {
		pattern, s string
		want       bool
	}{
		{"*", "", true},
		{"", "", true},
		{"", "a", false},
		{"a*c", "abbbc", true},
		{"a*c", "abbbcd", false},
		{"a**c", "ac", true},
		{"*a*b*", "xxaxxbxx", true},
		{"*a*b*", "xxbxxaxx", false},
		{"a?c", "abc", true},
		{"a?c", "ac", false},
		{"?", "", false},
		{"${*}", "*", true},
		{"${*}", "x", false},
		{"$x", "$x", true},
		{"*ab", "aab", true},
		{"*aab", "aaab", true},
		{"+/#", "a/b", false}, // MQTT wildcards mean nothing here
		{strings.Repeat("a*", 30) + "b", strings.Repeat("a", 2000), false},
	}
	for _, tt := range tests {
		p, err := compile(tt.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.match(tt.s, nil); got != tt.want {
			t.Errorf("%q on %q: %v", tt.pattern, tt.s, got)
		}
	}
}

func TestParseErrors(t *testing.T) {
	tests := []struct{ doc, want string }{
		{`{`, "not JSON"},
		{`{"Version":"2012-10-17"}`, "no Statement"},
		{`{"Version":"2013-01-01","Statement":[]}`, `"2013-01-01" is not known`},
		{`{"Statement":[{"Effect":"allow","Action":"*","Resource":"*"}]}`, `statement 1: the Effect is "allow"`},
		{`{"Statement":[{"Effect":"Allow","Resource":"*"}]}`, "Action is missing"},
		{`{"Statement":[{"Effect":"Allow","Action":[],"Resource":"*"}]}`, "Action is missing"},
		{`{"Statement":[{"Effect":"Allow","Action":[3],"Resource":"*"}]}`, "Action holds 3"},
		{`{"Statement":[{"Effect":"Allow","Action":"s3:Get","Resource":"*"}]}`, `"s3:Get" is not one of AWS IoT`},
		{`{"Statement":[{"Effect":"Allow","Action":"*","Resource":"topic/x"}]}`, "neither * nor an ARN"},
		{`{"Statement":[{"Effect":"Allow","Action":"*","Resource":"arn:${x"}]}`, `the Resource "arn:${x": "${x" has no closing brace`},
		{`{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Principal":"*"}]}`, "Principal"},
		{`{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Allow","NotAction":"*","Resource":"*"}]}`, "statement 2"},
		{`{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":"1"}}}]}`, `"IpAddress" is not known`},
		{`{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"Bool":{"iot:Connection.Thing.IsAttached":"yes"}}}]}`, `not "yes"`},
		{`{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"ClientId":"x"}}}]}`, `"ClientId" is not known`},
		{`{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]} {}`, "behind the closing brace"},
		{`{"Statement":[{"Effect":"Allow","Action":"*","Resource":"arn:` + strings.Repeat("x", MaxSize) + `"}]}`, "longer than 2048"},
	}
	for _, tt := range tests {
		if _, err := Parse([]byte(tt.doc)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.80s: error %v, want %q in it", tt.doc, err, tt.want)
		}
	}
}

// What a trust policy speaks of is its role.
func TestTrustHasNoResource(t *testing.T) {
	const trust = `{"Statement":{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"`
	if _, err := ParseTrust([]byte(trust + `}}`)); err != nil {
		t.Error(err)
	}
	if _, err := ParseTrust([]byte(trust + `,"Resource":"*"}}`)); err == nil || !strings.Contains(err.Error(), "statement 1: has prohibited field Resource") {
		t.Errorf("with a Resource: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(leastPrivilege))
	f.Fuzz(func(t *testing.T, doc []byte) {
		p, err := Parse(doc)
		if err != nil {
			return
		}
		Evaluate([]*Policy{p}, Request{Action: "iot:Connect", Resource: arn + "client/x", Variables: attached("x")})
	})
}
