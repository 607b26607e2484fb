package activation

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"

	"github.com/jitr-agent/jitr-agent/internal/certs"
)

const (
	// maxCRL is the largest list that is read, in bytes: some 400,000
	// entries.
	maxCRL = 16 << 20
	// crlFetch is how long reading a list from its URL may take.
	crlFetch = 10 * time.Second
	// crlAge is how old a list from a URL may be before it is read again.
	crlAge = 10 * time.Minute
	// crlRetry is how long a URL that could not be read is left alone: it
	// costs crlFetch each time.
	crlRetry = time.Minute
)

// revocations are the CRLs of all CAs. A certificate is let in only where a
// list of its own CA says nothing about it, and that list is signed by the CA
// and current. A list that is missing, broken or too old is no fault of the
// gateway: nobody is refused for it, and nobody is let in. A server that does
// not answer holds up only its own CA; until its list was read for the first
// time nobody knows whose it is, and it holds up all for crlFetch each crlRetry.
// Safe for concurrent use.
type revocations struct {
	api     API
	http    *http.Client
	sources []*crlSource

	mu  sync.Mutex                   // also while a CA is asked for: others would only ask too
	cas map[string]*x509.Certificate // by certificateId
}

type crlSource struct {
	place string // a path or an https URL
	list  atomic.Pointer[x509.RevocationList]

	mu      sync.Mutex // also while the list is read: others would only read it too
	triedAt time.Time  // the last attempt to read it
	failed  error      // what came of that
}

// newRevocations reads the files; URLs are read when they are needed.
func newRevocations(places []string, api API) (*revocations, error) {
	r := &revocations{api: api, http: &http.Client{Timeout: crlFetch}, cas: map[string]*x509.Certificate{}}
	for _, place := range places {
		s := &crlSource{place: place}
		if !isURL(place) {
			data, err := os.ReadFile(place)
			if err == nil {
				var list *x509.RevocationList
				list, err = parseCRL(data)
				s.list.Store(list)
			}
			if err != nil {
				return nil, fmt.Errorf("%w: %s: %s: %w", ErrBadConfig, envCRLs, place, err)
			}
		}
		r.sources = append(r.sources, s)
	}
	return r, nil
}

func parseCRL(data []byte) (*x509.RevocationList, error) {
	if block, _ := pem.Decode(data); block != nil {
		data = block.Bytes
	}
	list, err := x509.ParseRevocationList(data)
	if err != nil {
		return nil, fmt.Errorf("it is not a CRL: %w", err)
	}
	return list, nil
}

func (r *revocations) check(ctx context.Context, c candidate) error {
	list, err := r.listOf(ctx, c.caID)
	if err != nil {
		return fmt.Errorf("look whether the certificate is revoked: %w", err)
	}
	for _, e := range list.RevokedCertificateEntries {
		if e.SerialNumber.Cmp(c.leaf.SerialNumber) == 0 {
			return refuse("its CA revoked it at %s", stamp(e.RevocationTime))
		}
	}
	return nil
}

// listOf is the newest current list that the CA has signed. Other CAs' lists
// are read again only where none is: their place may have become this CA's.
func (r *revocations) listOf(ctx context.Context, caID string) (*x509.RevocationList, error) {
	ca, err := r.ca(ctx, caID)
	if err != nil {
		return nil, err
	}
	var own, others []*crlSource
	for _, s := range r.sources {
		if list := s.list.Load(); list == nil || bytes.Equal(list.RawIssuer, ca.RawSubject) {
			own = append(own, s)
		} else {
			others = append(others, s)
		}
	}
	list, err := r.newest(ctx, ca, own)
	if list == nil {
		var more error
		list, more = r.newest(ctx, ca, others)
		err = errors.Join(err, more)
	}
	if list == nil {
		return nil, errors.Join(err, fmt.Errorf("no current CRL in %s is signed by the CA %s", envCRLs, caID))
	}
	return list, nil
}

// newest may give an error beside a list: of the sources that have none.
func (r *revocations) newest(ctx context.Context, ca *x509.Certificate, sources []*crlSource) (*x509.RevocationList, error) {
	var (
		best *x509.RevocationList
		errs []error
	)
	for _, s := range sources {
		if err := r.refresh(ctx, s); err != nil {
			errs = append(errs, err)
		}
		list := s.list.Load()
		if list == nil || !bytes.Equal(list.RawIssuer, ca.RawSubject) || list.CheckSignatureFrom(ca) != nil {
			continue // another CA's
		}
		if !list.NextUpdate.IsZero() && time.Now().After(list.NextUpdate) {
			errs = append(errs, fmt.Errorf("%s was good until %s; make a new one (jitrctl ca crl) and put it there", s.place, stamp(list.NextUpdate)))
			continue
		}
		if best == nil || list.ThisUpdate.After(best.ThisUpdate) {
			best = list
		}
	}
	return best, errors.Join(errs...)
}

// refresh reads a list from its URL again when it has become old. Where that
// fails the one we have goes on until it ends.
func (r *revocations) refresh(ctx context.Context, s *crlSource) error {
	if !isURL(s.place) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	wait := crlAge
	if s.failed != nil {
		wait = crlRetry
	}
	if !s.triedAt.IsZero() && time.Since(s.triedAt) < wait {
		return s.failed
	}
	list, err := r.fetch(ctx, s.place)
	if err != nil {
		err = fmt.Errorf("read %s: %w", s.place, err)
		if ctx.Err() != nil { // the time of this invocation is over, which says nothing about the server
			return err
		}
	} else {
		s.list.Store(list)
	}
	s.triedAt, s.failed = time.Now(), err
	return err
}

func (r *revocations) fetch(ctx context.Context, place string) (*x509.RevocationList, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, place, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := r.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server says %s", resp.Status)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxCRL+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxCRL {
		return nil, fmt.Errorf("it is larger than %d MiB", maxCRL>>20)
	}
	return parseCRL(data)
}

// ca is the CA certificate as AWS IoT has it registered; it never changes.
func (r *revocations) ca(ctx context.Context, id string) (*x509.Certificate, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ca, ok := r.cas[id]; ok {
		return ca, nil
	}
	out, err := r.api.DescribeCACertificate(ctx, &iot.DescribeCACertificateInput{CertificateId: &id})
	if err != nil {
		return nil, fmt.Errorf("describe the CA certificate %s: %w", id, err)
	}
	if out.CertificateDescription == nil {
		return nil, fmt.Errorf("describe the CA certificate %s: the answer has no description", id)
	}
	chain, err := certs.ParseChain([]byte(aws.ToString(out.CertificateDescription.CertificatePem)))
	if err != nil {
		return nil, fmt.Errorf("read the CA certificate %s: %w", id, err)
	}
	r.cas[id] = chain[0]
	return chain[0], nil
}
