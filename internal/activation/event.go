package activation

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// registeredEvent is what AWS IoT publishes to
// $aws/events/certificates/registered/CAID for each CONNECT of a pending
// certificate (AWS IoT Developer Guide, just-in-time registration).
type registeredEvent struct {
	CertificateID     string                  `json:"certificateId"`
	CACertificateID   string                  `json:"caCertificateId"`
	Timestamp         int64                   `json:"timestamp"` // ms since 1970
	CertificateStatus types.CertificateStatus `json:"certificateStatus"`
	AWSAccountID      string                  `json:"awsAccountId"`
}

// at is when the certificate was seen pending.
func (e *registeredEvent) at() time.Time { return time.UnixMilli(e.Timestamp) }

func (e *registeredEvent) check() error {
	switch {
	case !IsCertificateID(e.CertificateID):
		return fmt.Errorf("%w: certificateId %q is not 64 digits 0-9 a-f", ErrBadEvent, e.CertificateID)
	case !IsCertificateID(e.CACertificateID):
		return fmt.Errorf("%w: caCertificateId %q is not 64 digits 0-9 a-f", ErrBadEvent, e.CACertificateID)
	case e.Timestamp <= 0:
		return fmt.Errorf("%w: timestamp %d is not a time in milliseconds", ErrBadEvent, e.Timestamp)
	}
	return nil
}

// initEvent is the init message of a gateway as the rule on the init topic
// hands it on; see InitSQL.
type initEvent struct {
	CertificateID string  `json:"certificate_id"`
	Replaces      *string `json:"replaces"`
	ClientID      string  `json:"client_id"` // of the connection
	Principal     string  `json:"principal"` // certificateId of the connection

	// malformed is a message of which only Principal, AWS IoT's own word, is
	// there.
	malformed bool
}

// parseInit never fails for what a gateway has written: the message would come
// again and again, and so would a line in the log that is as long as the
// gateway likes.
func parseInit(payload, principal json.RawMessage) (*initEvent, error) {
	var e, sender initEvent
	if err := json.Unmarshal(principal, &sender.Principal); err != nil {
		return nil, err
	}
	typed := json.Unmarshal(payload, &e) == nil
	if typed && IsCertificateID(e.CertificateID) && (e.Replaces == nil || *e.Replaces == "" || IsCertificateID(*e.Replaces)) {
		return &e, nil
	}
	sender.malformed = true
	return &sender, nil
}

// RegisteredSQL is the statement of the rule that hands the events of a CA to
// the function or its queue, in SQL version 2016-03-23.
func RegisteredSQL(caID string) string {
	return "SELECT * FROM '$aws/events/certificates/registered/" + caID + "' WHERE certificateStatus = 'PENDING_ACTIVATION'"
}

// InitSQL is the statement of the rule that hands on the init messages of
// topicFilter, such as init/+, in SQL version 2016-03-23. Who sent a message
// is AWS IoT's word, not the message's.
func InitSQL(topicFilter string) string {
	return "SELECT certificate_id, replaces, clientid() AS client_id, principal() AS principal FROM '" + topicFilter + "'"
}

// shaped is one of the payloads that reach the function. Exactly one field is
// set.
type shaped struct {
	batch      []events.SQSMessage
	registered *registeredEvent
	init       *initEvent
}

// parseEvent tells payloads by their fields.
func parseEvent(payload []byte) (shaped, error) {
	var probe struct {
		Records           json.RawMessage `json:"Records"`
		CertificateStatus json.RawMessage `json:"certificateStatus"`
		Principal         json.RawMessage `json:"principal"`
	}
	if err := json.Unmarshal(payload, &probe); err != nil {
		return shaped{}, fmt.Errorf("%w: %w", ErrBadEvent, err)
	}
	var (
		s   shaped
		err error
	)
	switch {
	case probe.Records != nil:
		s.batch = []events.SQSMessage{} // not nil, where there is none in it
		err = json.Unmarshal(probe.Records, &s.batch)
	case probe.CertificateStatus != nil:
		s.registered = new(registeredEvent)
		if err = json.Unmarshal(payload, s.registered); err == nil {
			err = s.registered.check()
		}
	case probe.Principal != nil:
		s.init, err = parseInit(payload, probe.Principal)
	default:
		return shaped{}, fmt.Errorf("%w: it has neither Records nor certificateStatus nor principal; look at the rule's SQL", ErrBadEvent)
	}
	if errors.Is(err, ErrBadEvent) {
		return shaped{}, err
	}
	if err != nil {
		return shaped{}, fmt.Errorf("%w: %w", ErrBadEvent, err)
	}
	return s, nil
}
