package storm

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/activation/activationtest"
)

// The quotas of the account, in calls a second (AWS general reference, 2019;
// docs/first-connect.md). They stand here once more: the activator's own table
// must not be what it is measured by.
func quotas() map[string]int {
	return map[string]int{
		"DescribeCertificate": 10, "UpdateCertificate": 10,
		"CreateThing": 15, "AttachThingPrincipal": 15, "AttachPolicy": 15,
		"DescribeThing": 10, "ListCertificatesByCA": 10, "ListThingPrincipals": 10,
	}
}

// account is an AWS account as its clients meet it: an emulator behind the API
// quotas, each call some time away. It is the HTTP client of the SDK, and does
// its network calls without goroutines of its own: while one is waited for,
// virtual time stands still.
type account struct {
	address string // of the emulator's API
	denied  string // an operation that the role does not allow

	mu        sync.Mutex
	idle      []*wire
	buckets   map[string]*bucket
	calls     map[string]int // that were let through
	throttled map[string]int
	active    map[string]time.Time // by certificateId: when UpdateCertificate ACTIVE was answered
}

// bucket is a token bucket that holds a second's worth.
type bucket struct {
	perSecond, tokens float64
	filled            time.Time
}

func (b *bucket) take(now time.Time) bool {
	b.tokens = min(b.perSecond, b.tokens+now.Sub(b.filled).Seconds()*b.perSecond)
	b.filled = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

type wire struct {
	net.Conn
	r *bufio.Reader
}

func newAccount(address string) *account {
	a := &account{
		address: address, buckets: map[string]*bucket{}, calls: map[string]int{}, throttled: map[string]int{},
		active: map[string]time.Time{},
	}
	for op, n := range quotas() {
		a.buckets[op] = &bucket{perSecond: float64(n), tokens: float64(n), filled: time.Now()}
	}
	return a
}

// Do is one call: half of its time before AWS decides on it, half after.
func (a *account) Do(req *http.Request) (*http.Response, error) {
	half := 15*time.Millisecond + rand.N(25*time.Millisecond)
	if err := pass(req.Context(), half); err != nil {
		return nil, err
	}
	op := activationtest.Operation(req)
	if refusal := a.admit(op); refusal != "" {
		return activationtest.Refused(req, refusal), pass(req.Context(), half)
	}
	resp, err := a.exchange(req)
	if err != nil {
		return nil, err
	}
	if op == "UpdateCertificate" && resp.StatusCode == http.StatusOK && req.URL.Query().Get("newStatus") == "ACTIVE" {
		a.mu.Lock()
		a.active[strings.Split(req.URL.Path, "/")[2]] = time.Now()
		a.mu.Unlock()
	}
	return resp, pass(req.Context(), half)
}

// admit gives the error name of a call that is refused, or nothing.
func (a *account) admit(op string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if op == a.denied {
		return "AccessDeniedException"
	}
	b := a.buckets[op]
	if b == nil {
		panic("no quota is known for " + op)
	}
	if !b.take(time.Now()) {
		a.throttled[op]++
		return "ThrottlingException"
	}
	a.calls[op]++
	return ""
}

func (a *account) activeSince(id string) (time.Time, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at, ok := a.active[id]
	return at, ok
}

// exchange makes the call on a connection that is free, else on a new one.
func (a *account) exchange(req *http.Request) (*http.Response, error) {
	w, err := a.take(req.Context())
	if err != nil {
		return nil, err
	}
	if err := req.Write(w); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(w.r, req)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	a.mu.Lock()
	a.idle = append(a.idle, w)
	a.mu.Unlock()
	return resp, nil
}

func (a *account) take(ctx context.Context) (*wire, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := len(a.idle); n > 0 {
		w := a.idle[n-1]
		a.idle = a.idle[:n-1]
		return w, nil
	}
	c, err := new(net.Dialer).DialContext(ctx, "tcp", a.address)
	if err != nil {
		return nil, err
	}
	return &wire{c, bufio.NewReader(c)}, nil
}

func (a *account) close() {
	for _, w := range a.idle {
		w.Close()
	}
}

// pass lets time pass.
func pass(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
