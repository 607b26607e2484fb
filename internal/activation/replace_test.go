package activation_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"go.uber.org/zap"

	at "github.com/jitr-agent/jitr-agent/internal/activation/activationtest"
)

// The message of a new certificate turns the replaced one off, if it is right.
func TestReplace(t *testing.T) {
	set := func(r *rig, g at.Gateway, s types.CertificateStatus) {
		if _, err := r.Client(nil).UpdateCertificate(r.t.Context(), &iot.UpdateCertificateInput{CertificateId: &g.ID, NewStatus: s}); err != nil {
			r.t.Fatal(err)
		}
	}
	for name, tt := range map[string]struct {
		// change gives the message; old and young are both on gw-1 and
		// ACTIVE, neighbour on gw-2.
		change func(r *rig, old, young, neighbour at.Gateway) []byte
		off    bool
		why    string
	}{
		"right": {
			change: func(_ *rig, old, young, _ at.Gateway) []byte { return initMessage("gw-1", young.ID, young.ID, old.ID) },
			off:    true,
		},
		"nothing replaced": {
			change: func(_ *rig, _, young, _ at.Gateway) []byte { return initMessage("gw-1", young.ID, young.ID, "") },
		},
		"another's message": {
			change: func(_ *rig, old, young, neighbour at.Gateway) []byte {
				return initMessage("gw-1", neighbour.ID, young.ID, old.ID)
			},
			why: "the message came from the certificate ",
		},
		"a neighbour's certificate": {
			change: func(_ *rig, old, _, neighbour at.Gateway) []byte {
				return initMessage("gw-2", neighbour.ID, neighbour.ID, old.ID)
			},
			why: "the two do not both belong to the thing gw-2",
		},
		"a neighbour's certificate, under its client id": {
			change: func(_ *rig, old, _, neighbour at.Gateway) []byte {
				return initMessage("gw-1", neighbour.ID, neighbour.ID, old.ID)
			},
			why: "the two do not both belong to the thing gw-1",
		},
		"the new one is not ACTIVE": {
			change: func(r *rig, old, young, _ at.Gateway) []byte {
				set(r, young, types.CertificateStatusInactive)
				return initMessage("gw-1", young.ID, young.ID, old.ID)
			},
			why: "the new certificate is INACTIVE",
		},
		"itself": {
			change: func(_ *rig, old, _, _ at.Gateway) []byte { return initMessage("gw-1", old.ID, old.ID, old.ID) },
			why:    "it would replace itself",
		},
		"no id": {
			change: func(_ *rig, old, _, _ at.Gateway) []byte { return initMessage("gw-1", "x", "x", old.ID) },
			why:    "one of the two is not a certificateId",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			old, young, neighbour := r.ca.Issue(t, "gw-1"), r.ca.Issue(t, "gw-1"), r.ca.Issue(t, "gw-2")
			a := r.function()
			for _, g := range []at.Gateway{old, young, neighbour} {
				handle(t, a, r.Connect(t, g))
			}
			message := tt.change(r, old, young, neighbour)
			a = r.function()
			handle(t, a, message)
			if off := r.look(old.ID).Status == types.CertificateStatusInactive; off != tt.off {
				t.Errorf("the old certificate is INACTIVE: %t; want %t", off, tt.off)
			}
			if tt.why != "" {
				if line := r.result(); line["result"] != "stopped" || !strings.HasPrefix(line["why"].(string), tt.why) {
					t.Errorf("the log says %v; want %q", line, tt.why)
				}
			}
			r.wire.took()
			handle(t, a, message)
			if calls := r.wire.took(); tt.off && (total(calls) != 1 || calls["DescribeCertificate"] != 1) {
				t.Errorf("the message again took %v", calls)
			}
		})
	}
}

// Whoever has the old key must not turn the new certificate off with it.
func TestReplace_olderByYounger(t *testing.T) {
	r := newRig(t)
	old, young := r.ca.Issue(t, "gw-1"), r.ca.Issue(t, "gw-1")
	a := r.function()
	handle(t, a, r.Connect(t, old))
	handle(t, a, r.Connect(t, young))
	a = r.function()
	handle(t, a, initMessage("gw-1", old.ID, old.ID, young.ID))
	if got := r.look(young.ID).Status; got != types.CertificateStatusActive {
		t.Errorf("the new certificate is %s", got)
	}
	if line := r.result(); line["result"] != "stopped" {
		t.Errorf("the log says %v", line)
	}
}

// The thing that a certificate was moved to by hand counts, not its name.
func TestReplace_detached(t *testing.T) {
	r := newRig(t)
	old, young := r.ca.Issue(t, "gw-1"), r.ca.Issue(t, "gw-1")
	a := r.function()
	handle(t, a, r.Connect(t, old))
	handle(t, a, r.Connect(t, young))
	_, err := r.Client(nil).DetachThingPrincipal(t.Context(), &iot.DetachThingPrincipalInput{
		ThingName: aws.String("gw-1"), Principal: aws.String("arn:aws:iot:us-east-1:123456789012:cert/" + old.ID),
	})
	if err != nil {
		t.Fatal(err)
	}
	handle(t, r.function(), initMessage("gw-1", young.ID, young.ID, old.ID))
	if got := r.look(old.ID).Status; got != types.CertificateStatusActive {
		t.Errorf("the detached certificate is %s", got)
	}
}

// What a gateway writes into its init message never comes again, and is never
// in the log as it stands.
func TestReplace_malformed(t *testing.T) {
	r := newRig(t)
	id, long := strings.Repeat("a", 64), strings.Repeat("x", 100_000)
	for name, message := range map[string]string{
		"a number for an id":    `{"certificate_id":7,"replaces":null,"client_id":"gw-1","principal":"` + id + `"}`,
		"an object":             `{"certificate_id":"` + id + `","replaces":{"` + long + `":1},"client_id":"gw-1","principal":"` + id + `"}`,
		"a long id":             `{"certificate_id":"` + long + `","replaces":null,"client_id":"gw-1","principal":"` + id + `"}`,
		"a long replaced one":   `{"certificate_id":"` + id + `","replaces":"` + long + `","client_id":"gw-1","principal":"` + id + `"}`,
		"upper-case digits":     `{"certificate_id":"` + id + `","replaces":"` + strings.Repeat("A", 64) + `","client_id":"gw-1","principal":"` + id + `"}`,
		"no id":                 `{"client_id":"gw-1","principal":"` + id + `"}`,
		"a client id of a kind": `{"certificate_id":"` + id + `","replaces":null,"client_id":[],"principal":"` + id + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			for way, payload := range map[string][]byte{"alone": []byte(message), "in a batch": batch(t, message)} {
				a := r.function()
				answer, err := a.Handle(t.Context(), payload)
				if err != nil {
					t.Fatalf("%s: %v", way, err)
				}
				if answer, ok := answer.(events.SQSEventResponse); ok && len(answer.BatchItemFailures) > 0 {
					t.Errorf("%s: it comes again", way)
				}
				warnings := 0
				for _, e := range r.logs.All() {
					if e.Level < zap.WarnLevel {
						continue
					}
					warnings++
					fields := e.ContextMap()
					if e.Level != zap.WarnLevel || fields["principal"] != id || fields["certificateId"] != nil || fields["replaces"] != nil {
						t.Errorf("%s: the log says %s %.300v", way, e.Level, fields)
					}
					if said := fmt.Sprint(e.Message, fields); len(said) > 500 {
						t.Errorf("%s: the line has %d bytes", way, len(said))
					}
				}
				if warnings != 1 {
					t.Errorf("%s: there are %d warnings", way, warnings)
				}
			}
		})
	}
	if calls := r.wire.took(); total(calls) > 0 {
		t.Errorf("it took %v", calls)
	}
}
