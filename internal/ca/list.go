package ca

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/ca/inventory"
)

// Filter says which certificates to list.
type Filter struct {
	States     []inventory.State // empty: all
	EndsBefore time.Time         // only valid ones that end before that; zero: all
}

// List is the inventory as it is at now, in the order of the names, and for
// one name the oldest end first. It does not need the CA's key.
func (c *CA) List(ctx context.Context, f Filter, now time.Time) ([]*inventory.Entry, error) {
	st, err := c.open(ctx, now)
	if err != nil {
		return nil, err
	}
	defer st.Close()
	list := []*inventory.Entry{}
	err = st.View(func(tx *inventory.Tx) error {
		for e, err := range tx.All() {
			if err != nil {
				return err
			}
			if f.takes(e, now) {
				list = append(list, e)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(list, func(a, b *inventory.Entry) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), a.NotAfter.Compare(b.NotAfter))
	})
	return list, nil
}

func (f *Filter) takes(e *inventory.Entry, now time.Time) bool {
	state := e.State(now)
	if len(f.States) > 0 && !slices.Contains(f.States, state) {
		return false
	}
	return f.EndsBefore.IsZero() || state == inventory.Valid && e.NotAfter.Before(f.EndsBefore)
}
