package cloud

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// Action is what a change does.
type Action string

// The actions, and how a plan marks them.
const (
	Keep   Action = "keep"   // =
	Create Action = "create" // +
	Update Action = "update" // ~
	Delete Action = "delete" // -
)

func (a Action) mark() string {
	return map[Action]string{Keep: "=", Create: "+", Update: "~", Delete: "-"}[a]
}

// Change is one difference between the account and what should be, and the
// one call that ends it. Keep is no difference: it tells what is there.
type Change struct {
	Action  Action   `json:"action"`
	Kind    string   `json:"kind"` // as "role"
	Name    string   `json:"name"`
	Details []string `json:"details"` // what differs, or why

	do func(context.Context) error
}

// String is the change as a plan prints it, one line.
func (c Change) String() string {
	s := c.Action.mark() + " " + c.Kind + " " + c.Name
	if len(c.Details) > 0 {
		s += ": " + strings.Join(c.Details, ", ")
	}
	return s
}

func change(action Action, kind, name string, do func(context.Context) error, details ...string) Change {
	return Change{Action: action, Kind: kind, Name: name, Details: append([]string{}, details...), do: do}
}

// after is c, carried out only where ready gives no error.
func (c Change) after(ready func(context.Context) error) Change {
	do := c.do
	c.do = func(ctx context.Context) error {
		if err := ready(ctx); err != nil {
			return err
		}
		return do(ctx)
	}
	return c
}

func keep(kind, name string, details ...string) []Change {
	return []Change{change(Keep, kind, name, nil, details...)}
}

// Plan is what there is to do, in its order.
type Plan []Change

// Pending is how many changes there are to make.
func (p Plan) Pending() int {
	n := 0
	for _, c := range p {
		if c.Action != Keep {
			n++
		}
	}
	return n
}

// once is p without changes that it has already: an attachment ends with
// either of its two ends. So the name of what is deleted has to be its own.
func (p Plan) once() Plan {
	seen := map[[2]string]bool{}
	return slices.DeleteFunc(p, func(c Change) bool {
		key := [2]string{c.Kind, c.Name}
		again := c.Action == Delete && seen[key]
		seen[key] = seen[key] || c.Action == Delete
		return again
	})
}

// Progress is told what Apply does. Both fields may be nil.
type Progress struct {
	Done    func(Change)              // it is made, or is to be kept
	Waiting func(c Change, why error) // AWS is not ready for it; it is tried again
}

// Apply makes the changes one after the other. It stops at the first error;
// a new plan then has the rest. An error names the change.
func (p Plan) Apply(ctx context.Context, progress Progress) error {
	for _, c := range p {
		if c.Action != Keep {
			waiting := func(why error) {
				if progress.Waiting != nil {
					progress.Waiting(c, explain(why))
				}
			}
			if err := patiently(ctx, c.do, waiting); err != nil {
				return explain(fmt.Errorf("%s the %s %s: %w", c.Action, c.Kind, c.Name, err))
			}
		}
		if progress.Done != nil {
			progress.Done(c)
		}
	}
	return nil
}

// patiently calls do until its outcome has nothing to do with calls that were
// just made.
func patiently(ctx context.Context, do func(context.Context) error, waiting func(why error)) error {
	start := time.Now()
	wait := backoff.NewExponentialBackOff(backoff.WithInitialInterval(200*time.Millisecond), backoff.WithMaxInterval(10*time.Second), backoff.WithMaxElapsedTime(0))
	return backoff.RetryNotify(func() error {
		err := do(ctx)
		if err != nil && time.Since(start) >= settling(err) {
			return backoff.Permanent(err)
		}
		return err
	}, backoff.WithContext(wait, ctx), func(why error, _ time.Duration) { waiting(why) })
}
