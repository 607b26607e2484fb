package main

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// observer is mosquitto_sub, which sees what the gateway publishes.
type observer struct {
	mu     sync.Mutex
	topics map[string]int
	ready  bool
}

// startObserver enrols a second client the way an operator does by hand, with
// openssl and the control plane, and subscribes with it.
func (st *stage) startObserver(ctx context.Context) (*observer, error) {
	key, request, crt := st.path("observer.key"), st.path("observer.csr"), st.path("observer.crt")
	if err := st.run(ctx, "openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
		"-keyout", key, "-subj", "/CN=observer", "-out", request, "-batch"); err != nil {
		return nil, err
	}
	if err := st.run(ctx, "bin/jitrctl", "ca", "sign", "--dir", st.path("ca"), request, "--out", crt); err != nil {
		return nil, err
	}
	if err := st.admit(ctx, crt); err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(st.mqtt)
	if err != nil {
		return nil, err
	}
	o := &observer{topics: map[string]int{}}
	// stdbuf: into a pipe, mosquitto_sub keeps its debug lines to itself.
	err = st.start(o.line, "stdbuf", "-oL", "mosquitto_sub", "-V", "mqttv5", "-h", host, "-p", port,
		"--cafile", st.path("cloud/server-ca.pem"), "--cert", crt, "--key", key,
		"-i", "observer", "-q", "1", "-t", "init/#", "-t", "dt/#", "-d", "-v")
	if err != nil {
		return nil, err
	}
	return o, until(ctx, 10*time.Second, "mosquitto_sub's subscription", func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.ready
	})
}

// admit registers a certificate as ACTIVE with a policy that allows it all.
func (st *stage) admit(ctx context.Context, crt string) error {
	pem, err := os.ReadFile(crt)
	if err != nil {
		return err
	}
	leaf, ca, _ := strings.Cut(string(pem), "-----END CERTIFICATE-----\n")
	leaf += "-----END CERTIFICATE-----\n"
	var registered struct {
		CertificateARN string `json:"certificateArn"`
	}
	err = st.rest(ctx, http.MethodPost, "/certificate/register",
		map[string]string{"certificatePem": leaf, "caCertificatePem": ca, "status": "ACTIVE"}, &registered)
	if err != nil {
		return err
	}
	policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}`
	err = st.rest(ctx, http.MethodPost, "/policies/observer", map[string]string{"policyDocument": policy}, nil)
	if err != nil {
		return err
	}
	return st.rest(ctx, http.MethodPut, "/target-policies/observer", map[string]string{"target": registered.CertificateARN}, nil)
}

// line takes a line of mosquitto_sub -d -v.
func (o *observer) line(s string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if strings.HasPrefix(s, "Subscribed (mid:") {
		o.ready = true
	}
	topic, payload, ok := strings.Cut(s, " ")
	if ok && json.Valid([]byte(payload)) {
		o.topics[topic]++
	}
}

func (o *observer) count(topic string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.topics[topic]
}

func (o *observer) until(ctx context.Context, what, topic string) error {
	return until(ctx, patience, what, func() bool { return o.count(topic) > 0 })
}
