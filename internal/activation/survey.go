package activation

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"go.uber.org/zap"
)

const (
	// surveyAfter is how many certificates have to be found ACTIVE already, a
	// DescribeCertificate wasted on each, before a survey is worth its calls:
	// then another instance is at work on the same queue.
	surveyAfter = 5
	// surveyPage is the most that a page of ListCertificatesByCA can have (AWS
	// IoT API reference).
	surveyPage = 250
)

// surveyDue says whether a survey is worth its calls, and begins to count anew
// if so.
func (a *Activator) surveyDue() bool {
	if a.foreign.Load() < surveyAfter {
		return false
	}
	a.foreign.Store(0)
	return true
}

// survey learns what other instances have decided. Each instance of the
// function has a memory of its own, and the registry is the one they share: a
// page of it says of 250 certificates what DescribeCertificate says of one,
// from a quota that nothing else here needs. Two instances without it pay for
// most certificates twice.
//
// It reads the newest certificates first, and stops when it has seen all of
// wanted, or has made as many calls as it could save. It decides nothing:
// where it fails or the registry lags behind, an event costs the call that it
// would have cost anyway.
func (a *Activator) survey(ctx context.Context, caID string, wanted map[string]bool) {
	missing := len(wanted)
	in := &iot.ListCertificatesByCAInput{CaCertificateId: &caID, PageSize: aws.Int32(surveyPage)}
	for range len(wanted) {
		at := time.Now()
		out, err := a.api.ListCertificatesByCA(ctx, in)
		if err != nil {
			a.log.Warn("What other instances have activated is not known.", zap.String("caCertificateId", caID), zap.Error(err))
			return
		}
		for _, c := range out.Certificates {
			id := aws.ToString(c.CertificateId)
			if wanted[id] {
				missing--
			}
			switch c.Status {
			case types.CertificateStatusPendingActivation:
			case types.CertificateStatusActive:
				a.memory.learn(id, AlreadyActive, at)
			default:
				a.memory.learn(id, Stopped, at)
			}
		}
		if missing <= 0 || aws.ToString(out.NextMarker) == "" {
			return
		}
		in.Marker = out.NextMarker
	}
}
