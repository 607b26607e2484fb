package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// window is the Receive Maximum of the brokers here: AWS IoT's.
const window = 100

// tls12 makes OpenSSL offer nothing newer than TLS 1.2, which is what AWS IoT
// speaks unless asked for more; mosquitto's own option only sets the oldest.
const tls12 = `openssl_conf = conf
[conf]
ssl_conf = ssl
[ssl]
system_default = limits
[limits]
MaxProtocol = TLSv1.2
`

// broker is the mosquitto that plays the cloud.
type broker struct {
	*process

	plain, tls string // ports
	server     credentials
	watch      *observer
}

// startBroker starts it with an observer.
func startBroker(ctx context.Context, l *lab) (*broker, error) {
	b := &broker{server: credentials{cert: l.path("server.crt"), key: l.path("server.key")}}
	_, err := output(ctx, "openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
		"-keyout", b.server.key, "-out", b.server.cert, "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
	if err != nil {
		return nil, err
	}
	if b.plain, err = freePort(ctx); err != nil {
		return nil, err
	}
	if b.tls, err = freePort(ctx); err != nil {
		return nil, err
	}
	b.process, err = startMosquitto(ctx, l.path("cloud"),
		"sys_interval 1", // seconds between two counts
		"listener "+b.plain+" 127.0.0.1",
		"allow_anonymous true",
		"listener "+b.tls+" 127.0.0.1",
		"allow_anonymous true",
		"require_certificate true",
		"cafile "+l.caFile,
		"certfile "+b.server.cert,
		"keyfile "+b.server.key,
		"ciphers ECDHE-ECDSA-AES128-GCM-SHA256",
	)
	if err != nil {
		return nil, err
	}
	if err := b.awaitPort(ctx, b.plain); err != nil {
		b.stop()
		return nil, err
	}
	if b.watch, err = observe(ctx, b.plain); err != nil {
		b.stop()
		return nil, err
	}
	return b, nil
}

// startMosquitto starts a mosquitto with these lines, and a folder of its own.
func startMosquitto(ctx context.Context, dir string, lines ...string) (*process, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	lines = append([]string{
		"per_listener_settings true",
		"user root", // it would go over to a user who cannot read the keys
		"log_dest stderr",
		"log_type error",
		"log_type warning",
		fmt.Sprintf("max_inflight_messages %d", window), // its Receive Maximum
	}, lines...)
	conf, openssl := filepath.Join(dir, "mosquitto.conf"), filepath.Join(dir, "openssl.cnf")
	if err := os.WriteFile(conf, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		return nil, err
	}
	if err := os.WriteFile(openssl, []byte(tls12), 0o644); err != nil {
		return nil, err
	}
	cmd := command(ctx, "mosquitto", "-c", conf)
	cmd.Env = append(os.Environ(), "OPENSSL_CONF="+openssl)
	return start(cmd)
}

// awaitPort waits until it listens.
func (p *process) awaitPort(ctx context.Context, port string) error {
	return p.await(ctx, "listen on port "+port, func(ctx context.Context) bool {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
		if err != nil {
			return false
		}
		c.Close()
		return true
	})
}

// await looks again and again whether it has come so far.
func (p *process) await(ctx context.Context, what string, condition func(context.Context) bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !condition(ctx) {
		select {
		case <-tick.C:
		case <-p.exited:
			return fmt.Errorf("it ended before it could %s: %w", what, p.err)
		case <-ctx.Done():
			return fmt.Errorf("%s does not %s: %w", p.cmd.Path, what, ctx.Err())
		}
	}
	return nil
}

func (b *broker) close() {
	if b.watch != nil {
		b.watch.stop()
	}
	b.stop()
}
