package iotcore

import (
	"fmt"
	"time"

	"go.uber.org/zap"
)

// Config says how the emulator behaves. The zero value is usable: it keeps
// everything in memory, takes free ports on loopback and activates nothing
// by itself.
type Config struct {
	MQTTAddr string // host:port of the TLS data plane; empty: a free port on 127.0.0.1
	APIAddr  string // host:port of the REST control plane, plain HTTP; empty: likewise

	// Dir keeps the registry, the shadows and the server's CA, so that a
	// restart forgets nothing. Empty: memory only.
	Dir string

	// ServerNames are host names and IP addresses for the server certificate
	// beside localhost, 127.0.0.1 and ::1.
	ServerNames []string

	Region  string // in ARNs; empty: us-east-1
	Account string // in ARNs and events; empty: 123456789012

	Activation   Activation
	PendingClose PendingClose

	// Policy is the document that the emulator's own activation attaches;
	// nil: one that allows everything.
	Policy []byte

	// NoConnectRate lifts the limit of one CONNECT per second for a client id.
	NoConnectRate bool

	// AsyncRetry is the wait before Lambda's first retry of an asynchronous
	// event; the second waits twice as long. 0: 1 min, as AWS.
	AsyncRetry time.Duration

	// LambdaConcurrency is how many instances of functions the account may
	// have at once; 0: 1000, as AWS.
	LambdaConcurrency int

	// Latency delays every packet to a client: a round trip. With it the
	// Receive Maximum can really be exceeded.
	Latency time.Duration

	// OnConnect is told each connection attempt when its outcome is known.
	// It is called on the connection's goroutine and must not block.
	OnConnect func(Attempt)

	// Log gets what the emulator does; nil: nothing.
	Log *zap.Logger
}

func (c Config) withDefaults() Config {
	if c.MQTTAddr == "" {
		c.MQTTAddr = "127.0.0.1:0"
	}
	if c.APIAddr == "" {
		c.APIAddr = "127.0.0.1:0"
	}
	if c.Region == "" {
		c.Region = "us-east-1"
	}
	if c.Account == "" {
		c.Account = "123456789012"
	}
	if c.Policy == nil {
		c.Policy = []byte(allowAll)
	}
	if c.AsyncRetry == 0 {
		c.AsyncRetry = time.Minute
	}
	if c.LambdaConcurrency == 0 {
		c.LambdaConcurrency = 1000
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	return c
}

const allowAll = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}`

// Activation is who makes a pending certificate ACTIVE. The zero value is
// "manual": whoever calls UpdateCertificate.
type Activation struct {
	never bool
	after time.Duration // 0: not by ourselves
}

// ActivateAfter lets the emulator activate a certificate that long after its
// first registration: with a thing named by its common name, and a policy.
func ActivateAfter(d time.Duration) Activation { return Activation{after: max(d, 1)} }

// NeverActivate keeps certificates pending, whoever asks.
func NeverActivate() Activation { return Activation{never: true} }

// ParseActivation reads "manual", "never" or a duration such as "3s".
func ParseActivation(s string) (Activation, error) {
	switch s {
	case "manual":
		return Activation{}, nil
	case "never":
		return NeverActivate(), nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return Activation{}, fmt.Errorf("%q is neither a duration such as 3s nor never nor manual", s)
	}
	return ActivateAfter(d), nil
}

// PendingClose is how the connection of a pending certificate ends. What AWS
// does has changed over the years and differs by report, so a device has to
// live with each of them.
type PendingClose string

// The ways to end it. The zero value is CloseFIN.
const (
	CloseFIN     PendingClose = "fin"          // orderly, as measured on AWS in 2026
	CloseRST     PendingClose = "rst"          // TCP reset
	CloseAlert   PendingClose = "alert"        // TLS alert 46 in the handshake, as fleets of 2017 to 2021 did; TLS 1.2 only
	CloseConnack PendingClose = "connack-0x87" // CONNACK 0x87; a 3.1.1 client sees CloseFIN
)

// ParsePendingClose reads the value of --pending-close.
func ParsePendingClose(s string) (PendingClose, error) {
	switch p := PendingClose(s); p {
	case CloseFIN, CloseRST, CloseAlert, CloseConnack:
		return p, nil
	}
	return "", fmt.Errorf("%q is not one of fin, rst, alert and connack-0x87", s)
}
