package activation_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/jitr-agent/jitr-agent/internal/activation"
)

// Only what failed comes again, with all its duplicates.
func TestBatch(t *testing.T) {
	r := newRig(t)
	r.cfg.Policies[r.ca.ID] = policyName
	broken := r.NewCA(t, "No policy yet")
	r.cfg.Policies[broken.ID] = "not-yet"
	good, bad, refused := r.ca.Issue(t, "gw-1"), broken.Issue(t, "gw-2"), r.ca.Issue(t, "gw 3")
	goodEvent, badEvent, refusedEvent := string(r.Connect(t, good)), string(r.Connect(t, bad)), string(r.Connect(t, refused))
	a := r.function()
	got := failures(t, a, t.Context(), batch(t, goodEvent, badEvent, "not JSON", refusedEvent, goodEvent, badEvent, goodEvent,
		`{"certificate_id":"","replaces":null,"client_id":"gw-1","principal":""}`))
	if got != "2 1 5" {
		t.Errorf("the messages %q come again; want 2 (not understood), 1 and 5 (no policy)", got)
	}
	r.wantActivated(good)
	if got := r.look(refused.ID).Status; got != types.CertificateStatusInactive {
		t.Errorf("the refused one is %s", got)
	}
	if got := r.look(bad.ID).Status; got != types.CertificateStatusPendingActivation {
		t.Errorf("the one that failed is %s", got)
	}
	// 5 for the good one, 4 until the policy was missing, 2 for the refusal.
	if calls := r.wire.took(); total(calls) != 5+4+2 {
		t.Errorf("it took %v", calls)
	}
	r.CreatePolicy(t, "not-yet")
	if got := failures(t, a, t.Context(), batch(t, badEvent, badEvent)); got != "" {
		t.Errorf("healed, the messages %q come again", got)
	}
}

// Near the deadline nothing is begun that could not be finished.
func TestBatch_noTime(t *testing.T) {
	r := newRig(t)
	g := r.ca.Issue(t, "gw-1")
	event := string(r.Connect(t, g))
	a := r.function()
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second) // less 2 for the answer
	defer cancel()
	if got := failures(t, a, ctx, batch(t, event)); got != "0" {
		t.Errorf("the messages %q come again; want 0", got)
	}
	if calls := r.wire.took(); total(calls) > 0 {
		t.Errorf("it took %v", calls)
	}
	if _, err := a.Handle(ctx, []byte(event)); !errors.Is(err, activation.ErrNoTime) {
		t.Errorf("without a queue the error is %v", err)
	}
	if got := failures(t, a, t.Context(), batch(t, event)); got != "" {
		t.Errorf("with time, the messages %q come again", got)
	}
	r.wantActivated(g)
}

// An instance that finds the work of another done asks the registry for all of
// it at once.
func TestBatch_survey(t *testing.T) {
	const n = 40
	r := newRig(t)
	var bodies []string
	for i := range n {
		bodies = append(bodies, string(r.Connect(t, r.ca.Issue(t, fmt.Sprintf("gw-%d", i)))))
	}
	if got := failures(t, r.function(), t.Context(), batch(t, bodies...)); got != "" {
		t.Fatalf("the messages %q failed", got)
	}
	r.wire.took()
	late := r.function()
	if got := failures(t, late, t.Context(), batch(t, bodies[:10]...)); got != "" {
		t.Fatalf("the messages %q failed", got)
	}
	if calls := r.wire.took(); calls["DescribeCertificate"] != 10 || calls["ListCertificatesByCA"] != 0 {
		t.Errorf("the first batch took %v; want 10 times DescribeCertificate", calls)
	}
	if got := failures(t, late, t.Context(), batch(t, bodies...)); got != "" {
		t.Fatalf("the messages %q failed", got)
	}
	if calls := r.wire.took(); calls["DescribeCertificate"] != 0 || calls["ListCertificatesByCA"] != 1 {
		t.Errorf("the second batch took %v; want one page", calls)
	}
}

func TestHandle_notUnderstood(t *testing.T) {
	r := newRig(t)
	a := r.function()
	id := strings.Repeat("a", 64)
	for name, payload := range map[string]string{
		"not JSON":               `{`,
		"not an object":          `[]`,
		"something else":         `{"hello":"world"}`,
		"no certificateId":       `{"caCertificateId":"` + id + `","timestamp":1,"certificateStatus":"PENDING_ACTIVATION"}`,
		"upper-case id":          `{"certificateId":"` + strings.ToUpper(id) + `","caCertificateId":"` + id + `","timestamp":1,"certificateStatus":"PENDING_ACTIVATION"}`,
		"path for an id":         `{"certificateId":"../` + id[3:] + `","caCertificateId":"` + id + `","timestamp":1,"certificateStatus":"PENDING_ACTIVATION"}`,
		"no timestamp":           `{"certificateId":"` + id + `","caCertificateId":"` + id + `","certificateStatus":"PENDING_ACTIVATION"}`,
		"timestamp of text":      `{"certificateId":"` + id + `","caCertificateId":"` + id + `","timestamp":"x","certificateStatus":"PENDING_ACTIVATION"}`,
		"records that are none":  `{"Records":7}`,
		"status of another kind": `{"certificateId":"` + id + `","caCertificateId":"` + id + `","timestamp":1,"certificateStatus":7}`,
	} {
		if _, err := a.Handle(t.Context(), []byte(payload)); !errors.Is(err, activation.ErrBadEvent) {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
	if calls := r.wire.took(); total(calls) > 0 {
		t.Errorf("it took %v", calls)
	}
	if got := failures(t, a, t.Context(), []byte(`{"Records":[]}`)); got != "" {
		t.Errorf("of an empty batch %q failed", got)
	}
}
