// Package iotcore is a local stand-in for AWS IoT Core, for benches, tests and
// evaluation without an account. It has the TLS data plane with just-in-time
// registration, policies and shadows, the control plane that the AWS SDKs and
// the aws CLI speak, and what stands behind it in an account: the rule engine,
// Lambda functions that really run, IAM roles that are really evaluated, SQS
// queues and CloudWatch logs.
//
// It promises to behave towards a device as the real service does, down to
// what it does not say: the connection of a pending certificate ends without
// a CONNACK. Where the real service's behaviour is not known or has changed
// over the years, it can be chosen (see PendingClose). It does not promise
// the real service's security: whoever reaches the control plane may do
// everything.
package iotcore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
	"go.uber.org/zap"

	"github.com/jitr-agent/jitr-agent/internal/certs"
	"github.com/jitr-agent/jitr-agent/internal/iotcore/awsapi"
	"github.com/jitr-agent/jitr-agent/internal/iotcore/iam"
	"github.com/jitr-agent/jitr-agent/internal/iotcore/lambda"
	"github.com/jitr-agent/jitr-agent/internal/iotcore/logs"
	"github.com/jitr-agent/jitr-agent/internal/iotcore/rules"
	"github.com/jitr-agent/jitr-agent/internal/iotcore/sqs"
)

// Server is one emulated account in one Region. Its methods are safe for
// concurrent use.
type Server struct {
	cfg       Config
	ca        *serverCA
	tls       *tls.Config
	registry  *registry
	shadows   *shadows
	store     *store
	attempts  *attempts
	faults    *faults
	gate      *gate
	iam       *iam.Service
	sqs       *sqs.Service
	logs      *logs.Service
	lambda    *lambda.Service
	rules     *rules.Engine
	dropWork  func() error // removes a directory that was only for this run
	activator *activator
	broker    *mqtt.Server
	hook      *hook
	mqttL     net.Listener
	apiL      net.Listener
	api       *http.Server

	mu       sync.Mutex
	conns    map[net.Conn]func() // how to end each one
	stopping bool
	links    sync.WaitGroup // everything that serves a connection
}

// New makes a server and listens, so that the addresses are known. It serves
// from Run on, which must be called to release what New took. An address that
// cannot be had is a *ListenError. ctx bounds the look-up of a host name in an
// address.
func New(ctx context.Context, cfg Config) (_ *Server, err error) {
	cfg = cfg.withDefaults()
	s := &Server{cfg: cfg, faults: &faults{}, attempts: &attempts{tell: cfg.OnConnect}, conns: map[net.Conn]func(){}}
	work, err := s.makeDir()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.dropWork())
		}
	}()
	s.store = newStore(cfg.Dir, cfg.Log)
	if s.registry, err = newRegistry(cfg.Region, cfg.Account, time.Now); err != nil {
		return nil, err
	}
	s.registry.changed = s.store.mark
	s.shadows = &shadows{now: time.Now, changed: s.store.mark, all: map[shadowKey]*shadow{}}
	s.newServices(work)
	s.store.parts = map[string]part{
		"registry": s.registry, "shadows": s.shadows,
		"iam": s.iam, "sqs": s.sqs, "logs": s.logs, "lambda": s.lambda, "rules": s.rules,
	}
	if err := s.store.load(); err != nil {
		return nil, err
	}
	if err := s.registry.putPolicy(ownPolicy, cfg.Policy); err != nil {
		return nil, err
	}
	s.activator = newActivator(s.registry, cfg.Activation.after, cfg.Log)
	if err := s.newBroker(); err != nil {
		return nil, err
	}
	s.Observe(func(m Message) {
		s.rules.Observe(rules.Message{Topic: m.Topic, Payload: m.Payload, ClientID: m.ClientID, Principal: m.CertificateID})
	})
	if err := s.newTLS(); err != nil {
		return nil, err
	}
	if s.mqttL, err = listen(ctx, "MQTT", cfg.MQTTAddr); err != nil {
		return nil, err
	}
	if s.apiL, err = listen(ctx, "API", cfg.APIAddr); err != nil {
		s.mqttL.Close()
		return nil, err
	}
	s.api = &http.Server{
		Handler:           newAPI(s),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          zap.NewStdLog(cfg.Log),
	}
	return s, nil
}

func listen(ctx context.Context, purpose, addr string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		if op, ok := errors.AsType[*net.OpError](err); ok {
			err = op.Err
		}
		return nil, &ListenError{Purpose: purpose, Addr: addr, Err: err}
	}
	return l, nil
}

// makeDir makes the directory for code and logs: that of the configuration, or
// one for this run only.
func (s *Server) makeDir() (dir string, err error) {
	s.dropWork = func() error { return nil }
	if s.cfg.Dir != "" {
		// Absolute, because functions are started in directories of their own.
		if dir, err = filepath.Abs(s.cfg.Dir); err != nil {
			return "", err
		}
		return dir, os.MkdirAll(dir, 0o700)
	}
	dir, err = os.MkdirTemp("", "iotcore-")
	s.dropWork = func() error { return os.RemoveAll(dir) }
	return dir, err
}

// newServices makes what stands beside AWS IoT in the account.
func (s *Server) newServices(work string) {
	place, changed, log := awsapi.Place{Region: s.cfg.Region, Account: s.cfg.Account}, s.store.mark, s.cfg.Log
	endpoint := func() string { return "http://" + s.APIAddr() }
	s.iam = iam.New(place, changed)
	s.sqs = sqs.New(place, endpoint, changed)
	s.logs = logs.New(place, filepath.Join(work, "logs"), changed)
	s.lambda = lambda.New(lambda.Config{
		Place: place, Dir: filepath.Join(work, "functions"), Endpoint: endpoint,
		IAM: s.iam, SQS: s.sqs, Logs: s.logs,
		AsyncRetry: s.cfg.AsyncRetry, Concurrency: s.cfg.LambdaConcurrency,
		Faults: func() lambda.Faults {
			f := s.faults.get()
			return lambda.Faults{Copies: f.Copies, RoleSettle: time.Duration(f.RoleSettleSeconds * float64(time.Second))}
		},
		Changed: changed, Log: log.Named("lambda"),
	})
	s.rules = rules.New(rules.Config{
		Place: place, IAM: s.iam, Lambda: s.lambda, SQS: s.sqs,
		Matches: matches, Copies: func() int { return s.faults.get().Copies },
		Changed: changed, Log: log.Named("rules"),
	})
	s.gate = &gate{region: place.Region, iam: s.iam, faults: s.faults, buckets: map[string]*bucket{}, calls: map[string]Calls{}}
}

func (s *Server) newBroker() error {
	c := mqtt.NewDefaultServerCapabilities()
	c.MaximumPacketSize = readLimit
	c.MaximumQos = 1
	c.ReceiveMaximum = receiveMaximum
	c.MaximumInflight = 1<<16 - 1 // the window is the link's business
	c.TopicAliasMaximum = topicAliasMaximum
	c.MaximumSessionExpiryInterval = maxSessionExpiry
	c.MaximumMessageExpiryInterval = maxMessageExpiry
	c.MaximumClientWritesPending = 4096
	c.SubIDAvailable = 0
	c.Compatibilities.NoInheritedPropertiesOnAck = true
	s.broker = mqtt.New(&mqtt.Options{
		Capabilities:           c,
		InlineClient:           true,
		SysTopicResendInterval: 1 << 30,                       // there is no $SYS on AWS
		Logger:                 slog.New(slog.DiscardHandler), // it logs whole packets
	})
	s.hook = &hook{
		broker: s.broker, registry: s.registry, shadows: s.shadows, attempts: s.attempts, faults: s.faults,
		activator: s.activator, cfg: s.cfg, log: s.cfg.Log, lastConnect: map[string]time.Time{},
	}
	return s.broker.AddHook(s.hook, nil)
}

func (s *Server) newTLS() (err error) {
	now := time.Now()
	if s.ca, err = openServerCA(s.cfg.Dir, now); err != nil {
		return err
	}
	server, err := s.ca.issue(s.cfg.ServerNames, now)
	if err != nil {
		return err
	}
	var verify func(tls.ConnectionState) error
	if s.cfg.PendingClose == CloseAlert {
		verify = s.hook.verifyConnection
	}
	s.tls = tlsConfig(server, verify)
	return nil
}

// Run serves until ctx ends, and returns nil then. When it returns, no
// goroutine of the server is left and everything is saved.
func (s *Server) Run(ctx context.Context) error {
	if err := s.broker.Serve(); err != nil {
		return fmt.Errorf("start the broker: %w", err)
	}
	storeCtx, stopStore := context.WithCancel(context.WithoutCancel(ctx))
	workCtx, stopWork := context.WithCancelCause(ctx)
	// The rule engine outlives the connections: a message that got its PUBACK
	// is judged.
	rulesCtx, stopRules := context.WithCancel(context.WithoutCancel(ctx))
	// A long poll or a function's call is not waited for at the end.
	s.api.BaseContext = func(net.Listener) context.Context { return workCtx }
	var storing, ruling, working sync.WaitGroup
	storing.Go(func() { s.store.run(storeCtx) })
	ruling.Go(func() { s.rules.Run(rulesCtx) })
	working.Go(func() { s.activator.run(workCtx) })
	working.Go(func() { s.lambda.Run(workCtx) })
	working.Go(func() { stopWork(s.accept(workCtx)) })
	working.Go(func() {
		if err := s.api.Serve(s.apiL); !errors.Is(err, http.ErrServerClosed) {
			stopWork(fmt.Errorf("serve the API: %w", err))
		}
	})
	<-workCtx.Done()
	s.shutdown()
	stopRules()
	ruling.Wait()
	working.Wait()
	stopStore()
	storing.Wait()
	if err := s.dropWork(); err != nil || ctx.Err() != nil {
		return err // nil: it was told to end
	}
	return context.Cause(workCtx)
}

func (s *Server) shutdown() {
	s.mqttL.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if s.api.Shutdown(ctx) != nil {
		s.api.Close()
	}
	for _, cl := range s.broker.Clients.GetAll() {
		if linkOf(cl) != nil && !cl.Closed() {
			_ = s.broker.DisconnectClient(cl, packets.ErrServerShuttingDown) // its error is the code itself
		}
	}
	s.mu.Lock()
	s.stopping = true
	for _, end := range s.conns {
		end()
	}
	s.mu.Unlock()
	s.links.Wait()
	s.broker.Close()
}

func (s *Server) accept(ctx context.Context) error {
	for {
		raw, err := s.mqttL.Accept()
		if err != nil {
			return fmt.Errorf("accept a connection: %w", err)
		}
		s.mu.Lock()
		if s.stopping {
			s.mu.Unlock()
			raw.Close()
			continue
		}
		s.conns[raw] = func() { raw.Close() }
		s.links.Add(1)
		s.mu.Unlock()
		go func() {
			defer s.links.Done()
			s.serve(ctx, raw)
			s.mu.Lock()
			delete(s.conns, raw)
			s.mu.Unlock()
		}()
	}
}

// serve is the life of one connection. ctx ends the handshake only: after it,
// shutdown takes leave of the client.
func (s *Server) serve(ctx context.Context, raw net.Conn) {
	if raw.SetDeadline(time.Now().Add(connectTimeout)) != nil {
		raw.Close() // it is gone already
		return
	}
	under := raw
	if s.cfg.PendingClose == CloseAlert {
		under = alertConn{raw}
	}
	conn := tls.Server(under, s.tls)
	if err := conn.HandshakeContext(ctx); err != nil {
		s.handshakeFailed(raw, err)
		linger(raw)
		raw.Close()
		return
	}
	l := newLink(conn, raw, s.cfg.Latency)
	s.mu.Lock()
	s.conns[raw] = func() { l.Close() }
	if s.stopping {
		l.Close()
	}
	s.mu.Unlock()
	var sending sync.WaitGroup
	sending.Go(l.run)
	err := s.broker.EstablishConnection("mqtt", l)
	if !l.outcome {
		s.hook.record(l, OutcomeNoConnect, fmt.Sprint(err))
	}
	l.Close()
	sending.Wait()
}

func (s *Server) handshakeFailed(raw net.Conn, err error) {
	one := Attempt{At: s.registry.now(), Remote: raw.RemoteAddr().String(), Outcome: OutcomeTLSFailed, Detail: err.Error()}
	if pending, ok := errors.AsType[*pendingError](err); ok {
		one.Outcome, one.CertificateID = pending.outcome, pending.certificateID
		one.ClientCertificates, one.SNI = pending.certificates, pending.sni
	}
	s.attempts.add(one)
	s.cfg.Log.Info("A TLS handshake failed.", zap.String("client", one.Remote), zap.Error(err))
}

// MQTTAddr is the address of the data plane, with the real port.
func (s *Server) MQTTAddr() string { return s.mqttL.Addr().String() }

// APIAddr is the address of the control plane, with the real port.
func (s *Server) APIAddr() string { return s.apiL.Addr().String() }

// ServerCAPEM is the root that devices trust, the content of server-ca.pem.
func (s *Server) ServerCAPEM() []byte { return s.ca.pem() }

// RegisterCA registers a CA as ACTIVE and with auto-registration, without the
// proof that RegisterCACertificate asks for. A CA that is registered already
// is set so. It returns the CA's id.
func (s *Server) RegisterCA(pem []byte) (string, error) {
	rec, err := s.registry.registerCA(caRegistration{caPEM: string(pem), active: true, autoReg: true, trusted: true})
	if refused, ok := errors.AsType[*awsapi.Error](err); ok {
		known, ok := refused.Fields["resourceId"]
		if !ok {
			return "", errors.New(refused.Message)
		}
		st, on := statusActive, true
		return known, s.registry.updateCA(known, &st, &on)
	}
	return rec.ID, err
}

// Activate does for a pending certificate at once what ActivateAfter does
// later.
func (s *Server) Activate(certificateID string) error { return s.activator.activate(certificateID) }

// Attempts are the newest connection attempts, oldest first.
func (s *Server) Attempts() []Attempt { return s.attempts.all() }

// Story is what became of a certificate; false: never seen.
func (s *Server) Story(certificateID string) (Story, bool) {
	rec, err := s.registry.certificate(certificateID)
	return rec.story(), err == nil
}

// Connected are the client ids with a connection now, sorted.
func (s *Server) Connected() []string {
	ids := []string{}
	for id, cl := range s.broker.Clients.GetAll() {
		if linkOf(cl) != nil && !cl.Closed() {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// Calls counts the calls of each action of the control plane so far, by its
// IAM name.
func (s *Server) Calls() map[string]Calls { return s.gate.counts() }

// SetFaults switches misbehaviour on or off.
func (s *Server) SetFaults(f Faults) { s.faults.set(f) }

// Observe calls f for each message that the broker accepts from then on, the
// service's own events among them. f runs on the goroutine of the publisher
// and must not block.
func (s *Server) Observe(f func(Message)) {
	s.hook.mu.Lock()
	defer s.hook.mu.Unlock()
	s.hook.observers = append(slices.Clone(s.hook.observers), f)
}

// dropCertificate ends the connections of a certificate that is not ACTIVE
// any more. The real service takes minutes, and says as little.
func (s *Server) dropCertificate(id string) {
	for _, cl := range s.broker.Clients.GetAll() {
		if l := linkOf(cl); l != nil && certs.ID(l.chain[0]) == id {
			cl.Stop(errClosed)
		}
	}
}
