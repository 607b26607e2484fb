package iotcore

import (
	"slices"
	"sync"
	"time"
)

// Attempt is the record of one connection to the data plane.
type Attempt struct {
	At                 time.Time `json:"at"` // when the outcome was known
	Remote             string    `json:"remote"`
	TLSVersion         string    `json:"tlsVersion,omitempty"`
	SNI                string    `json:"sni,omitempty"`
	ClientCertificates int       `json:"clientCertificates"` // in the presented chain
	CertificateID      string    `json:"certificateId,omitempty"`
	ClientID           string    `json:"clientId,omitempty"`
	ProtocolVersion    int       `json:"protocolVersion,omitempty"` // 3, 4 or 5; 0: no CONNECT
	Outcome            Outcome   `json:"outcome"`
	Detail             string    `json:"detail,omitempty"`
}

// attempts remembers the newest connection attempts. It is safe for
// concurrent use.
type attempts struct {
	mu   sync.Mutex
	list []Attempt
	tell func(Attempt)
}

func (a *attempts) add(one Attempt) {
	a.mu.Lock()
	if len(a.list) == maxAttempts {
		a.list = slices.Delete(a.list, 0, maxAttempts/4) // seldom, so that it costs little
	}
	a.list = append(a.list, one)
	a.mu.Unlock()
	if a.tell != nil {
		a.tell(one)
	}
}

func (a *attempts) all() []Attempt {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.list)
}

// Story is what the emulator observed of one certificate: what a test needs
// to judge a device's just-in-time registration from outside. Times that have
// not come are null.
type Story struct {
	CertificateID       string     `json:"certificateId"`
	Status              string     `json:"status"`
	CACertificateID     string     `json:"caCertificateId,omitempty"`
	FirstSeenAt         *time.Time `json:"firstSeenAt"`
	ActivatedAt         *time.Time `json:"activatedAt"`
	AcceptedAt          *time.Time `json:"acceptedAt"` // first CONNACK 0
	RefusedWhilePending int        `json:"refusedWhilePending"`
}

func (c certificateRecord) story() Story {
	known := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		return &t
	}
	return Story{
		CertificateID: c.ID, Status: string(c.Status), CACertificateID: c.CAID,
		FirstSeenAt: known(c.CreatedAt), ActivatedAt: known(c.ActivatedAt), AcceptedAt: known(c.AcceptedAt),
		RefusedWhilePending: c.Refused,
	}
}
