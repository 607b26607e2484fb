package iotcore

import (
	"context"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/jitr-agent/jitr-agent/internal/certs"
)

// ownPolicy is the policy that the emulator's own activation attaches.
const ownPolicy = "iotcore-sim"

// activator stands where the rule and the Lambda function of an account
// stand: it activates a certificate some time after its registration. The
// delay is the same for all, so the queue is in order of time.
type activator struct {
	registry *registry
	after    time.Duration // 0: never
	log      *zap.Logger
	wake     chan struct{} // of capacity 1

	mu    sync.Mutex
	queue []pendingCertificate
}

type pendingCertificate struct {
	id    string
	since time.Time
}

// newActivator also takes up what was pending when the emulator stopped.
func newActivator(r *registry, after time.Duration, log *zap.Logger) *activator {
	a := &activator{registry: r, after: after, log: log, wake: make(chan struct{}, 1)}
	pending := r.certificates(func(c *certificateRecord) bool { return c.JITR && c.Status == statusPending })
	slices.SortFunc(pending, func(x, y certificateRecord) int { return x.CreatedAt.Compare(y.CreatedAt) })
	for _, c := range pending {
		a.add(c.ID, c.CreatedAt)
	}
	return a
}

func (a *activator) add(id string, since time.Time) {
	if a.after == 0 {
		return
	}
	a.mu.Lock()
	a.queue = append(a.queue, pendingCertificate{id, since})
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

func (a *activator) next() (pendingCertificate, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.queue) == 0 {
		return pendingCertificate{}, false
	}
	return a.queue[0], true
}

// run activates until ctx ends.
func (a *activator) run(ctx context.Context) {
	for {
		p, ok := a.next()
		if !ok {
			select {
			case <-a.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		timer := time.NewTimer(a.after - a.registry.now().Sub(p.since))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		a.mu.Lock()
		a.queue = a.queue[1:]
		a.mu.Unlock()
		if err := a.activate(p.id); err != nil {
			a.log.Warn("A certificate was not activated.", zap.String("certificate", p.id), zap.Error(err))
		}
	}
}

// activate does in the right order what a provisioning function has to do:
// thing, principal, policy, and ACTIVE last, because an ACTIVE certificate
// without a policy is turned away too.
func (a *activator) activate(id string) error {
	rec, err := a.registry.certificate(id)
	if err != nil {
		return err
	}
	if rec.Status != statusPending {
		return nil // somebody else was faster, or has refused it
	}
	arn := a.registry.arn("cert", id)
	thing := rec.CommonName
	if !certs.ValidThingName(thing) {
		thing = rec.LastClientID
	}
	if certs.ValidThingName(thing) {
		if _, err := a.registry.thing(thing); err != nil {
			if _, err := a.registry.createThing(thing, "", nil); err != nil {
				return err
			}
		}
		if err := a.registry.attachThing(thing, arn, false); err != nil {
			return err
		}
	}
	if err := a.registry.attachPolicy(ownPolicy, arn); err != nil {
		return err
	}
	if err := a.registry.updateCertificate(id, statusActive); err != nil {
		return err
	}
	a.log.Info("A certificate was activated.", zap.String("certificate", id), zap.String("thing", thing))
	return nil
}
