package activation

import (
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"

	"github.com/jitr-agent/jitr-agent/internal/activation/activationtest"
)

// A list from a URL is read once for many certificates, and goes on while the
// server is away, until it ends.
func TestRevocations_fromURL(t *testing.T) {
	c := activationtest.Start(t)
	ca := c.NewCA(t, "Acme device CA")
	good, bad := ca.Issue(t, "gw-1"), ca.Issue(t, "gw-2")
	var reads atomic.Int64
	var list, away atomic.Pointer[[]byte]
	serve := func(der []byte) { list.Store(&der) }
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		reads.Add(1)
		if away.Load() != nil {
			http.Error(w, "away", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write(*list.Load()) // what a client does not read it asks for again
	}))
	defer server.Close()
	serve(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: ca.CRL(t, time.Now().Add(time.Hour), bad)}))

	r, err := newRevocations([]string{server.URL}, c.Client(nil, func(*iot.Options) {}))
	if err != nil {
		t.Fatal(err)
	}
	r.http = server.Client()
	judge := func(g activationtest.Gateway) error {
		return r.check(t.Context(), candidate{leaf: g.Leaf, id: g.ID, caID: ca.ID})
	}
	for range 3 {
		if err := judge(good); err != nil {
			t.Errorf("the good one: %v", err)
		}
		if err := judge(bad); err == nil || !strings.HasPrefix(err.Error(), "its CA revoked it at") {
			t.Errorf("the revoked one: %v", err)
		}
	}
	if n := reads.Load(); n != 1 {
		t.Errorf("the list was read %d times", n)
	}

	away.Store(new([]byte))
	r.sources[0].readAt = time.Now().Add(-time.Hour)
	if err := judge(good); err != nil || reads.Load() != 2 {
		t.Errorf("while the server is away: %v, after %d reads", err, reads.Load())
	}
	r.sources[0].list.NextUpdate = time.Now().Add(-time.Second)
	if err := judge(good); err == nil || !strings.Contains(err.Error(), "503") || !strings.Contains(err.Error(), "was good until") {
		t.Errorf("when the list has ended and the server is away: %v", err)
	}
	away.Store(nil)
	if err := judge(good); err != nil {
		t.Errorf("when it is back: %v", err)
	}
	serve([]byte("<html>"))
	r.sources[0].list, r.cas = nil, map[string]*x509.Certificate{}
	if err := judge(good); err == nil || !strings.Contains(err.Error(), "it is not a CRL") {
		t.Errorf("of a page that is no list: %v", err)
	}
}
