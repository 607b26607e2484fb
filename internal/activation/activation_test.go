package activation_test

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/jitr-agent/jitr-agent/internal/activation"
	at "github.com/jitr-agent/jitr-agent/internal/activation/activationtest"
	"github.com/jitr-agent/jitr-agent/internal/certs"
)

// One call of each kind, ACTIVE last, and nothing for a duplicate.
func TestActivate(t *testing.T) {
	r := newRig(t)
	g := r.ca.Issue(t, "gw-1")
	event := r.Connect(t, g)
	var order []string
	r.wire.before = func(_ int, op string, _ *http.Request) (*http.Response, error) {
		order = append(order, op)
		return nil, nil
	}
	a := r.function()
	handle(t, a, event)
	r.wantActivated(g)
	if want := []string{"DescribeCertificate", "CreateThing", "AttachThingPrincipal", "AttachPolicy", "UpdateCertificate"}; !slices.Equal(order, want) {
		t.Errorf("the calls were %v; want %v", order, want)
	}
	line := r.result()
	if line["result"] != "activated" || line["thing"] != "gw-1" || line["certificateId"] != g.ID || line["caCertificateId"] != r.ca.ID {
		t.Errorf("the log says %v", line)
	}

	order = nil
	handle(t, a, event)
	handle(t, a, moved(t, event, 30*time.Second)) // sent before the new status had reached every node
	if len(order) > 0 {
		t.Errorf("duplicates cost %v", order)
	}
	// Another instance finds out with one call.
	handle(t, r.function(), event)
	if !slices.Equal(order, []string{"DescribeCertificate"}) || r.result()["result"] != "already-active" {
		t.Errorf("another instance made the calls %v, and says %v", order, r.result())
	}
}

func TestActivate_thingOptions(t *testing.T) {
	r := newRig(t)
	g := r.ca.Issue(t, "x", func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: "not a name", SerialNumber: "SN-7"} })
	event := r.Connect(t, g)
	r.cfg.ThingName, r.cfg.ExclusiveThing = activation.FromSerialNumber, true
	var kinds []string
	r.wire.before = func(_ int, op string, req *http.Request) (*http.Response, error) {
		if op == "AttachThingPrincipal" {
			kinds = append(kinds, req.URL.Query().Get("thingPrincipalType"))
		}
		return nil, nil
	}
	handle(t, r.function(), event)
	if got := r.look(g.ID); !got.Activated("SN-7", policyName) {
		t.Errorf("the registry says %+v", got)
	}
	if !slices.Equal(kinds, []string{"EXCLUSIVE_THING"}) {
		t.Errorf("thingPrincipalType was %v", kinds)
	}
	byID := r.ca.Issue(t, "not a name either")
	event = r.Connect(t, byID)
	r.cfg.ThingName = activation.FromCertificateID
	handle(t, r.function(), event)
	if got := r.look(byID.ID); !got.Activated(byID.ID, policyName) {
		t.Errorf("the registry says %+v", got)
	}
}

// A renewal: two principals on one thing, by the same five calls.
func TestActivate_renewal(t *testing.T) {
	r := newRig(t)
	first, second := r.ca.Issue(t, "gw-1"), r.ca.Issue(t, "gw-1")
	a := r.function()
	handle(t, a, r.Connect(t, first))
	r.wire.took()
	handle(t, a, r.Connect(t, second))
	r.wantActivated(first)
	r.wantActivated(second)
	if calls := r.wire.took(); total(calls) != 5 {
		t.Errorf("the renewal took %v", calls)
	}
}

// Two CAs with the same policy are one tenant; the second follows the first.
func TestActivate_successorOfACA(t *testing.T) {
	r := newRig(t)
	next := r.NewCA(t, "Acme device CA 2")
	r.cfg.Policies[next.ID] = policyName
	a := r.function()
	handle(t, a, r.Connect(t, r.ca.Issue(t, "gw-1")))
	g := next.Issue(t, "gw-1")
	handle(t, a, r.Connect(t, g))
	r.wantActivated(g)
}

// A thing of the operator's own with further attributes, handed to the CA.
func TestActivate_thingMadeBefore(t *testing.T) {
	r := newRig(t)
	r.makeThing(map[string]string{activation.OwnerAttribute: r.ca.ID, "site": "north"})
	g := r.ca.Issue(t, "gw-1")
	handle(t, r.function(), r.Connect(t, g))
	r.wantActivated(g)
}

// makeThing makes the thing gw-1.
func (r *rig) makeThing(attributes map[string]string) {
	r.t.Helper()
	_, err := r.Client(nil).CreateThing(r.t.Context(), &iot.CreateThingInput{
		ThingName: aws.String("gw-1"), AttributePayload: &types.AttributePayload{Attributes: attributes},
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

func TestActivate_refuses(t *testing.T) {
	file := func(t *testing.T, content []byte) string {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, tt := range map[string]struct {
		gateway string
		change  func(*x509.Certificate)
		set     func(*testing.T, *rig, at.Gateway)
		why     string
	}{
		"no common name":      {gateway: "", why: "it has no common name"},
		"common name no name": {gateway: "gw 1", why: `its common name "gw 1" cannot name a thing`},
		"name not allowed": {
			gateway: "gw-1x", set: func(_ *testing.T, r *rig, _ at.Gateway) { r.cfg.NamePattern = `gw-\d+` },
			why: `its name gw-1x is not one of those that are allowed, gw-\d+`,
		},
		"not in the inventory": {
			gateway: "gw-1", set: func(t *testing.T, r *rig, _ at.Gateway) { r.cfg.Inventory = file(t, []byte("# ours\ngw-2\n")) },
			why: "neither its name gw-1 nor its certificateId is in the inventory",
		},
		"on the CRL": {
			gateway: "gw-1", set: func(t *testing.T, r *rig, g at.Gateway) {
				r.cfg.CRLs = []string{file(t, r.ca.CRL(t, time.Now().Add(time.Hour), g))}
			},
			why: "its CA revoked it at ",
		},
		"a CA certificate": {
			gateway: "gw-1", change: func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true },
			why: "it is a CA certificate",
		},
		"for servers only": {
			gateway: "gw-1", change: func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} },
			why: "its extended key usage does not have clientAuth",
		},
		"thing of another CA": {
			gateway: "gw-1", set: func(_ *testing.T, r *rig, _ at.Gateway) {
				r.makeThing(map[string]string{activation.OwnerAttribute: strings.Repeat("b", 64)})
			},
			why: "the thing gw-1 belongs to another CA, " + strings.Repeat("b", 64),
		},
		"thing of nobody's": {
			gateway: "gw-1", set: func(_ *testing.T, r *rig, _ at.Gateway) { r.makeThing(map[string]string{"site": "north"}) },
			why: "the thing gw-1 exists and does not say which CA it belongs to",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			change := tt.change
			if change == nil {
				change = func(*x509.Certificate) {}
			}
			g := r.ca.Issue(t, tt.gateway, change)
			event := r.Connect(t, g)
			// The negative control: without what is wrong with it, it is let in.
			if tt.set != nil {
				ok := r.ca.Issue(t, "control")
				handle(t, r.function(), r.Connect(t, ok))
				if got := r.look(ok.ID); !got.Activated("control", policyName) {
					t.Fatalf("the control is %+v", got)
				}
				tt.set(t, r, g)
			}
			a := r.function()
			handle(t, a, event)
			got := r.look(g.ID)
			if got.Status != types.CertificateStatusInactive || len(got.Things)+len(got.Policies) > 0 {
				t.Errorf("the registry says %+v; want INACTIVE, no thing and no policy", got)
			}
			line := r.result()
			if why, _ := line["why"].(string); line["result"] != "refused" || !strings.HasPrefix(why, tt.why) {
				t.Errorf("the log says %v; want %q", line, tt.why)
			}
			r.wire.took()
			handle(t, a, event)
			if calls := r.wire.took(); total(calls) > 0 {
				t.Errorf("a duplicate of it took %v", calls)
			}
		})
	}
}

// The certificate of one tenant does not get the thing of another's, nor its
// policy, and the other goes on undisturbed.
func TestActivate_otherTenant(t *testing.T) {
	r := newRig(t)
	r.CreatePolicy(t, "others")
	other := r.NewCA(t, "Evil device CA")
	r.cfg.Policies[other.ID] = "others"
	a := r.function()
	ours, theirs, own := r.ca.Issue(t, "gw-1"), other.Issue(t, "gw-1"), other.Issue(t, "gw-2")
	handle(t, a, r.Connect(t, ours))
	handle(t, a, r.Connect(t, theirs))
	handle(t, a, r.Connect(t, own))
	r.wantActivated(ours)
	if got := r.look(theirs.ID); got.Status != types.CertificateStatusInactive || len(got.Things)+len(got.Policies) > 0 {
		t.Errorf("the other tenant's certificate: %+v", got)
	}
	if got := r.look(own.ID); !got.Activated("gw-2", "others") {
		t.Errorf("the other tenant's own: %+v", got)
	}
}

// What is not ours to decide stays as it is, and is not tried again.
func TestActivate_leavesAlone(t *testing.T) {
	setTo := func(s types.CertificateStatus) func(*rig, at.Gateway, json.RawMessage) json.RawMessage {
		return func(r *rig, g at.Gateway, event json.RawMessage) json.RawMessage {
			_, err := r.Client(nil).UpdateCertificate(r.t.Context(), &iot.UpdateCertificateInput{CertificateId: &g.ID, NewStatus: s})
			if err != nil {
				r.t.Fatal(err)
			}
			return event
		}
	}
	replace := func(old, young string) func(*rig, at.Gateway, json.RawMessage) json.RawMessage {
		return func(_ *rig, _ at.Gateway, event json.RawMessage) json.RawMessage {
			return json.RawMessage(strings.ReplaceAll(string(event), old, young))
		}
	}
	for name, tt := range map[string]struct {
		set    func(*rig, at.Gateway, json.RawMessage) json.RawMessage
		status types.CertificateStatus
		result string
		calls  int
	}{
		"ACTIVE":   {setTo(types.CertificateStatusActive), types.CertificateStatusActive, "already-active", 1},
		"REVOKED":  {setTo(types.CertificateStatusRevoked), types.CertificateStatusRevoked, "stopped", 1},
		"INACTIVE": {setTo(types.CertificateStatusInactive), types.CertificateStatusInactive, "stopped", 1},
		"unknown CA": {func(r *rig, _ at.Gateway, event json.RawMessage) json.RawMessage {
			r.cfg.Policies = map[string]string{strings.Repeat("a", 64): policyName}
			return event
		}, types.CertificateStatusPendingActivation, "unknown-ca", 0},
		// Whoever may invoke the function cannot choose the tenant.
		"event that lies about the CA": {func(r *rig, _ at.Gateway, event json.RawMessage) json.RawMessage {
			r.cfg.Policies = map[string]string{strings.Repeat("a", 64): policyName}
			return json.RawMessage(strings.ReplaceAll(string(event), r.ca.ID, strings.Repeat("a", 64)))
		}, types.CertificateStatusPendingActivation, "unknown-ca", 1},
		"another account": {replace("123456789012", "210987654321"), types.CertificateStatusPendingActivation, "unknown-ca", 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			g := r.ca.Issue(t, "gw-1")
			event := tt.set(r, g, r.Connect(t, g))
			handle(t, r.function(), event)
			if got := r.look(g.ID); got.Status != tt.status || len(got.Things)+len(got.Policies) > 0 {
				t.Errorf("the registry says %+v; want %s and nothing attached", got, tt.status)
			}
			if line := r.result(); line["result"] != tt.result {
				t.Errorf("the log says %v; want %s", line, tt.result)
			}
			if calls := r.wire.took(); total(calls) != tt.calls {
				t.Errorf("it took %v; want %d calls", calls, tt.calls)
			}
		})
	}
}

// A certificate that was deleted is no error; registered once more by its
// gateway it is activated again, though the function remembers it.
func TestActivate_registeredAgain(t *testing.T) {
	r := newRig(t)
	g := r.ca.Issue(t, "gw-1")
	event := r.Connect(t, g)
	a := r.function()
	handle(t, a, event)
	r.wantActivated(g)

	api, ctx := r.Client(nil), t.Context()
	arn := aws.String("arn:aws:iot:us-east-1:123456789012:cert/" + g.ID)
	for _, err := range []error{
		errOf(api.UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: &g.ID, NewStatus: types.CertificateStatusInactive})),
		errOf(api.DetachPolicy(ctx, &iot.DetachPolicyInput{PolicyName: aws.String(policyName), Target: arn})),
		errOf(api.DetachThingPrincipal(ctx, &iot.DetachThingPrincipalInput{ThingName: aws.String("gw-1"), Principal: arn})),
		errOf(api.DeleteCertificate(ctx, &iot.DeleteCertificateInput{CertificateId: &g.ID})),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	handle(t, r.function(), event)
	if line := r.result(); line["result"] != "stopped" {
		t.Errorf("of a deleted certificate the log says %v", line)
	}
	again := r.Connect(t, g)
	handle(t, a, moved(t, again, 2*time.Minute))
	r.wantActivated(g)
}

func errOf[T any](_ T, err error) error { return err }

// What may heal refuses nobody, is an error, and is not remembered.
func TestActivate_errorsHeal(t *testing.T) {
	file := filepath.Join(t.TempDir(), "crl.pem")
	for name, tt := range map[string]struct {
		set  func(*rig)
		heal func(*rig)
		want string
	}{
		"the policy does not exist": {
			set:  func(r *rig) { r.cfg.Policies[r.ca.ID] = "not-yet" },
			heal: func(r *rig) { r.CreatePolicy(r.t, "not-yet") },
			want: "attach the policy not-yet: it does not exist; make it with jitrctl cloud deploy",
		},
		"the CRL has ended": {
			set: func(r *rig) {
				writeFile(r.t, file, r.ca.CRL(r.t, time.Now().Add(-time.Minute)))
				r.cfg.CRLs = []string{file}
			},
			heal: func(r *rig) { writeFile(r.t, file, r.ca.CRL(r.t, time.Now().Add(time.Hour))) },
			want: file + " was good until ",
		},
		"the CRL is another CA's": {
			set: func(r *rig) {
				// Of the same name, which is what a forger would take.
				writeFile(r.t, file, r.NewCA(r.t, "Acme device CA").CRL(r.t, time.Now().Add(time.Hour)))
				r.cfg.CRLs = []string{file}
			},
			heal: func(r *rig) { writeFile(r.t, file, r.ca.CRL(r.t, time.Now().Add(time.Hour))) },
			want: "no current CRL in JITR_CRLS is signed by the CA ",
		},
		"a call is not allowed": {
			set: func(r *rig) {
				r.wire.before = func(_ int, op string, req *http.Request) (*http.Response, error) {
					if op == "CreateThing" {
						return at.Refused(req, "AccessDeniedException"), nil
					}
					return nil, nil
				}
			},
			heal: func(r *rig) { r.wire.before = nil },
			want: "create the thing gw-1: ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			g := r.ca.Issue(t, "gw-1")
			event := r.Connect(t, g)
			tt.set(r)
			a := r.function()
			_, err := a.Handle(t.Context(), event)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("the error is %v; want %q", err, tt.want)
			}
			if line := r.result(); line["result"] != "failed" {
				t.Errorf("the log says %v", line)
			}
			if got := r.look(g.ID); got.Status != types.CertificateStatusPendingActivation {
				t.Errorf("the registry says %+v; want PENDING_ACTIVATION", got)
			}
			tt.heal(r)
			if len(r.cfg.CRLs) > 0 {
				a = r.function() // the file is read when it starts
			}
			handle(t, a, event)
			if got := r.look(g.ID); !got.Activated("gw-1", r.cfg.Policies[r.ca.ID]) {
				t.Errorf("healed, the registry says %+v", got)
			}
		})
	}
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// The operator's second thought, and what it does not override.
func TestActivate_again(t *testing.T) {
	r := newRig(t)
	now := time.Now()
	register := func(name string, change func(*x509.Certificate)) at.Gateway {
		g := r.ca.Issue(t, name, change)
		_, err := r.Client(nil).RegisterCertificate(t.Context(), &iot.RegisterCertificateInput{
			CertificatePem: aws.String(string(certs.EncodeChain([]*x509.Certificate{g.Leaf}))), Status: types.CertificateStatusInactive,
		})
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	for name, tt := range map[string]struct {
		change func(*x509.Certificate)
		want   activation.Outcome
	}{
		"good":      {func(*x509.Certificate) {}, activation.Activated},
		"expired":   {func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Hour) }, activation.Refused},
		"too-early": {func(c *x509.Certificate) { c.NotBefore = now.Add(time.Hour) }, activation.NotYetValid},
	} {
		t.Run(name, func(t *testing.T) {
			g := register(name, tt.change)
			a := r.function()
			if res, err := a.Activate(t.Context(), activation.Request{CertificateID: g.ID}); err != nil || res.Outcome != activation.Stopped {
				t.Errorf("without Again: %+v, %v; want stopped", res, err)
			}
			res, err := a.Activate(t.Context(), activation.Request{CertificateID: g.ID, Again: true})
			if err != nil || res.Outcome != tt.want {
				t.Errorf("with Again: %+v, %v; want %s", res, err, tt.want)
			}
			if active := r.look(g.ID).Status == types.CertificateStatusActive; active != (tt.want == activation.Activated) {
				t.Errorf("ACTIVE is %t", active)
			}
		})
	}
}

// Whatever call is the last one that the function makes, carried out or not, a
// new instance completes the work; and at no moment is a certificate ACTIVE
// without its thing and its policy.
func TestInterrupted(t *testing.T) {
	scenes := map[string]struct {
		set  func(r *rig) (at.Gateway, json.RawMessage)
		done func(r *rig, g at.Gateway) error
	}{
		"activation": {
			func(r *rig) (at.Gateway, json.RawMessage) {
				g := r.ca.Issue(r.t, "gw-1")
				return g, r.Connect(r.t, g)
			},
			func(r *rig, g at.Gateway) error { return wantOf(r.look(g.ID).Activated("gw-1", policyName)) },
		},
		"activation on a thing that was there": {
			func(r *rig) (at.Gateway, json.RawMessage) {
				r.makeThing(map[string]string{activation.OwnerAttribute: r.ca.ID, "site": "north"})
				g := r.ca.Issue(r.t, "gw-1")
				return g, r.Connect(r.t, g)
			},
			func(r *rig, g at.Gateway) error { return wantOf(r.look(g.ID).Activated("gw-1", policyName)) },
		},
		"refusal": {
			func(r *rig) (at.Gateway, json.RawMessage) {
				g := r.ca.Issue(r.t, "no name")
				return g, r.Connect(r.t, g)
			},
			func(r *rig, g at.Gateway) error {
				return wantOf(r.look(g.ID).Status == types.CertificateStatusInactive)
			},
		},
		"replacement": {
			func(r *rig) (at.Gateway, json.RawMessage) {
				old, young := r.ca.Issue(r.t, "gw-1"), r.ca.Issue(r.t, "gw-1")
				handle(r.t, r.function(), r.Connect(r.t, old))
				handle(r.t, r.function(), r.Connect(r.t, young))
				return old, initMessage("gw-1", young.ID, young.ID, old.ID)
			},
			func(r *rig, g at.Gateway) error {
				return wantOf(r.look(g.ID).Status == types.CertificateStatusInactive)
			},
		},
	}
	points := 0
	for _, name := range slices.Sorted(maps.Keys(scenes)) {
		sc := scenes[name]
		for _, carriedOut := range []bool{false, true} {
			for k := 1; ; k++ {
				t.Run(fmt.Sprintf("%s/call %d, carried out %t", name, k, carriedOut), func(t *testing.T) {
					r := newRig(t)
					g, event := sc.set(r)
					r.wire.took()
					ctx, kill := context.WithCancel(t.Context())
					defer kill()
					cut := func(nth int) error {
						if nth < k {
							return nil
						}
						kill()
						return ctx.Err()
					}
					if carriedOut {
						r.wire.after = func(nth int, _ string) error { return cut(nth) }
					} else {
						r.wire.before = func(nth int, _ string, _ *http.Request) (*http.Response, error) { return nil, cut(nth) }
					}
					_, err := r.function().Handle(ctx, event)
					r.wire.before, r.wire.after = nil, nil
					if ctx.Err() == nil {
						k = 0 // there is no such call: all points of this scene are done
						return
					}
					points++
					if err == nil {
						t.Error("the interrupted function says that it is done")
					}
					if got := r.look(g.ID); name != "replacement" && got.Status == types.CertificateStatusActive && !got.Activated("gw-1", policyName) {
						t.Errorf("ACTIVE too early: %+v", got)
					}
					handle(t, r.function(), event)
					if err := sc.done(r, g); err != nil {
						t.Errorf("it was not completed: %v, %+v", err, r.look(g.ID))
					}
				})
				if k == 0 {
					break
				}
			}
		}
	}
	t.Logf("interrupted at %d points", points)
	// Calls without an interruption: 5, 6, 2 and 4, each cut before and after.
	if want := 2 * (5 + 6 + 2 + 4); points != want {
		t.Errorf("interrupted at %d points; want %d", points, want)
	}
}

func wantOf(ok bool) error {
	if !ok {
		return errors.New("the registry has something else")
	}
	return nil
}

// 200 events of 4 certificates at once, and AWS throttles every second call:
// each certificate is paid for once by the instance, and all succeed.
func TestConcurrentDuplicates(t *testing.T) {
	const events, certificates = 200, 4
	r := newRig(t)
	var gateways []at.Gateway
	var payloads []json.RawMessage
	for i := range certificates {
		g := r.ca.Issue(t, fmt.Sprintf("gw-%d", i))
		gateways, payloads = append(gateways, g), append(payloads, r.Connect(t, g))
	}
	var mu sync.Mutex
	seen, throttled := map[string]int{}, 0
	r.wire.before = func(_ int, op string, req *http.Request) (*http.Response, error) {
		mu.Lock()
		defer mu.Unlock()
		seen[op]++
		if seen[op]%2 == 1 {
			throttled++
			return at.Refused(req, "ThrottlingException"), nil
		}
		return nil, nil
	}
	a := r.function()
	errs := make([]error, events)
	var all sync.WaitGroup
	for i := range events {
		all.Go(func() { _, errs[i] = a.Handle(t.Context(), payloads[i%certificates]) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	for _, g := range gateways {
		r.wantActivated(g)
	}
	calls := r.wire.took()
	if got := total(calls) - throttled; got != 5*certificates {
		t.Errorf("%d events of %d certificates cost %d calls that were carried out; want %d: %v", events, certificates, got, 5*certificates, calls)
	}
	if throttled < certificates {
		t.Errorf("only %d calls were throttled", throttled)
	}
}

// Instances that know nothing of each other do no harm to each other.
func TestConcurrentInstances(t *testing.T) {
	r := newRig(t)
	g := r.ca.Issue(t, "gw-1")
	event := r.Connect(t, g)
	errs := make([]error, 20)
	var all sync.WaitGroup
	for i := range errs {
		a := r.function()
		all.Go(func() { _, errs[i] = a.Handle(t.Context(), event) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	r.wantActivated(g)
	principals, err := r.Client(nil).ListThingPrincipals(t.Context(), &iot.ListThingPrincipalsInput{ThingName: aws.String("gw-1")})
	if err != nil || len(principals.Principals) != 1 {
		t.Errorf("the thing has %v, %v", principals, err)
	}
}
