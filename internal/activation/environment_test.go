package activation

import (
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
)

var (
	caA = strings.Repeat("a", 64)
	caB = strings.Repeat("b", 64)
)

func from(env map[string]string) (Config, error) {
	return FromEnvironment(func(name string) string { return env[name] })
}

// What deploy writes is what the function reads.
func TestEnvironment(t *testing.T) {
	for name, c := range map[string]Config{
		"least": {Policies: map[string]string{caA: "p"}},
		"all": {
			Policies: map[string]string{caA: "a=,.@+-_", caB: "p"}, Account: "123456789012", ThingName: FromSerialNumber,
			ExclusiveThing: true, NamePattern: `gw-\d{4} ?`, Inventory: "inventory.txt",
			CRLs: []string{"a.crl", "https://example.com/b.crl"}, QuotaPercent: 250,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := from(c.Environment())
			if err != nil {
				t.Fatal(err)
			}
			if len(got.CRLs) == 0 {
				got.CRLs = nil
			}
			if !reflect.DeepEqual(got, c) {
				t.Errorf("it came back as %+v; want %+v", got, c)
			}
			var environ []string
			for k, v := range c.Environment() {
				environ = append(environ, k+"="+v)
			}
			if err := UnknownVariables(append(environ, "PATH=/bin", "AWS_REGION=x")); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestFromEnvironment_refuses(t *testing.T) {
	good := map[string]string{envPolicies: caA + "=p"}
	for name, tt := range map[string]struct {
		env  map[string]string
		want []string
	}{
		"nothing":          {map[string]string{envPolicies: ""}, []string{"JITR_CA_POLICIES: it names no CA"}},
		"no policy":        {map[string]string{envPolicies: caA}, []string{`JITR_CA_POLICIES: "` + caA + `" is not CAID=POLICY`, "it names no CA"}},
		"empty policy":     {map[string]string{envPolicies: caA + "="}, []string{`JITR_CA_POLICIES: "" is not the name of a policy`}},
		"no id":            {map[string]string{envPolicies: "AA=p"}, []string{`JITR_CA_POLICIES: "AA" is not the certificateId of a CA`}},
		"twice":            {map[string]string{envPolicies: caA + "=p " + caA + "=q"}, []string{"the CA " + caA + " is there twice"}},
		"account":          {map[string]string{envAccount: "12345"}, []string{`JITR_ACCOUNT: "12345" is not an AWS account id`}},
		"thing name":       {map[string]string{envThingName: "hostname"}, []string{`JITR_THING_NAME: "hostname" is none of`}},
		"exclusive":        {map[string]string{envExclusiveThing: "yes"}, []string{`JITR_EXCLUSIVE_THING: "yes" is neither true nor false`}},
		"pattern":          {map[string]string{envNamePattern: "gw-("}, []string{"JITR_NAME_PATTERN: "}},
		"CRL over http":    {map[string]string{envCRLs: "http://example.com/crl"}, []string{"JITR_CRLS: "}},
		"quota, none":      {map[string]string{envQuotaPercent: "0"}, []string{`JITR_QUOTA_PERCENT: "0" is not a number`}},
		"quota, too large": {map[string]string{envQuotaPercent: "10001"}, []string{"JITR_QUOTA_PERCENT: 10001 is not between"}},
		"several at once":  {map[string]string{envAccount: "x", envNamePattern: "("}, []string{"JITR_ACCOUNT: ", "JITR_NAME_PATTERN: "}},
	} {
		t.Run(name, func(t *testing.T) {
			env := maps.Clone(good)
			maps.Copy(env, tt.env)
			_, err := from(env)
			if !errors.Is(err, ErrBadConfig) {
				t.Fatalf("the error is %v", err)
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(tt.want) {
				t.Errorf("the error has %d lines; want %d: %v", len(lines), len(tt.want), err)
			}
			for i, want := range tt.want {
				if i < len(lines) && !strings.Contains(lines[i], want) {
					t.Errorf("line %d is %q; want %q", i+1, lines[i], want)
				}
			}
		})
	}
	if _, err := from(good); err != nil {
		t.Errorf("the control: %v", err)
	}
	if err := UnknownVariables([]string{"JITR_NAMEPATTERN=x"}); !errors.Is(err, ErrBadConfig) || !strings.Contains(err.Error(), "JITR_NAMEPATTERN") {
		t.Errorf("of an unknown variable it says %v", err)
	}
}

func TestNew_refusesFiles(t *testing.T) {
	for name, c := range map[string]Config{
		"no inventory":     {Inventory: "/nonexistent"},
		"empty inventory":  {Inventory: "/dev/null"},
		"no CRL":           {CRLs: []string{"/nonexistent"}},
		"CRL that is none": {CRLs: []string{"/dev/null"}},
	} {
		c.Policies = map[string]string{caA: "p"}
		if _, err := New(c, nil, nil); !errors.Is(err, ErrBadConfig) {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
}

func TestParseInventory(t *testing.T) {
	for name, tt := range map[string]struct {
		data, wrong string // wrong: the error
		want        []string
	}{
		"names and ids":       {data: "gw-1\n" + caA + "\n", want: []string{caA, "gw-1"}},
		"comments and blanks": {data: "# all\n\n  gw-1 # the first\r\ngw-2", want: []string{"gw-1", "gw-2"}},
		"two in a line":       {data: "gw-1\ngw-2 gw-3\n", wrong: `list.txt, line 2: "gw-2 gw-3" is neither a thing name nor a certificateId`},
		"nothing":             {data: "# none\n", wrong: "list.txt names no gateway"},
		"a binary file":       {data: strings.Repeat("\x00", 1<<20), wrong: `list.txt, line 1: "\x00`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseInventory("list.txt", []byte(tt.data))
			if tt.wrong != "" {
				if err == nil || !strings.HasPrefix(err.Error(), tt.wrong) || len(err.Error()) > 2000 {
					t.Errorf("the error is %v", err)
				}
				return
			}
			if err != nil || !slices.Equal(slices.Sorted(maps.Keys(got)), tt.want) {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}
