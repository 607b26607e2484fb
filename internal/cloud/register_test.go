package cloud

import (
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/jitr-agent/jitr-agent/internal/certs"
)

func TestRegisterCA_modes(t *testing.T) {
	credentials(t)
	for name, tt := range map[string]struct {
		asked  Mode
		key    bool
		before Mode // in which it is registered already
		want   Mode
		err    error
	}{
		"with the key":                  {"", true, "", ModeDefault, nil},
		"DEFAULT":                       {ModeDefault, true, "", ModeDefault, nil},
		"SNI_ONLY":                      {ModeSNIOnly, false, "", ModeSNIOnly, nil},
		"SNI_ONLY with the key":         {ModeSNIOnly, true, "", ModeSNIOnly, nil},
		"without the key":               {"", false, "", "", ErrNoMode},
		"DEFAULT without the key":       {ModeDefault, false, "", "", ErrNoMode},
		"again, without the key":        {"", false, ModeDefault, ModeDefault, nil},
		"again, in the mode it has":     {"", true, ModeSNIOnly, ModeSNIOnly, nil},
		"again, in the other mode":      {ModeDefault, true, ModeSNIOnly, "", ErrOtherMode},
		"again, the other way round":    {ModeSNIOnly, false, ModeDefault, "", ErrOtherMode},
		"again, in the mode, by itself": {ModeSNIOnly, true, ModeSNIOnly, ModeSNIOnly, nil},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEmulator(t)
			ca := newCA(t)
			if tt.before != "" {
				r := ca.registration(t)
				r.Mode = tt.before
				must(t, registerCA(t.Context(), e, r))
			}
			r := ca.registration(t)
			if r.Mode = tt.asked; !tt.key {
				r.Prove = nil
			}
			calls := e.record()
			err := registerCA(t.Context(), e, r)
			if tt.err != nil {
				if !errors.Is(err, tt.err) || len(writes(calls())) > 0 {
					t.Errorf("%v, calls %v", err, writes(calls()))
				}
				return
			}
			must(t, err)
			d, err := e.account(t).ca(t.Context(), ca.id())
			must(t, err)
			if Mode(d.CertificateMode) != tt.want || d.Status != "ACTIVE" || d.AutoRegistrationStatus != "ENABLE" {
				t.Errorf("%s, %s, %s", d.CertificateMode, d.Status, d.AutoRegistrationStatus)
			}
		})
	}
}

// TestRegisterCA_bringsBack: a CA that somebody switched off is switched on,
// by one call.
func TestRegisterCA_bringsBack(t *testing.T) {
	credentials(t)
	e := newEmulator(t)
	ca := newCA(t)
	must(t, registerCA(t.Context(), e, ca.registration(t)))
	a := e.account(t)
	_, err := a.iot.UpdateCACertificate(t.Context(), &iot.UpdateCACertificateInput{CertificateId: new(ca.id()),
		NewStatus: iottypes.CACertificateStatusInactive, NewAutoRegistrationStatus: iottypes.AutoRegistrationStatusDisable})
	must(t, err)
	d, err := a.ca(t.Context(), ca.id())
	must(t, err)
	if !strings.Contains(caWarning(d), "INACTIVE and without auto-registration") {
		t.Errorf("deploy would say %q", caWarning(d))
	}
	calls := e.record()
	must(t, registerCA(t.Context(), e, ca.registration(t)))
	if w := writes(calls()); len(w) != 1 || !strings.HasPrefix(w[0], "PUT /cacertificate/") {
		t.Errorf("calls%s", join(w))
	}
	if d, err = a.ca(t.Context(), ca.id()); err != nil || caWarning(d) != "" {
		t.Errorf("%v, %v", d, err)
	}
}

// TestRegisterCA_unsuitable: what AWS would refuse is refused before any call.
func TestRegisterCA_unsuitable(t *testing.T) {
	credentials(t)
	for name, tt := range map[string]struct {
		change func(*x509.Certificate)
		want   error
		says   string
	}{
		"no CA": {func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, 0 }, certs.ErrNotCA, "CertificateValidationException"},
		"expired": {func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
		}, certs.ErrExpired, "jitrctl ca init"},
		"not yet valid": {func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }, certs.ErrNotYetValid, "clock"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEmulator(t)
			a := e.account(t)
			calls := e.record()
			_, err := a.PlanRegisterCA(t.Context(), newCA(t, tt.change).registration(t))
			if !errors.Is(err, ErrUnsuitable) || !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Error(err)
			}
			if c := calls(); len(c) > 0 {
				t.Errorf("calls%s", join(c))
			}
		})
	}
}

// TestRegisterCA_refused: AWS's own refusals have its name and a sentence.
func TestRegisterCA_refused(t *testing.T) {
	credentials(t)
	t.Run("wrong registration code", func(t *testing.T) {
		e := newEmulator(t)
		ca := newCA(t)
		r := ca.registration(t)
		r.Prove = func(string) ([]byte, error) { return toPEM(ca.device(t, strings.Repeat("00", 32)).cert), nil }
		err := registerCA(t.Context(), e, r)
		if err == nil || !strings.Contains(err.Error(), "RegistrationCodeValidationException") || !strings.Contains(err.Error(), "make a new one") {
			t.Error(err)
		}
	})
	t.Run("proof of another key", func(t *testing.T) {
		e := newEmulator(t)
		r := newCA(t).registration(t)
		r.Prove = newCA(t).prove(t)
		err := registerCA(t.Context(), e, r)
		if err == nil || !strings.Contains(err.Error(), "Exception: ") {
			t.Error(err)
		}
	})
	t.Run("registered meanwhile", func(t *testing.T) {
		e := newEmulator(t)
		ca := newCA(t)
		plan, err := e.account(t).PlanRegisterCA(t.Context(), ca.registration(t))
		must(t, err)
		must(t, registerCA(t.Context(), e, ca.registration(t)))
		err = plan.Apply(t.Context(), Progress{})
		if err == nil || !strings.Contains(err.Error(), "ResourceAlreadyExistsException") || !strings.Contains(err.Error(), "cacert/"+ca.id()) || !strings.Contains(err.Error(), "SNI_ONLY") {
			t.Error(err)
		}
	})
}

// TestConnect_refusals: where there is no account to work in.
func TestConnect_refusals(t *testing.T) {
	credentials(t)
	e := newEmulator(t)
	for name, tt := range map[string]struct {
		options Options
		env     map[string]string
		want    string
	}{
		"no Region":             {Options{Endpoint: e.url}, nil, ErrNoRegion.Error()},
		"no credentials":        {Options{Region: testRegion, Endpoint: e.url}, map[string]string{"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, ErrNoCredentials.Error()},
		"no such profile":       {Options{Region: testRegion, Endpoint: e.url, Profile: "plant"}, nil, "there is no profile plant"},
		"unreachable":           {Options{Region: testRegion, Endpoint: "http://127.0.0.1:1"}, map[string]string{"AWS_MAX_ATTEMPTS": "1"}, "cannot be reached: connection refused; check the network, --region and --endpoint-url"},
		"no such endpoint name": {Options{Region: testRegion, Endpoint: "http://nowhere.invalid"}, nil, "check the network, --region and --endpoint-url"},
	} {
		t.Run(name, func(t *testing.T) {
			for k, v := range tt.env {
				t.Setenv(k, v)
			}
			_, err := Connect(t.Context(), tt.options)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "operation error") {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

// TestWrongRegion: what is signed for another Region than the endpoint's.
func TestWrongRegion(t *testing.T) {
	credentials(t)
	e := newEmulator(t)
	a, err := Connect(t.Context(), Options{Region: "eu-west-1", Endpoint: e.url})
	must(t, err)
	_, err = a.PlanDeploy(t.Context(), choices(newCA(t)))
	if err == nil || !strings.Contains(err.Error(), "InvalidSignatureException: ") || !strings.Contains(err.Error(), "--region") {
		t.Error(err)
	}
}

// TestMissingPermission says which action on which resource, of whom.
func TestMissingPermission(t *testing.T) {
	credentials(t)
	for action, resource := range map[string]string{
		"iot:RegisterCACertificate": "*",
		"iot:CreatePolicy":          "policy/jitr-",
		"iot:CreateTopicRule":       "rule/jitr_",
		"iam:CreateRole":            "role/jitr-activator-" + testRegion,
		"iam:PassRole":              "role/jitr-activator-" + testRegion,
		"lambda:CreateFunction":     "function:jitr-activator",
		"lambda:AddPermission":      "function:jitr-activator",
		"sqs:CreateQueue":           ":jitr-activator-failed",
		"logs:CreateLogGroup":       "log-group:/aws/lambda/jitr-activator",
		"iot:DescribeCACertificate": "cacert/",
	} {
		t.Run(action, func(t *testing.T) {
			e := newEmulator(t)
			ca := newCA(t)
			e.forbid(t, action)
			err := registerCA(t.Context(), e, ca.registration(t))
			if err == nil {
				err = deploy(t.Context(), e, choices(ca))
			}
			if err == nil || !strings.Contains(err.Error(), " may not call "+action+" on ") || !strings.Contains(err.Error(), resource) || !strings.Contains(err.Error(), "allow that in an IAM policy") {
				t.Error(err)
			}
			e.forbid(t, "iot:NothingAtAll")
			must(t, registerCA(t.Context(), e, ca.registration(t)))
			must(t, deploy(t.Context(), e, choices(ca)))
		})
	}
}

// TestDeploy_notRegistered: the CA is of another Region, or nowhere.
func TestDeploy_notRegistered(t *testing.T) {
	credentials(t)
	e := newEmulator(t)
	err := deploy(t.Context(), e, choices(newCA(t)))
	if !errors.Is(err, ErrNotRegistered) || !strings.Contains(err.Error(), "ResourceNotFoundException") || !strings.Contains(err.Error(), "Region "+testRegion) {
		t.Error(err)
	}
	bad := choices(newCA(t))
	bad.CA = "cafe"
	if err := deploy(t.Context(), e, bad); !errors.Is(err, ErrBadID) {
		t.Error(err)
	}
}

func TestDeploy_ofAnotherTenant(t *testing.T) {
	credentials(t)
	e := newEmulator(t)
	ca := newCA(t)
	must(t, registerCA(t.Context(), e, ca.registration(t)))
	must(t, deploy(t.Context(), e, choices(ca)))
	c := choices(ca)
	c.Tenant = "other"
	if err := deploy(t.Context(), e, c); !errors.Is(err, ErrBadChoice) || !strings.Contains(err.Error(), "destroy --ca-id") {
		t.Error(err)
	}
}

// TestDeploy_inventoryIsNotLost: it is in the zip only.
func TestDeploy_inventoryIsNotLost(t *testing.T) {
	credentials(t)
	e := newEmulator(t)
	ca := newCA(t)
	must(t, registerCA(t.Context(), e, ca.registration(t)))
	c := choices(ca)
	c.Inventory, c.NamePattern = aws.String("inventory.txt"), aws.String("gw-[0-9]+")
	must(t, deploy(t.Context(), e, c))
	if err := deploy(t.Context(), e, choices(ca)); !errors.Is(err, ErrBadChoice) || !strings.Contains(err.Error(), "--inventory") {
		t.Error(err)
	}
	c = choices(ca)
	c.Inventory = aws.String("")
	must(t, deploy(t.Context(), e, c))
	f, err := e.account(t).function(t.Context())
	must(t, err)
	env := f.Configuration.Environment.Variables
	if env["JITR_INVENTORY"] != "" || env["JITR_NAME_PATTERN"] != "gw-[0-9]+" {
		t.Errorf("%v", env)
	}
}
