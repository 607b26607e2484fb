package storm

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"go.uber.org/zap"

	"github.com/jitr-agent/jitr-agent/internal/activation"
	"github.com/jitr-agent/jitr-agent/internal/activation/activationtest"
)

var (
	gateways    = flag.Int("gateways", 10_000, "how many are switched on")
	comparisons = flag.Bool("compare", false, "run the other deployments too")
)

// shipped is what jitrctl cloud deploy --queue sets up.
func shipped() deployment {
	return deployment{
		name: "queue, as it is deployed", instances: activation.QueueConcurrency, batch: activation.QueueBatchSize,
		window: activation.QueueBatchWindow, hidden: activation.QueueVisibilityTimeout,
	}
}

// outcome is what became of a storm.
type outcome struct {
	deployment deployment
	gateways   int
	in         int
	finish     time.Duration
	attempts   int
	events     int
	again      int // messages that came again
	left       int // messages that were not needed any more
	calls      map[string]int
	throttled  int
}

// ratio is of the time that it took and the least that the quotas allow.
func (o outcome) ratio() float64 {
	return o.finish.Seconds() / (float64(o.gateways) / activation.ActivationsPerSecond)
}

func (o outcome) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%d at once): %d of %d in after %v, %.2f x the bound; %.1f attempts each, %d events, %d again, %d left, %d calls throttled;",
		o.deployment.name, o.deployment.instances, o.in, o.gateways, o.finish.Round(100*time.Millisecond), o.ratio(),
		float64(o.attempts)/float64(o.gateways), o.events, o.again, o.left, o.throttled)
	for _, op := range slices.Sorted(maps.Keys(o.calls)) {
		fmt.Fprintf(&b, " %s %d", op, o.calls[op])
	}
	return b.String()
}

// horizon ends a storm in which not all get in.
const horizon = 4 * time.Hour

func run(t *testing.T, s *scene, d deployment) outcome {
	t.Helper()
	o := outcome{deployment: d, gateways: len(s.gateways)}
	synctest.Test(t, func(t *testing.T) {
		var (
			begin     = time.Now()
			acct      = newAccount(s.APIAddr())
			q         = newQueue()
			mu        sync.Mutex // of o
			devices   sync.WaitGroup
			functions sync.WaitGroup
			quota     door
		)
		defer acct.close()
		if d.blind {
			acct.denied = "ListCertificatesByCA"
		}
		ctx, stop := context.WithTimeout(t.Context(), horizon)
		defer stop()
		for range d.instances {
			f, err := activation.New(activation.Config{Policies: map[string]string{s.ca.ID: policyName}}, s.Client(acct, activation.ClientOptions), zap.NewNop())
			if err != nil {
				t.Fatal(err)
			}
			functions.Go(func() {
				if err := d.work(ctx, q, s, f); err != nil {
					t.Errorf("the function: %v", err)
				}
			})
		}
		for i, g := range s.gateways {
			devices.Go(func() {
				at, attempts, err := gateway(ctx, func() bool {
					if !quota.open() {
						return false
					}
					if _, active := acct.activeSince(g.ID); active {
						return true
					}
					q.send(message{gateway: i, at: time.Now()})
					return false
				})
				mu.Lock()
				defer mu.Unlock()
				o.attempts += attempts
				if err == nil {
					o.in++
					o.finish = max(o.finish, at.Sub(begin))
				}
			})
		}
		devices.Wait()
		stop()
		functions.Wait()
		o.events, o.again, o.left, o.calls = q.sent, q.again, q.left(), acct.calls
		for _, n := range acct.throttled {
			o.throttled += n
		}
	})
	return o
}

// judge asks the registry itself: each certificate ACTIVE, on exactly one
// thing of its name that nothing else is attached to, with exactly its policy.
// It gives how many are not so.
func judge(t *testing.T, s *scene) (wrong int) {
	t.Helper()
	api := s.Client(nil)
	for _, g := range s.gateways {
		got, err := activationtest.Look(t.Context(), api, g.ID)
		if err == nil && !got.Activated(g.Name, policyName) {
			err = fmt.Errorf("it is %+v", got)
		}
		if err == nil {
			var principals *iot.ListThingPrincipalsOutput
			principals, err = api.ListThingPrincipals(t.Context(), &iot.ListThingPrincipalsInput{ThingName: &g.Name})
			if err == nil && len(principals.Principals) != 1 {
				err = fmt.Errorf("its thing has %v", principals.Principals)
			}
		}
		if err != nil {
			if wrong++; wrong <= 3 {
				t.Logf("%s: %v", g.Name, err)
			}
		}
	}
	return wrong
}

// limit is how many times the bound a storm may take.
const limit = 1.3

// New gateways, switched on together, are all let in, each once, in little
// more time than the quotas make it take.
func TestPowerOn(t *testing.T) {
	n := *gateways
	if testing.Short() {
		n = min(n, 500)
	}
	s := newScene(t, n)
	if wrong := judge(t, s); wrong != n {
		t.Fatalf("before the storm, %d of %d are as they should be afterwards", n-wrong, n)
	}
	o := run(t, s, shipped())
	t.Log(o)
	if o.in != n {
		t.Errorf("%d of %d gateways got in", o.in, n)
	}
	if wrong := judge(t, s); wrong > 0 {
		t.Errorf("%d certificates are not as they should be", wrong)
	}
	// Of a small fleet's time, booting and the last gateway's wait are most.
	if r := o.ratio(); n >= 10_000 && r > limit {
		t.Errorf("it took %.2f times the bound; want at most %.1f", r, limit)
	}
}

// The negative control: instances that never learn of each other's work pay
// for most certificates twice, and are late.
func TestPowerOn_blind(t *testing.T) {
	if testing.Short() {
		t.Skip("half a minute")
	}
	s := newScene(t, min(*gateways, 4000))
	d := shipped()
	d.name, d.blind = "queue, no instance learns of the other", true
	o := run(t, s, d)
	t.Log(o)
	if o.ratio() <= limit {
		t.Errorf("it took %.2f times the bound: then the limit of %.1f shows nothing", o.ratio(), limit)
	}
}

// What other deployments do: go test ./test/storm -run Deployments -v -compare
func TestDeployments(t *testing.T) {
	if !*comparisons {
		t.Skip("it takes minutes; -compare runs it")
	}
	one, small, four, blind := shipped(), shipped(), shipped(), shipped()
	one.name, one.instances = "queue, one instance", 1
	small.name, small.batch = "queue, batches of 100", 100
	four.name, four.instances = "queue, more instances", 4
	blind.name, blind.blind = "queue, no instance learns of the other", true
	for _, d := range []deployment{
		shipped(), one, small, four, blind,
		{name: "rule and function", instances: activation.DirectConcurrency, hidden: time.Minute},
		{name: "rule and function", instances: 1, hidden: time.Minute},
	} {
		t.Run(fmt.Sprintf("%s, %d", d.name, d.instances), func(t *testing.T) {
			s := newScene(t, *gateways)
			t.Log(run(t, s, d))
			if wrong := judge(t, s); wrong > 0 {
				t.Errorf("%d certificates are not as they should be", wrong)
			}
		})
	}
}
