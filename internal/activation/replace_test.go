package activation_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

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
