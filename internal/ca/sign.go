package ca

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/ca/inventory"
	"github.com/jitr-agent/jitr-agent/internal/certs"
)

// DefaultDeviceDays is how long a device certificate lives: five years. AWS
// IoT takes a certificate out of service by its status, not by its end; the
// end is what silences a gateway that nobody can reach. Five years leave room
// for a renewal and fit into the CA's ten.
const DefaultDeviceDays = 1825

// SignOptions says how to sign a request.
type SignOptions struct {
	Name        string    // replaces the request's common name; empty: keep it
	Days        int       // validity, such as DefaultDeviceDays; it ends with the CA's at the latest
	Renew       bool      // make a new certificate though there is one for this request
	RenewBefore time.Time // make a new one where the one there is ends before that; zero: never
	Now         time.Time // the time of signing
}

// Issued is a signed certificate.
type Issued struct {
	Chain  []*x509.Certificate // the device certificate, then the CA's chain
	Again  bool                // it was made before, and this is that one
	Capped bool                // it ends earlier than asked for, with the CA
}

// Sign makes a device certificate for the request, which ParseRequest has
// checked. The same request, that is the same key under the same subject,
// gives the same certificate again, byte for byte: a command that was cut off
// can be repeated, and the certificateId stays the one that AWS knows. Where
// that certificate has expired or was revoked, or another CA was in the
// directory then, the error wraps ErrIssuedBefore.
//
// A key has one name. Under another one it is ErrKeyReused while a valid
// certificate has it: who holds such a key can pass for both. One that was
// revoked as compromised is ErrCompromised for good.
//
// Of the request only key and subject are used. What it asks for by
// extensions (other names, CA:TRUE) is not granted.
func (c *CA) Sign(ctx context.Context, csr *x509.CertificateRequest, o SignOptions) (*Issued, error) {
	j, err := newJob(csr, o)
	if err != nil {
		return nil, err
	}
	key, err := c.signer(o.Now)
	if err != nil {
		return nil, err
	}
	st, err := c.open(ctx, o.Now)
	if err != nil {
		return nil, err
	}
	defer st.Close()
	if err := c.signJobs(st, key, []*job{j}, o.Now); err != nil {
		return nil, err
	}
	return j.issued, j.err
}

// job is one request on its way through signJobs.
type job struct {
	spki, subject []byte
	pub           crypto.PublicKey
	name          string
	end           time.Time
	renew         bool
	renewBefore   time.Time

	same   *job // an earlier one of these jobs asks for the same
	issued *Issued
	err    error // why it is refused; the others go on
}

func newJob(csr *x509.CertificateRequest, o SignOptions) (*job, error) {
	end, err := endOf(o.Now, o.Days)
	if err != nil {
		return nil, err
	}
	subject, name, err := subjectOf(csr, o.Name)
	if err != nil {
		return nil, err
	}
	return &job{
		spki: csr.RawSubjectPublicKeyInfo, subject: subject, pub: csr.PublicKey, name: name,
		end: end, renew: o.Renew, renewBefore: o.RenewBefore,
	}, nil
}

func (j *job) request() inventory.Request { return inventory.RequestOf(j.spki, j.subject) }

// signJobs answers each job by a certificate or an error, and records the new
// certificates in one transaction. What it returns itself concerns them all:
// then none is signed, whatever the jobs say.
func (c *CA) signJobs(st *store, key crypto.Signer, jobs []*job, now time.Time) error {
	if err := st.View(func(tx *inventory.Tx) error { return c.decide(tx, jobs, now) }); err != nil {
		return err
	}
	failed := make([]error, len(jobs))
	inParallel(len(jobs), func(i int) {
		if j := jobs[i]; j.issued == nil && j.err == nil && j.same == nil {
			j.issued, failed[i] = c.issue(key, j, now)
		}
	})
	for _, err := range failed {
		if err != nil {
			return err // the CA's own fault: key or chain
		}
	}
	err := st.Update(func(tx *inventory.Tx) error {
		for _, j := range jobs {
			if j.issued == nil || j.issued.Again {
				continue
			}
			if _, err := tx.Add(j.issued.Chain[0], inventory.Signed, now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return withRoom(err)
	}
	for _, j := range jobs {
		if j.same != nil {
			j.err = j.same.err
			if j.same.issued != nil {
				j.issued = &Issued{Chain: j.same.issued.Chain, Again: true}
			}
		}
	}
	return nil
}

// decide finds the certificates that exist and the requests to refuse. What
// it leaves open is to be signed.
func (c *CA) decide(tx *inventory.Tx, jobs []*job, now time.Time) error {
	first := make(map[inventory.Request]*job, len(jobs))
	named := make(map[inventory.Key]string, len(jobs))
	for _, j := range jobs {
		if earlier := first[j.request()]; earlier != nil {
			j.same = earlier
			continue
		}
		first[j.request()] = j
		before, err := tx.ByRequest(j.request())
		if err != nil {
			return err
		}
		if before != nil && !j.renew && !before.NotAfter.Before(j.renewBefore) {
			leaf, err := tx.Certificate(before.Serial)
			if err != nil {
				return err
			}
			if j.err = c.checkIssued(before, leaf, now); j.err == nil {
				j.issued = &Issued{Chain: certs.Append([]*x509.Certificate{leaf}, c.chain), Again: true}
			}
			continue
		}
		key := inventory.KeyOf(j.spki)
		owners, err := tx.ByKey(key)
		if err != nil {
			return err
		}
		if j.err = checkKeyUse(owners, named[key], j.name, now); j.err == nil {
			named[key] = j.name
		}
	}
	return nil
}

// checkKeyUse says why a key must not get a certificate under name: owners
// are its certificates so far, pending is the name of one that is about to be
// made.
func checkKeyUse(owners []*inventory.Entry, pending, name string, now time.Time) error {
	for _, e := range owners {
		if e.State(now) == inventory.Revoked && e.Reason == inventory.KeyCompromise {
			return fmt.Errorf("%w, at %s, as %q (serial number %s); make a new key on the gateway", ErrCompromised, stamp(*e.RevokedAt), e.Name, e.Serial)
		}
		if e.State(now) == inventory.Valid && e.Name != name {
			return reused(e.Name, name)
		}
	}
	if pending != "" && pending != name {
		return reused(pending, name)
	}
	return nil
}

func reused(owner, name string) error {
	return fmt.Errorf("%w, %q, and with one key for two each can pass for the other; make a new key for %q with 'jitr-agent csr' on it, or revoke the certificate of %q first where the gateway gets a new name",
		ErrKeyReused, owner, name, owner)
}

// issue makes the certificate. Nobody has it until it is in the inventory.
func (c *CA) issue(key crypto.Signer, j *job, now time.Time) (*Issued, error) {
	template, err := c.leafTemplate(j.pub, now, j.end)
	if err != nil {
		return nil, err
	}
	template.RawSubject = j.subject
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	leaf, err := create(template, c.Certificate(), j.pub, key)
	if err != nil {
		return nil, err
	}
	chain := certs.Append([]*x509.Certificate{leaf}, c.chain)
	if err := certs.CheckChain(chain); err != nil {
		return nil, err // ca.crt holds a chain that does not hold together
	}
	return &Issued{Chain: chain, Capped: leaf.NotAfter.Before(j.end.Truncate(time.Second))}, nil
}

// checkIssued says why a certificate made earlier must not be handed out.
func (c *CA) checkIssued(e *inventory.Entry, leaf *x509.Certificate, now time.Time) error {
	switch e.State(now) {
	case inventory.Revoked:
		return fmt.Errorf("%w: it was revoked at %s (%s); make a new one with --renew", ErrIssuedBefore, stamp(*e.RevokedAt), e.Reason)
	case inventory.Expired:
		return fmt.Errorf("%w: it expired at %s; make a new one with --renew", ErrIssuedBefore, stamp(e.NotAfter))
	case inventory.Valid:
	}
	if err := certs.CheckChain(certs.Append([]*x509.Certificate{leaf}, c.chain)); err != nil {
		return fmt.Errorf("%w: another CA, %q, signed it; make a new one with --renew", ErrIssuedBefore, leaf.Issuer.String())
	}
	return nil
}
