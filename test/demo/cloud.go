package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/certs"
)

// rest asks the emulator's control plane, as curl would.
func (st *stage) rest(ctx context.Context, method, path string, body, into any) error {
	var reader io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return err
		}
		reader = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, st.api+path, reader)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s: %s", method, path, answer.Status, bytes.TrimSpace(data))
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(data, into)
}

// certificate is the emulator's own record of a certificate.
type certificate struct {
	FirstSeenAt         time.Time `json:"firstSeenAt"`
	ActivatedAt         time.Time `json:"activatedAt"`
	AcceptedAt          time.Time `json:"acceptedAt"`
	RefusedWhilePending int       `json:"refusedWhilePending"`
}

func (st *stage) certificate(ctx context.Context, id string) (certificate, error) {
	var c certificate
	return c, st.rest(ctx, http.MethodGet, "/sim/certificates/"+id, nil, &c)
}

// untilActive waits until the registry says ACTIVE.
func (st *stage) untilActive(ctx context.Context, s *summary) (certificate, error) {
	var described struct {
		CertificateDescription struct {
			Status string `json:"status"`
		} `json:"certificateDescription"`
	}
	err := until(ctx, patience, "activation", func() bool {
		err := st.rest(ctx, http.MethodGet, "/certificates/"+s.CertificateID, nil, &described)
		return err == nil && described.CertificateDescription.Status == "ACTIVE"
	})
	cert, seen := st.certificate(ctx, s.CertificateID)
	switch {
	case ctx.Err() != nil:
		return cert, ctx.Err()
	case err != nil && described.CertificateDescription.Status == "PENDING_ACTIVATION":
		s.RefusedWhilePending, s.Attempts = cert.RefusedWhilePending, cert.RefusedWhilePending
		return cert, fmt.Errorf("still pending after %.0f s", patience.Seconds())
	case err != nil:
		return cert, errors.New("the certificate never reached the registry")
	}
	return cert, seen
}

const shadowPath = "/things/" + thing + "/shadow"

// desire sets the telemetry interval in the shadow's desired state.
func (st *stage) desire(ctx context.Context, interval string) error {
	return st.rest(ctx, http.MethodPost, shadowPath, json.RawMessage(
		`{"state":{"desired":{"telemetry":{"interval":"`+interval+`"}}}}`), nil)
}

// untilReported waits until the gateway reports the interval, and returns the
// version of the document.
func (st *stage) untilReported(ctx context.Context, interval string) (int64, error) {
	var doc struct {
		State struct {
			Reported struct {
				Telemetry struct {
					Interval string `json:"interval"`
				} `json:"telemetry"`
			} `json:"reported"`
		} `json:"state"`
		Version int64 `json:"version"`
	}
	err := until(ctx, patience, "the reported interval", func() bool {
		return st.rest(ctx, http.MethodGet, shadowPath, nil, &doc) == nil && doc.State.Reported.Telemetry.Interval == interval
	})
	return doc.Version, err
}

// certificateIDs are the ids of the certificates in a file.
func certificateIDs(file string) ([2]string, error) {
	var ids [2]string
	data, err := os.ReadFile(file)
	if err != nil {
		return ids, err
	}
	chain, err := certs.ParseChain(data)
	if err != nil {
		return ids, err
	}
	if len(chain) < 2 {
		return ids, fmt.Errorf("%s holds no CA certificate", file)
	}
	return [2]string{certs.ID(chain[0]), certs.ID(chain[1])}, nil
}
