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
	later := func() { r.sources[0].triedAt = time.Now().Add(-time.Hour) }
	later()
	if err := judge(good); err != nil || reads.Load() != 2 {
		t.Errorf("while the server is away: %v, after %d reads", err, reads.Load())
	}
	r.sources[0].list.Load().NextUpdate = time.Now().Add(-time.Second)
	if err := judge(good); err == nil || !strings.Contains(err.Error(), "503") || !strings.Contains(err.Error(), "was good until") {
		t.Errorf("when the list has ended and the server is away: %v", err)
	}
	away.Store(nil)
	later()
	if err := judge(good); err != nil {
		t.Errorf("when it is back: %v", err)
	}
	serve([]byte("<html>"))
	r.sources[0].list.Store(nil)
	r.cas = map[string]*x509.Certificate{}
	later()
	if err := judge(good); err == nil || !strings.Contains(err.Error(), "it is not a CRL") {
		t.Errorf("of a page that is no list: %v", err)
	}
}

// A server of one CA that does not answer is not waited for with the
// certificates of another, and is left alone for a while.
func TestRevocations_deadServer(t *testing.T) {
	c := activationtest.Start(t)
	living, dead := c.NewCA(t, "Living"), c.NewCA(t, "Dead")
	type server struct {
		url   string
		reads atomic.Int64
		hangs atomic.Bool
	}
	var client *http.Client
	serve := func(ca *activationtest.CA) *server {
		s := &server{}
		list := ca.CRL(t, time.Now().Add(time.Hour))
		h := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.reads.Add(1)
			if s.hangs.Load() {
				<-r.Context().Done()
				return
			}
			_, _ = w.Write(list) // what a client does not read it asks for again
		}))
		t.Cleanup(h.Close)
		s.url, client = h.URL, h.Client()
		return s
	}
	good, bad := serve(living), serve(dead)
	client.Timeout = 2 * time.Second // in the place of crlFetch
	r, err := newRevocations([]string{bad.url, good.url}, c.Client(nil, func(*iot.Options) {}))
	if err != nil {
		t.Fatal(err)
	}
	r.http = client
	judge := func(ca *activationtest.CA) error {
		g := ca.Issue(t, "gw-1")
		return r.check(t.Context(), candidate{leaf: g.Leaf, id: g.ID, caID: ca.ID})
	}
	wantReads := func(when string, want int64) {
		t.Helper()
		if got := bad.reads.Load(); got != want {
			t.Errorf("%s: the dead server was asked %d times; want %d", when, got, want)
		}
	}
	ago := func(d time.Duration) {
		for _, s := range r.sources {
			s.triedAt = time.Now().Add(-d)
		}
	}

	// Nobody knows yet whose list it has.
	bad.hangs.Store(true)
	for range 2 {
		if err := judge(living); err != nil {
			t.Errorf("the other CA: %v", err)
		}
	}
	wantReads("before its list was read", 1)
	if err := judge(dead); err == nil || !strings.Contains(err.Error(), "read "+bad.url) {
		t.Errorf("its own CA: %v", err)
	}
	wantReads("within a minute", 1)
	ago(2 * crlRetry)
	bad.hangs.Store(false)
	if err := judge(dead); err != nil {
		t.Errorf("when it is back: %v", err)
	}
	wantReads("behind a minute", 2)

	// And now they do.
	bad.hangs.Store(true)
	ago(2 * crlAge)
	if err := judge(living); err != nil {
		t.Errorf("the other CA: %v", err)
	}
	wantReads("for a certificate of the other CA", 2)
	for range 2 {
		if err := judge(dead); err != nil {
			t.Errorf("its own CA, while the list is good: %v", err)
		}
	}
	wantReads("for its own CA", 3)
}

// A place whose list was another CA's is asked again where there is no other.
func TestRevocations_placeOfTheSuccessor(t *testing.T) {
	c := activationtest.Start(t)
	old, young := c.NewCA(t, "Acme 2020"), c.NewCA(t, "Acme 2030")
	var list atomic.Pointer[[]byte]
	list.Store(new(old.CRL(t, time.Now().Add(time.Hour))))
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(*list.Load()) // what a client does not read it asks for again
	}))
	defer server.Close()
	r, err := newRevocations([]string{server.URL}, c.Client(nil, func(*iot.Options) {}))
	if err != nil {
		t.Fatal(err)
	}
	r.http = server.Client()
	judge := func(ca *activationtest.CA) error {
		g := ca.Issue(t, "gw-1")
		return r.check(t.Context(), candidate{leaf: g.Leaf, id: g.ID, caID: ca.ID})
	}
	if err := judge(old); err != nil {
		t.Error(err)
	}
	if err := judge(young); err == nil {
		t.Error("the successor has no list yet")
	}
	list.Store(new(young.CRL(t, time.Now().Add(time.Hour))))
	r.sources[0].triedAt = time.Now().Add(-2 * crlAge)
	if err := judge(young); err != nil {
		t.Error(err)
	}
}
