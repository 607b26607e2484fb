package ca

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/ca/inventory"
)

// Revoke marks certificates as revoked, which the next CRL tells. which is a
// serial number, a certificateId, or a name; a name means all its certificates
// that have not expired. It returns them all; those that were revoked before
// are as they were. Where there is none the error wraps
// inventory.ErrUnknown, and where which is one certificate's name and
// another's serial number, ErrAmbiguous.
//
// It does not need the CA's key.
func (c *CA) Revoke(ctx context.Context, which string, reason inventory.Reason, now time.Time) ([]*inventory.Entry, error) {
	st, err := c.open(ctx, now)
	if err != nil {
		return nil, err
	}
	defer st.Close()
	var revoked []*inventory.Entry
	err = st.Update(func(tx *inventory.Tx) error {
		found, err := find(tx, which, now)
		if err != nil {
			return err
		}
		for _, e := range found {
			if err := tx.Revoke(e.Serial, now, reason); err != nil {
				return err
			}
			if e, err = tx.BySerial(e.Serial); err != nil {
				return err
			}
			revoked = append(revoked, e)
		}
		return nil
	})
	if err != nil {
		return nil, withRoom(err)
	}
	return revoked, nil
}

func find(tx *inventory.Tx, which string, now time.Time) ([]*inventory.Entry, error) {
	if id, err := hex.DecodeString(which); err == nil && len(id) == sha256.Size {
		e, err := tx.ByID(id)
		if err != nil {
			return nil, err
		}
		if e != nil {
			return []*inventory.Entry{e}, nil
		}
	}
	if which == "" { // as a name it would mean all certificates without one
		return nil, fmt.Errorf("%w; give a name, serial number or certificate id", inventory.ErrUnknown)
	}
	named, err := tx.ByName(which)
	if err != nil {
		return nil, err
	}
	var found []*inventory.Entry
	for _, e := range named {
		if e.State(now) != inventory.Expired {
			found = append(found, e)
		}
	}
	if serial, err := inventory.ParseSerial(which); err == nil {
		e, err := tx.BySerial(serial)
		if err != nil {
			return nil, err
		}
		switch {
		case e == nil:
		case len(found) > 0 && e.Name != which:
			return nil, fmt.Errorf("%w: %q is a name, and the serial number of %q; give a certificate id", ErrAmbiguous, which, e.Name)
		case len(found) == 0:
			found = append(found, e)
		}
	}
	switch {
	case len(found) > 0:
		return found, nil
	case len(named) > 0:
		return nil, fmt.Errorf("%w: those of %q have expired, and need no revocation", inventory.ErrUnknown, which)
	case strings.ContainsAny(which, "/."):
		return nil, fmt.Errorf("%w; give a name, serial number or certificate id as 'jitrctl ca list' shows them, not a file", inventory.ErrUnknown)
	}
	return nil, fmt.Errorf("%w; see 'jitrctl ca list', or take over an openssl CA's with 'jitrctl ca adopt'", inventory.ErrUnknown)
}
