package iotcore

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/jitr-agent/jitr-agent/internal/certs"
)

// patience bounds every wait of a test. It is long, because nothing waits for
// it unless it fails.
const patience = 20 * time.Second

// bench is a running emulator with one registered device CA.
type bench struct {
	*Server
	t    *testing.T
	ca   *testCA
	caID string
	stop func()
}

func start(t *testing.T, cfg Config) *bench {
	t.Helper()
	srv, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	b := &bench{Server: srv, t: t, ca: newTestCA(t, "Acme device CA")}
	stopped := false
	b.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			t.Error("Run did not return")
		}
	}
	t.Cleanup(b.stop)
	if b.caID, err = srv.RegisterCA(b.ca.pem()); err != nil {
		t.Fatal(err)
	}
	return b
}

type testCA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// identity is a device's certificate chain and key.
type identity struct {
	tls.Certificate
	id string
}

func newTestCA(t *testing.T, name string) *testCA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	cert, err := sign(template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &testCA{cert, key}
}

func (ca *testCA) pem() []byte { return certs.EncodeChain([]*x509.Certificate{ca.cert}) }

// issue makes a device certificate with its CA behind it.
func (ca *testCA) issue(t *testing.T, name string, change ...func(*x509.Certificate)) identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, SerialNumber: big.NewInt(1),
	}
	for _, f := range change {
		f(template)
	}
	leaf, err := sign(template, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	return identity{
		tls.Certificate{Certificate: [][]byte{leaf.Raw, ca.cert.Raw}, PrivateKey: key, Leaf: leaf},
		certs.ID(leaf),
	}
}

func (i identity) leafOnly() identity {
	i.Certificate.Certificate = i.Certificate.Certificate[:1]
	return i
}

func (i identity) pem() string {
	return string(certs.EncodeChain([]*x509.Certificate{i.Leaf}))
}

// files writes the identity for command line clients.
func (i identity) files(t *testing.T) (cert, key string) {
	t.Helper()
	dir := t.TempDir()
	var chain []byte
	for _, der := range i.Certificate.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	der, err := x509.MarshalPKCS8PrivateKey(i.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "device.crt"), filepath.Join(dir, "device.key")
	for path, data := range map[string][]byte{cert: chain, key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// accepted makes an identity that the emulator lets in, with a thing of that
// name and the policy document ("" for one that allows everything).
func (b *bench) accepted(name, document string) identity {
	b.t.Helper()
	i := b.ca.issue(b.t, name)
	if _, err := b.registry.registerCertificate(i.pem(), "", statusActive, false); err != nil {
		b.t.Fatal(err)
	}
	policyName := ownPolicy
	if document != "" {
		policyName = name
		if _, err := b.registry.createPolicy(name, document, nil); err != nil {
			b.t.Fatal(err)
		}
	}
	arn := b.registry.arn("cert", i.id)
	if err := b.registry.attachPolicy(policyName, arn); err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.registry.createThing(name, "", nil); err != nil {
		b.t.Fatal(err)
	}
	if err := b.registry.attachThing(name, arn, false); err != nil {
		b.t.Fatal(err)
	}
	return i
}

// tlsDial opens a connection as i, for as long as patience lasts. Options
// change the TLS configuration.
func (b *bench) tlsDial(i identity, change ...func(*tls.Config)) (*tls.Conn, error) {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(b.ServerCAPEM())
	c := &tls.Config{
		RootCAs: roots, ServerName: "localhost",
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &i.Certificate, nil },
	}
	for _, f := range change {
		f(c)
	}
	conn, err := (&tls.Dialer{Config: c}).DialContext(b.t.Context(), "tcp", b.MQTTAddr())
	if err != nil {
		return nil, err
	}
	return conn.(*tls.Conn), conn.SetDeadline(time.Now().Add(patience))
}

func (b *bench) mustDial(i identity) *tls.Conn {
	b.t.Helper()
	conn, err := b.tlsDial(i)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { conn.Close() })
	return conn
}

// connectPacket is a CONNECT of MQTT 5.
func connectPacket(clientID string, change ...func(*packets.Connect)) *packets.ControlPacket {
	cp := packets.NewControlPacket(packets.CONNECT)
	c := cp.Content.(*packets.Connect)
	c.ClientID, c.CleanStart, c.KeepAlive = clientID, true, 60
	for _, f := range change {
		f(c)
	}
	return cp
}

// device is a raw MQTT 5 connection.
type device struct {
	t    *testing.T
	conn *tls.Conn
}

// connect opens an accepted session.
func (b *bench) connect(i identity, clientID string, change ...func(*packets.Connect)) device {
	b.t.Helper()
	d := device{b.t, b.mustDial(i)}
	d.send(connectPacket(clientID, change...))
	if ack := read[*packets.Connack](d); ack.ReasonCode != 0 {
		b.t.Fatalf("CONNACK 0x%02x for %s", ack.ReasonCode, clientID)
	}
	return d
}

func (d device) send(cp *packets.ControlPacket) {
	d.t.Helper()
	var buf bytes.Buffer
	if _, err := cp.WriteTo(&buf); err != nil {
		d.t.Fatal(err)
	}
	if _, err := d.conn.Write(buf.Bytes()); err != nil {
		d.t.Fatal(err)
	}
}

// read is the next packet, which must be a T.
func read[T any](d device) T {
	d.t.Helper()
	cp, err := packets.ReadPacket(d.conn)
	if err != nil {
		var want T
		d.t.Fatalf("waiting for %T: %v", want, err)
	}
	content, ok := cp.Content.(T)
	if !ok {
		d.t.Fatalf("got %T %v, want %T", cp.Content, cp.Content, content)
	}
	return content
}

// wantClosed checks that the server ends the connection, orderly and without
// a further packet.
func (d device) wantClosed() {
	d.t.Helper()
	if rest, err := io.ReadAll(d.conn); err != nil || len(rest) > 0 {
		d.t.Errorf("got %x, %v; want EOF", rest, err)
	}
}

func (d device) publish(topic string, qos byte, id uint16, payload string) {
	d.t.Helper()
	cp := packets.NewControlPacket(packets.PUBLISH)
	p := cp.Content.(*packets.Publish)
	p.Topic, p.QoS, p.PacketID, p.Payload = topic, qos, id, []byte(payload)
	d.send(cp)
}

func (d device) subscribe(filters ...string) *packets.Suback {
	d.t.Helper()
	cp := packets.NewControlPacket(packets.SUBSCRIBE)
	s := cp.Content.(*packets.Subscribe)
	s.PacketID = 1
	for _, f := range filters {
		s.Subscriptions = append(s.Subscriptions, packets.SubOptions{Topic: f, QoS: 1})
	}
	d.send(cp)
	return read[*packets.Suback](d)
}

// receive is the next message, acknowledged.
func (d device) receive() *packets.Publish {
	d.t.Helper()
	p := read[*packets.Publish](d)
	if p.QoS == 1 {
		cp := packets.NewControlPacket(packets.PUBACK)
		cp.Content.(*packets.Puback).PacketID = p.PacketID
		d.send(cp)
	}
	return p
}

// api is one REST call. It returns the status and the decoded body.
func (b *bench) api(method, path, body string, header ...string) (int, http.Header, map[string]any) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+b.APIAddr()+path, bytes.NewReader([]byte(body)))
	if err != nil {
		b.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	var out map[string]any
	if err := json.NewDecoder(res.Body).Decode(&out); err != nil {
		b.t.Fatalf("%s %s: %v", method, path, err)
	}
	return res.StatusCode, res.Header, out
}

// recorded waits for the n-th attempt: a client can see its end before the
// server has written it down.
func (b *bench) recorded(n int) {
	b.t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for len(b.Attempts()) < n {
		select {
		case <-tick.C:
		case <-deadline:
			b.t.Fatalf("%d attempts recorded, want %d", len(b.Attempts()), n)
		}
	}
}

// outcomes are those of all attempts, once there are n.
func (b *bench) outcomes(n int) []Outcome {
	b.t.Helper()
	b.recorded(n)
	var out []Outcome
	for _, a := range b.Attempts() {
		out = append(out, a.Outcome)
	}
	return out
}
