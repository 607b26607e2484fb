// Package activationtest gives tests certificates that are pending for real:
// an emulator (internal/iotcore), CAs that are registered there, and gateways
// whose CONNECT over TLS it has seen and turned away.
package activationtest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/eclipse/paho.golang/packets"

	"github.com/jitr-agent/jitr-agent/internal/certs"
	"github.com/jitr-agent/jitr-agent/internal/iotcore"
)

// Cloud is a running emulator that activates nothing by itself. Safe for
// concurrent use.
type Cloud struct {
	*iotcore.Server
	roots *x509.CertPool

	mu     sync.Mutex
	events map[string]json.RawMessage // the latest, by certificateId
	told   chan struct{}              // closed and made anew at each event
}

// Start starts an emulator that ends with the test.
func Start(t testing.TB) *Cloud {
	t.Helper()
	server, err := iotcore.New(t.Context(), iotcore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the emulator: %v", err)
		}
	})
	c := &Cloud{Server: server, roots: x509.NewCertPool(), events: map[string]json.RawMessage{}, told: make(chan struct{})}
	c.roots.AppendCertsFromPEM(server.ServerCAPEM())
	server.Observe(c.observe)
	return c
}

func (c *Cloud) observe(m iotcore.Message) {
	if !strings.HasPrefix(m.Topic, "$aws/events/certificates/registered/") {
		return
	}
	var e struct{ CertificateID string }
	if json.Unmarshal(m.Payload, &e) != nil {
		return // TryConnect says that there is none
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events[e.CertificateID] = append(json.RawMessage{}, m.Payload...)
	close(c.told)
	c.told = make(chan struct{})
}

// Client is the SDK's client for the emulator; through may be nil.
func (c *Cloud) Client(through aws.HTTPClient, options ...func(*iot.Options)) *iot.Client {
	if through == nil {
		through = http.DefaultClient
	}
	return iot.New(iot.Options{
		Region: "us-east-1", BaseEndpoint: aws.String("http://" + c.APIAddr()), HTTPClient: through,
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
	}, options...)
}

// CreatePolicy makes a policy that allows everything.
func (c *Cloud) CreatePolicy(t testing.TB, name string) {
	t.Helper()
	_, err := c.Client(nil).CreatePolicy(t.Context(), &iot.CreatePolicyInput{
		PolicyName:     &name,
		PolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}`),
	})
	if err != nil {
		t.Fatal(err)
	}
}

// CA is a registered CA.
type CA struct {
	ID   string // certificateId
	Cert *x509.Certificate
	Key  *ecdsa.PrivateKey

	mu     sync.Mutex
	serial int64
}

// Validity of what the CA signs, and of itself. It has room for the virtual
// time of testing/synctest, which begins in 2000.
func validity() (from, to time.Time) {
	return time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2049, 1, 1, 0, 0, 0, 0, time.UTC)
}

// NewCA makes and registers a CA.
func (c *Cloud) NewCA(t testing.TB, name string) *CA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	from, to := validity()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: to, SerialNumber: big.NewInt(1),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	ca := &CA{Key: key, serial: 1}
	if ca.Cert, err = sign(template, template, key, key); err != nil {
		t.Fatal(err)
	}
	if ca.ID, err = c.RegisterCA(certs.EncodeChain([]*x509.Certificate{ca.Cert})); err != nil {
		t.Fatal(err)
	}
	return ca
}

func sign(template, parent *x509.Certificate, key, by *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// Gateway is a device certificate.
type Gateway struct {
	ID   string // certificateId
	Name string // common name
	Leaf *x509.Certificate

	chain tls.Certificate
}

// Issue signs a certificate; change may alter it before that. It has the CA's
// own key, which nobody looks at here and is ten thousand times quicker.
func (ca *CA) Issue(t testing.TB, name string, change ...func(*x509.Certificate)) Gateway {
	t.Helper()
	ca.mu.Lock()
	ca.serial++
	serial := ca.serial
	ca.mu.Unlock()
	from, to := validity()
	template := &x509.Certificate{Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: to, SerialNumber: big.NewInt(serial)}
	for _, f := range change {
		f(template)
	}
	leaf, err := sign(template, ca.Cert, ca.Key, ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	return Gateway{
		ID: certs.ID(leaf), Name: name, Leaf: leaf,
		chain: tls.Certificate{Certificate: [][]byte{leaf.Raw, ca.Cert.Raw}, PrivateKey: ca.Key},
	}
}

// CRL signs a list of revoked certificates that is good until a time.
func (ca *CA) CRL(t testing.TB, until time.Time, revoked ...Gateway) []byte {
	t.Helper()
	template := &x509.RevocationList{Number: big.NewInt(until.Unix()), ThisUpdate: until.Add(-24 * time.Hour), NextUpdate: until}
	for _, g := range revoked {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: g.Leaf.SerialNumber, RevocationTime: until.Add(-25 * time.Hour)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, ca.Cert, ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// patience bounds the wait for the emulator.
const patience = 20 * time.Second

// Connect lets a pending gateway connect, and gives the event that the
// emulator published for it.
func (c *Cloud) Connect(t testing.TB, g Gateway) json.RawMessage {
	t.Helper()
	event, err := c.TryConnect(t.Context(), g)
	if err != nil {
		t.Fatalf("%s: %v", g.Name, err)
	}
	return event
}

// TryConnect is Connect for goroutines that are not the test's own.
func (c *Cloud) TryConnect(ctx context.Context, g Gateway) (json.RawMessage, error) {
	c.mu.Lock()
	delete(c.events, g.ID)
	c.mu.Unlock()
	if err := c.connect(ctx, g); err != nil {
		return nil, err
	}
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		c.mu.Lock()
		e, told := c.events[g.ID], c.told
		c.mu.Unlock()
		if e != nil {
			return e, nil
		}
		select {
		case <-told:
		case <-timeout.C:
			return nil, errors.New("no event was published for it")
		}
	}
}

// connect sends a CONNECT and reads the end that a pending certificate gets.
func (c *Cloud) connect(ctx context.Context, g Gateway) error {
	dialer := tls.Dialer{Config: &tls.Config{
		RootCAs: c.roots, ServerName: "localhost", Certificates: []tls.Certificate{g.chain}, MaxVersion: tls.VersionTLS12,
	}}
	conn, err := dialer.DialContext(ctx, "tcp", c.MQTTAddr())
	if err != nil {
		return err
	}
	defer conn.Close()
	connect := packets.NewControlPacket(packets.CONNECT)
	content := connect.Content.(*packets.Connect)
	content.ProtocolName, content.ProtocolVersion, content.ClientID, content.KeepAlive, content.CleanStart = "MQTT", 5, "g-"+g.ID[:16], 60, true
	if _, err := connect.WriteTo(conn); err != nil {
		return err
	}
	if answer, err := io.ReadAll(conn); err == nil && len(answer) > 0 {
		return fmt.Errorf("it was not turned away: %x", answer)
	}
	return nil
}
