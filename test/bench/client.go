package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/clock"
	"github.com/jitr-agent/jitr-agent/internal/netpath"
	"github.com/jitr-agent/jitr-agent/pkg/buffer"
	"github.com/jitr-agent/jitr-agent/pkg/mqtt"
)

// Our own clients in process: this program again, as a child, so that its cost
// is only theirs.

// job is what a client is to do: the arguments of a script.
type job struct {
	host           string
	port           int
	caFile         string
	credentials    credentials
	id, topic      string
	messages, size int
}

func parseJob(args []string) (job, error) {
	if len(args) != 9 {
		return job{}, errors.New("want HOST PORT CAFILE CERT KEY CLIENT_ID TOPIC MESSAGES SIZE")
	}
	j := job{
		host: args[0], caFile: args[2], credentials: credentials{args[3], args[4]},
		id: args[5], topic: args[6],
	}
	var err, err2, err3 error
	j.port, err = strconv.Atoi(args[1])
	j.messages, err2 = strconv.Atoi(args[7])
	j.size, err3 = strconv.Atoi(args[8])
	return j, errors.Join(err, err2, err3)
}

// connect opens a session as the agent does.
func (j job) connect(ctx context.Context) (*mqtt.Session, error) {
	pem, err := os.ReadFile(j.caFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	own, err := tls.LoadX509KeyPair(j.credentials.cert, j.credentials.key)
	if err != nil {
		return nil, err
	}
	const stall = 20 * time.Second
	conn, err := new(netpath.Dialer).Dial(ctx, netpath.Target{
		Host: j.host, Port: j.port, Roots: roots, MaxTLS: tls.VersionTLS12, Certificate: &own, Stall: stall,
	})
	if err != nil {
		return nil, err
	}
	return mqtt.Connect(ctx, conn, mqtt.Config{ClientID: j.id, KeepAlive: time.Minute, Stall: stall})
}

// tally waits for the acknowledgements of a number of messages.
type tally struct {
	left sync.WaitGroup
	once sync.Once
	err  error // the first one
}

// done is an acknowledgement.
func (t *tally) done(err error) {
	if err != nil {
		t.once.Do(func() { t.err = err })
	}
	t.left.Done()
}

// session publishes through pkg/mqtt alone.
func (j job) session(ctx context.Context) error {
	s, err := j.connect(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	m := mqtt.Message{Topic: j.topic, Payload: make([]byte, j.size)}
	var t tally
	t.left.Add(j.messages)
	outcome := func(code byte, err error) {
		if code >= 0x80 {
			err = fmt.Errorf("PUBACK %#x", code)
		}
		t.done(err)
	}
	for range j.messages {
		if err := s.Send(ctx, m, outcome); err != nil {
			return err
		}
	}
	t.left.Wait()
	return t.err
}

// bufferSession sends for the buffer.
type bufferSession struct{ session *mqtt.Session }

func (s bufferSession) Send(ctx context.Context, m buffer.Message, outcome func(byte, error)) error {
	return s.session.Send(ctx, mqtt.Message(m), outcome)
}

// newBuffer is a buffer with the agent's defaults, but no limit of the rate and
// room on the disk for a million messages.
func newBuffer(dir string) *buffer.Buffer {
	began := time.Now()
	return buffer.New(buffer.Config{
		Dir:      dir,
		Limits:   buffer.Limits{MaxSize: 2 << 30, SpillAfter: 2 * time.Second},
		Clock:    buffer.Clock{BootID: clock.BootID(), Boot: clock.Boot, Floor: func() time.Time { return began }},
		GapTopic: func() string { return "dt/bench/gap" },
	})
}

// buffer publishes as the agent does: through pkg/buffer, with the promise.
func (j job) buffer(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s, err := j.connect(ctx)
	if err != nil {
		return err
	}
	b := newBuffer(filepath.Join(dir, "buffer"))
	draining, stopDraining := context.WithCancel(ctx)
	running, stopRunning := context.WithCancel(context.WithoutCancel(ctx))
	var drain, run sync.WaitGroup
	run.Go(func() { b.Run(running) })
	drain.Go(func() { b.Drain(draining, bufferSession{s}) })
	defer func() {
		stopDraining()
		drain.Wait()
		s.Close()
		stopRunning()
		run.Wait()
	}()
	message := func(int) buffer.Message { return buffer.Message{Topic: j.topic, Payload: make([]byte, j.size)} }
	// The first one waits for its PUBACK. Put before the buffer is connected,
	// the others would go to the disk, which is measured in drain.
	if err := put(ctx, b, 1, message); err != nil {
		return err
	}
	return put(ctx, b, j.messages-1, message)
}

// put hands messages in and waits until all are safe.
func put(ctx context.Context, b *buffer.Buffer, messages int, message func(i int) buffer.Message) error {
	var t tally
	t.left.Add(messages)
	for i := range messages {
		if err := b.Put(ctx, message(i), t.done); err != nil {
			return err
		}
	}
	t.left.Wait()
	return t.err
}

// fill makes a folder of stored messages, as a long outage leaves it. The first
// and the last one are on topics of their own, for the observer.
func fill(ctx context.Context, dir, prefix, mark string, messages int) error {
	b := newBuffer(dir)
	running, stop := context.WithCancel(ctx)
	var run sync.WaitGroup
	run.Go(func() { b.Run(running) })
	defer func() {
		stop()
		run.Wait()
	}()
	return put(ctx, b, messages, func(i int) buffer.Message {
		switch i {
		case 0:
			return buffer.Message{Topic: prefix + "/begin", Payload: []byte(mark)}
		case messages - 1:
			return buffer.Message{Topic: prefix + "/end", Payload: []byte(mark)}
		}
		return buffer.Message{Topic: prefix + "/bench", Payload: make([]byte, messageSize)}
	})
}
