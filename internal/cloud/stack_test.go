package cloud

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/jitr-agent/jitr-agent/internal/activation"
)

var (
	caA = strings.Repeat("a1", 32)
	caB = strings.Repeat("b2", 32)
)

func stackOf(t *testing.T, s Spec) *Stack {
	t.Helper()
	if s.Arch == "" {
		s.Arch = "arm64"
	}
	st, err := NewStack(testPlace(), s)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// TestNewStack_tenants: each CA has a rule and a policy of its own, and one
// function knows them all.
func TestNewStack_tenants(t *testing.T) {
	st := stackOf(t, Spec{Tenants: []Tenant{{CA: caB, Name: "umbrella", Prefix: "umb"}, {CA: caA, Name: "acme"}}})
	var rules, policies []string
	for _, r := range st.Rules {
		rules = append(rules, r.Name+" "+r.SQL)
	}
	for _, p := range st.Policies {
		policies = append(policies, p.Name)
	}
	want := []string{
		"jitr_a1a1a1a1a1a1 SELECT * FROM '$aws/events/certificates/registered/" + caA + "' WHERE certificateStatus = 'PENDING_ACTIVATION'",
		"jitr_b2b2b2b2b2b2 SELECT * FROM '$aws/events/certificates/registered/" + caB + "' WHERE certificateStatus = 'PENDING_ACTIVATION'",
		"jitr_init " + activation.InitSQL("init/+"),
		initRuleName("umb") + " " + activation.InitSQL("umb/init/+"),
	}
	if join(rules) != join(want) {
		t.Errorf("%s\nwant%s", join(rules), join(want))
	}
	if join(policies) != join([]string{"jitr-acme", "jitr-umbrella"}) {
		t.Error(policies)
	}
	got, err := activation.FromEnvironment(func(name string) string { return st.Function.Environment[name] })
	if err != nil || got.Policies[caA] != "jitr-acme" || got.Policies[caB] != "jitr-umbrella" || len(got.Policies) != 2 || got.Account != testPlace().Account {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestNewStack_successor: two CAs of one tenant have one policy.
func TestNewStack_successor(t *testing.T) {
	st := stackOf(t, Spec{Tenants: []Tenant{{CA: caA, Name: "acme"}, {CA: caB, Name: "acme"}}})
	if len(st.Policies) != 1 || len(st.Rules) != 3 {
		t.Errorf("%d policies, %d rules", len(st.Policies), len(st.Rules))
	}
}

// TestNewStack_leastPrivilege: nothing in the function's role is for all
// resources but what has no resource types, and nothing is a wildcard action.
func TestNewStack_leastPrivilege(t *testing.T) {
	noTypes := map[string]bool{}
	for _, p := range activation.Permissions() {
		if p.Resources[0] == "*" {
			noTypes[p.Action] = true
		}
	}
	for _, queue := range []bool{false, true} {
		st := stackOf(t, Spec{Tenants: []Tenant{{CA: caA, Name: "acme"}}, Queue: queue})
		for _, r := range st.Roles {
			for _, s := range r.Policy.Statement {
				for _, action := range s.Action {
					if strings.Contains(action, "*") {
						t.Errorf("%s: %s is a wildcard", r.Name, action)
					}
					for _, resource := range s.Resource {
						if resource == "*" && !noTypes[action] {
							t.Errorf("%s: %s on everything", r.Name, action)
						}
						if resource != "*" && !strings.Contains(resource, ":"+testPlace().Region+":"+testPlace().Account+":") {
							t.Errorf("%s: %s on %s, which is not of this account and Region", r.Name, action, resource)
						}
					}
				}
			}
		}
		reads := strings.Contains(st.Roles[0].Policy.String(), "sqs:ReceiveMessage")
		if reads != queue {
			t.Errorf("queue %v: the function may read it: %v", queue, reads)
		}
	}
}

func TestNewStack_refuses(t *testing.T) {
	for name, tt := range map[string]struct {
		spec Spec
		want string
	}{
		"architecture":      {Spec{Arch: "sparc", Tenants: []Tenant{{CA: caA, Name: "a"}}}, "none of arm64, x86_64"},
		"tenant's name":     {Spec{Arch: "arm64", Tenants: []Tenant{{CA: caA, Name: "a b"}}}, "1 to 64 of"},
		"no name":           {Spec{Arch: "arm64", Tenants: []Tenant{{CA: caA}}}, "1 to 64 of"},
		"prefix with a #":   {Spec{Arch: "arm64", Tenants: []Tenant{{CA: caA, Name: "a", Prefix: "#"}}}, "topic prefix"},
		"prefix with a *":   {Spec{Arch: "arm64", Tenants: []Tenant{{CA: caA, Name: "a", Prefix: "a*"}}}, "topic prefix"},
		"prefix of AWS":     {Spec{Arch: "arm64", Tenants: []Tenant{{CA: caA, Name: "a", Prefix: "$aws"}}}, "topic prefix"},
		"prefix dt":         {Spec{Arch: "arm64", Tenants: []Tenant{{CA: caA, Name: "a", Prefix: "dt"}}}, "segment dt"},
		"prefix with init":  {Spec{Arch: "arm64", Tenants: []Tenant{{CA: caA, Name: "a", Prefix: "acme/init"}}}, "segment init"},
		"prefix too deep":   {Spec{Arch: "arm64", Tenants: []Tenant{{CA: caA, Name: "a", Prefix: "a/b/c"}}}, "topic prefix"},
		"two prefixes":      {Spec{Arch: "arm64", Tenants: []Tenant{{CA: caA, Name: "a", Prefix: "x"}, {CA: caB, Name: "a", Prefix: "y"}}}, "cannot have both"},
		"names would clash": {Spec{Arch: "arm64", Tenants: []Tenant{{CA: caA, Name: "a"}, {CA: caA[:12] + caB[12:], Name: "b"}}}, "same first 12 digits"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := NewStack(testPlace(), tt.spec); !errors.Is(err, ErrBadChoice) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

// TestDocument_sameAs: AWS gives documents back in its own form.
func TestDocument_sameAs(t *testing.T) {
	d := trust("lambda.amazonaws.com", nil)
	var pretty strings.Builder
	enc := json.NewEncoder(&pretty)
	enc.SetIndent("", "    ")
	if err := enc.Encode(d); err != nil {
		t.Fatal(err)
	}
	for name, stored := range map[string]string{
		"reformatted": pretty.String(),
		"URL-encoded": "%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%5B%7B%22Effect%22%3A%22Allow%22%2C%22Principal%22%3A%7B%22Service%22%3A%22lambda.amazonaws.com%22%7D%2C%22Action%22%3A%5B%22sts%3AAssumeRole%22%5D%7D%5D%7D",
	} {
		if !d.sameAs(stored) {
			t.Errorf("%s: taken for another document", name)
		}
	}
	if d.sameAs(trust("iot.amazonaws.com", nil).String()) || d.sameAs("") {
		t.Error("another document was taken for the same")
	}
}
