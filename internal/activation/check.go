package activation

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"regexp"
	"slices"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/certs"
)

// candidate is a certificate before it is let in.
type candidate struct {
	leaf  *x509.Certificate
	id    string
	caID  string
	thing string
}

// check judges a candidate. A *refusalError refuses it; another error decides
// nothing.
type check func(ctx context.Context, c candidate) error

// newChecks has the checks in their order: what costs nothing first.
func newChecks(cfg Config, api API) ([]check, error) {
	checks := []check{checkValidity, checkUse}
	if cfg.NamePattern != "" {
		pattern, err := regexp.Compile(`^(?:` + cfg.NamePattern + `)$`)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrBadConfig, envNamePattern, err)
		}
		checks = append(checks, func(_ context.Context, c candidate) error {
			if !pattern.MatchString(c.thing) {
				return refuse("its name %s is not one of those that are allowed, %s", c.thing, cfg.NamePattern)
			}
			return nil
		})
	}
	if cfg.Inventory != "" {
		data, err := os.ReadFile(cfg.Inventory)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrBadConfig, envInventory, err)
		}
		known, err := ParseInventory(cfg.Inventory, data)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrBadConfig, envInventory, err)
		}
		checks = append(checks, func(_ context.Context, c candidate) error {
			if !known[c.thing] && !known[c.id] {
				return refuse("neither its name %s nor its certificateId is in the inventory", c.thing)
			}
			return nil
		})
	}
	if len(cfg.CRLs) > 0 {
		crls, err := newRevocations(cfg.CRLs, api)
		if err != nil {
			return nil, err
		}
		checks = append(checks, crls.check)
	}
	return checks, nil
}

func checkValidity(_ context.Context, c candidate) error {
	now := time.Now()
	switch {
	case now.After(c.leaf.NotAfter):
		return refuse("it expired at %s; sign a new one", stamp(c.leaf.NotAfter))
	case now.Before(c.leaf.NotBefore):
		return &notYetValidError{fmt.Sprintf("it is not valid before %s", stamp(c.leaf.NotBefore))}
	}
	return nil
}

// checkUse refuses certificates that were made for something else. One that
// says nothing about its use, as the how-to's openssl lines make it, may be
// used.
func checkUse(_ context.Context, c candidate) error {
	if c.leaf.IsCA {
		return refuse("it is a CA certificate, not a gateway's")
	}
	if uses := c.leaf.ExtKeyUsage; len(uses) > 0 && !slices.Contains(uses, x509.ExtKeyUsageClientAuth) && !slices.Contains(uses, x509.ExtKeyUsageAny) {
		return refuse("its extended key usage does not have clientAuth, so it is not a gateway's")
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// ParseInventory reads an inventory: thing names and certificateIds, a line
// each; # begins a comment. The error names the file, which name is, and the
// line. An inventory that is empty would refuse every gateway for good, and is
// taken for a mistake.
func ParseInventory(name string, data []byte) (map[string]bool, error) {
	known := map[string]bool{}
	n := 0
	for line := range bytes.Lines(data) {
		n++
		line, _, _ = bytes.Cut(line, []byte("#"))
		gateway := string(bytes.TrimSpace(line))
		if gateway == "" {
			continue
		}
		if !certs.ValidThingName(gateway) {
			return nil, fmt.Errorf("%s, line %d: %.200q is neither a thing name nor a certificateId; write one of them on each line", name, n, gateway)
		}
		known[gateway] = true
	}
	if len(known) == 0 {
		return nil, fmt.Errorf("%s names no gateway, and all would be refused; write a thing name or certificateId on each line", name)
	}
	return known, nil
}
