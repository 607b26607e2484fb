package storm

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"

	"github.com/jitr-agent/jitr-agent/internal/activation/activationtest"
)

const policyName = "gateways"

// scene is an emulator with a number of certificates that its own just-in-time
// registration has made pending, each by a CONNECT over TLS.
type scene struct {
	*activationtest.Cloud
	ca       *activationtest.CA
	gateways []activationtest.Gateway
	events   []map[string]any // what the emulator published for each
}

func newScene(t *testing.T, gateways int) *scene {
	t.Helper()
	c := activationtest.Start(t)
	c.CreatePolicy(t, policyName)
	s := &scene{Cloud: c, ca: c.NewCA(t, "Storm CA"), events: make([]map[string]any, gateways)}
	for i := range gateways {
		s.gateways = append(s.gateways, s.ca.Issue(t, fmt.Sprintf("gw-%05d", i)))
	}
	next := make(chan int)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for i := range next {
				payload, err := c.TryConnect(t.Context(), s.gateways[i])
				if err == nil {
					err = json.Unmarshal(payload, &s.events[i])
				}
				if err != nil {
					t.Errorf("%s: %v", s.gateways[i].Name, err)
				}
			}
		})
	}
	for i := range gateways {
		next <- i
	}
	close(next)
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return s
}

// event is the payload for a gateway's CONNECT at a time: the emulator's own,
// with that time in it.
func (s *scene) event(m message) json.RawMessage {
	e := s.events[m.gateway]
	return json.RawMessage(fmt.Sprintf(
		`{"certificateId":%q,"caCertificateId":%q,"timestamp":%d,"certificateStatus":%q,"awsAccountId":%q,"certificateRegistrationTimestamp":"%d"}`,
		e["certificateId"], e["caCertificateId"], m.at.UnixMilli(), e["certificateStatus"], e["awsAccountId"], int64(e["timestamp"].(float64))))
}
