package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/jitr-agent/jitr-agent/internal/ca"
	"github.com/jitr-agent/jitr-agent/pkg/mqtt"
)

// row is one line of the table.
type row struct{ situation, client, result string }

// measurements are made in an order in which each finds what it needs: first
// without anybody who activates, then with the function.
type measurements struct {
	*account

	cut  time.Duration // how long to wait for the end of a session
	rows []row
	last map[string]time.Time // the last CONNECT of a client id
}

func (m *measurements) all(ctx context.Context) error {
	m.last = map[string]time.Time{}
	if err := m.register(ctx); err != nil {
		return err
	}
	for _, part := range []func(context.Context) error{m.pending, m.chains, m.strangers, m.byHand, m.byFunction} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (m *measurements) add(situation, client, format string, args ...any) {
	r := row{situation, client, fmt.Sprintf(format, args...)}
	m.rows = append(m.rows, r)
	fmt.Printf("%s (%s): %s\n", r.situation, r.client, r.result)
}

func (m *measurements) device(ctx context.Context, name string) (*device, error) {
	return issue(ctx, m.ca, "jitr-test-"+name, 0)
}

// connect is try, not more often than AWS lets a client id connect.
func (m *measurements) connect(ctx context.Context, p probe) (outcome, error) {
	if p.clientID == "" {
		p.clientID = p.device.name
	}
	if err := m.pace(ctx, p.clientID); err != nil {
		return outcome{}, err
	}
	return m.try(ctx, p)
}

func (m *measurements) pace(ctx context.Context, clientID string) error {
	const interval = 1200 * time.Millisecond // AWS takes one CONNECT a second of a client id
	err := wait(ctx, interval-time.Since(m.last[clientID]))
	m.last[clientID] = time.Now()
	return err
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(max(0, d)):
		return nil
	}
}

// measure makes a probe, and a row of its outcome.
func (m *measurements) measure(ctx context.Context, situation string, p probe) error {
	o, err := m.connect(ctx, p)
	if err != nil {
		return err
	}
	m.add(situation, p.client(), "%s", o)
	return nil
}

// pending: nobody activates yet.
func (m *measurements) pending(ctx context.Context) error {
	five, err := m.device(ctx, "pending-5")
	if err != nil {
		return err
	}
	old, err := m.device(ctx, "pending-311")
	if err != nil {
		return err
	}
	hello := probe{device: five, mute: true}
	if _, err := m.connect(ctx, hello); err != nil {
		return err
	}
	if err := m.registered(ctx, "a TLS handshake and no CONNECT", hello); err != nil {
		return err
	}
	for _, s := range []string{"unknown certificate, first CONNECT", "pending"} {
		if err := errors.Join(m.measure(ctx, s, probe{device: five}), m.measure(ctx, s, probe{device: old, v311: true})); err != nil {
			return err
		}
	}
	return m.measure(ctx, "pending", probe{device: five, tls13: true})
}

// registered is a row that says whether the probe's certificate is in the
// registry now.
func (m *measurements) registered(ctx context.Context, situation string, p probe) error {
	if err := wait(ctx, m.settle); err != nil {
		return err
	}
	d, err := m.describe(ctx, p.device.id)
	if err != nil {
		return err
	}
	result := "not registered"
	if d != nil {
		result = "registered, " + string(d.Status)
	}
	m.add(situation, p.client(), "%s", result)
	return nil
}

// chains: what a certificate needs with it to be registered.
func (m *measurements) chains(ctx context.Context) error {
	for _, c := range []struct {
		situation       string
		leafOnly, noSNI bool
	}{
		{"first CONNECT without the CA behind the certificate", true, false},
		{"first CONNECT with the CA, without SNI", false, true},
		{"first CONNECT without the CA, without SNI", true, true},
	} {
		d, err := m.device(ctx, fmt.Sprintf("chain-%d", len(m.rows)))
		if err != nil {
			return err
		}
		p := probe{device: d, leafOnly: c.leafOnly, noSNI: c.noSNI}
		if _, err := m.connect(ctx, p); err != nil {
			return err
		}
		if err := m.registered(ctx, c.situation, p); err != nil {
			return err
		}
	}
	return nil
}

// strangers: certificates that can never be let in.
func (m *measurements) strangers(ctx context.Context) error {
	other, err := ca.Init(ctx, filepath.Join(m.dir, "other"), ca.InitOptions{CommonName: "not registered", Algorithm: ca.Algorithms()[0], Days: 1, Now: time.Now()})
	if err != nil {
		return err
	}
	stranger, err := issue(ctx, other, "jitr-test-stranger", 0)
	if err != nil {
		return err
	}
	expired, err := issue(ctx, m.ca, "jitr-test-expired", 2)
	if err != nil {
		return err
	}
	for _, p := range []probe{{device: stranger}, {device: stranger, v311: true}, {device: stranger, tls13: true}} {
		if err := m.measure(ctx, "the CA is not registered", p); err != nil {
			return err
		}
	}
	return m.measure(ctx, "expired certificate", probe{device: expired})
}

// byHand: a certificate that we activate ourselves, and one that waits.
func (m *measurements) byHand(ctx context.Context) error {
	d, err := m.device(ctx, "active")
	if err != nil {
		return err
	}
	if _, err := m.connect(ctx, probe{device: d}); err != nil {
		return err
	}
	at, err := m.untilKnown(ctx, d)
	if err != nil {
		return err
	}
	if err := errors.Join(m.setStatus(ctx, d.id, types.CertificateStatusActive), wait(ctx, m.settle)); err != nil {
		return err
	}
	for _, p := range []probe{{device: d}, {device: d, v311: true}} {
		if err := m.measure(ctx, "ACTIVE without a policy", p); err != nil {
			return err
		}
	}
	if err := m.allow(ctx, aws.ToString(at.CertificateArn)); err != nil {
		return err
	}
	s, err := m.session(ctx, d)
	if err != nil {
		return err
	}
	defer s.Close()
	return m.takeOver(ctx, d, s)
}

// takeOver: a pending certificate connects with the client id of a session.
func (m *measurements) takeOver(ctx context.Context, d *device, s *mqtt.Session) error {
	waiting, err := m.device(ctx, "thief")
	if err != nil {
		return err
	}
	p := probe{device: waiting, clientID: d.name}
	o, err := m.connect(ctx, p)
	if err != nil {
		return err
	}
	m.add("pending, with the client id of a session", p.client(), "%s", o)
	client := "MQTT 5, TLS 1.2"
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.Done():
		m.add("the session whose client id that was", client, "ended: %v", s.Err())
	case <-time.After(m.settle):
		code, err := s.Publish(ctx, mqtt.Message{Topic: "jitr-test-aws/still-there", Payload: []byte("{}")})
		if err != nil {
			m.add("the session whose client id that was", client, "ended at its next publish: %v", err)
			return ctx.Err()
		}
		m.add("the session whose client id that was", client, "goes on; PUBACK 0x%02x", code)
	}
	return nil
}

// byFunction: the whole way, as the agent goes it.
func (m *measurements) byFunction(ctx context.Context) error {
	if err := m.deploy(ctx); err != nil {
		return err
	}
	cold, err := m.device(ctx, "cold")
	if err != nil {
		return err
	}
	warm, err := m.device(ctx, "warm")
	if err != nil {
		return err
	}
	s, err := m.firstConnect(ctx, "first CONNECT, function not started yet", cold)
	if err != nil {
		return err
	}
	s.Close()
	if s, err = m.firstConnect(ctx, "first CONNECT, function warm", warm); err != nil {
		return err
	}
	defer s.Close()
	if err := m.inactive(ctx, warm, s); err != nil {
		return err
	}
	if err := errors.Join(m.setStatus(ctx, cold.id, types.CertificateStatusRevoked), m.untilRefused(ctx, cold)); err != nil {
		return err
	}
	for _, p := range []probe{{device: cold}, {device: cold, v311: true}} {
		if err := m.measure(ctx, "REVOKED", p); err != nil {
			return err
		}
	}
	return nil
}

// firstConnect goes from the first CONNECT to the init's PUBACK.
func (m *measurements) firstConnect(ctx context.Context, situation string, d *device) (*mqtt.Session, error) {
	begin := time.Now()
	connects, err := m.untilActive(ctx, d)
	if err != nil {
		return nil, err
	}
	active := time.Since(begin)
	s, err := m.session(ctx, d)
	if err != nil {
		return nil, err
	}
	online := time.Since(begin)
	code, err := s.Publish(ctx, mqtt.Message{Topic: "init/" + d.name, Payload: []byte(`{"schema":1}`), ContentType: "application/json"})
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("publish the init of %s: %w", d.name, err)
	}
	m.add(situation, "MQTT 5, TLS 1.2", "ACTIVE after %s and CONNECT %d, CONNACK 0 after %s, the init's PUBACK 0x%02x", round(active), connects, round(online), code)
	return s, nil
}

// untilActive connects again and again until the certificate is ACTIVE: a rule
// that was just made may not see the first event.
func (m *measurements) untilActive(ctx context.Context, d *device) (connects int, err error) {
	const (
		patience = 2 * time.Minute
		again    = 5 * time.Second
		look     = 200 * time.Millisecond
	)
	for begin := time.Now(); time.Since(begin) < patience; {
		if _, err := m.connect(ctx, probe{device: d}); err != nil {
			return connects, err
		}
		connects++
		for tried := time.Now(); time.Since(tried) < again; {
			at, err := m.describe(ctx, d.id)
			if err != nil || at != nil && at.Status == types.CertificateStatusActive {
				return connects, err
			}
			if err := wait(ctx, look); err != nil {
				return connects, err
			}
		}
	}
	return connects, fmt.Errorf("the certificate of %s is not ACTIVE after %s and %d CONNECTs", d.name, round(patience), connects)
}

// session connects until it is let in: what was changed is not known to all of
// AWS at once.
func (m *measurements) session(ctx context.Context, d *device) (*mqtt.Session, error) {
	const patience = time.Minute
	for begin := time.Now(); ; {
		if err := m.pace(ctx, d.name); err != nil {
			return nil, err
		}
		c, _, err := m.dial(ctx, probe{device: d})
		if err == nil {
			var s *mqtt.Session
			s, err = mqtt.Connect(ctx, c, mqtt.Config{ClientID: d.name, KeepAlive: time.Minute, Stall: dialLimit})
			if err == nil {
				return s, nil
			}
		}
		if ctx.Err() != nil || time.Since(begin) > patience {
			return nil, fmt.Errorf("%s is not let in: %w", d.name, err)
		}
	}
}

// inactive: a session whose certificate is taken out of service, and the next
// CONNECT.
func (m *measurements) inactive(ctx context.Context, d *device, s *mqtt.Session) error {
	if err := m.setStatus(ctx, d.id, types.CertificateStatusInactive); err != nil {
		return err
	}
	begin := time.Now()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.Done():
		m.add("INACTIVE, the session that stands", "MQTT 5, TLS 1.2", "%v, after %s", s.Err(), round(time.Since(begin)))
	case <-time.After(m.cut):
		m.add("INACTIVE, the session that stands", "MQTT 5, TLS 1.2", "stands after %s", round(m.cut))
	}
	if err := m.untilRefused(ctx, d); err != nil {
		return err
	}
	for _, p := range []probe{{device: d}, {device: d, v311: true}, {device: d, tls13: true}} {
		if err := m.measure(ctx, "INACTIVE", p); err != nil {
			return err
		}
	}
	return nil
}

// untilRefused waits until a certificate that was taken out of service is not
// let in any more.
func (m *measurements) untilRefused(ctx context.Context, d *device) error {
	const patience = 2 * time.Minute
	for begin := time.Now(); ; {
		o, err := m.connect(ctx, probe{device: d})
		if err != nil {
			return err
		}
		if o.how != accepted {
			return nil
		}
		if time.Since(begin) > patience {
			return fmt.Errorf("%s was taken out of service and is let in after %s", d.name, round(patience))
		}
	}
}

// untilKnown waits until a certificate is in the registry.
func (m *measurements) untilKnown(ctx context.Context, d *device) (*types.CertificateDescription, error) {
	const patience = time.Minute
	for begin := time.Now(); ; {
		at, err := m.describe(ctx, d.id)
		if at != nil || err != nil {
			return at, err
		}
		if time.Since(begin) > patience {
			return nil, fmt.Errorf("%s was not registered by its CONNECT", d.name)
		}
		if err := wait(ctx, 200*time.Millisecond); err != nil {
			return nil, err
		}
	}
}
