package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// gateway is an enrolled agent that is not running.
type gateway struct {
	lab   *lab
	thing string
	dir   string
}

// newGateway makes one with a key in a file, for the broker that plays the
// cloud.
func (l *lab) newGateway(ctx context.Context, thing string) (*gateway, error) {
	g := &gateway{lab: l, thing: thing, dir: l.path(thing)}
	if err := os.MkdirAll(g.dir, 0o755); err != nil {
		return nil, err
	}
	// What is no part of the comparison is off: mosquitto has no shadows.
	conf := fmt.Sprintf(`cloud.endpoint = "localhost:%s"
cloud.server_ca = %q
cloud.publish_rate = 0
identity.key = "file"
shadow.enabled = false
telemetry.interval = "60s"
buffer.max_size = "2GiB"
`, l.broker.tls, l.broker.server.cert)
	if err := os.WriteFile(filepath.Join(g.dir, "agent.toml"), []byte(conf), 0o644); err != nil {
		return nil, err
	}
	csr := filepath.Join(g.dir, "csr")
	if _, err := output(ctx, l.program("jitr-agent"), g.args("csr", "--subject", "CN="+thing, "--out", csr)...); err != nil {
		return nil, err
	}
	if err := l.sign(ctx, csr, csr+".crt"); err != nil {
		return nil, err
	}
	_, err := output(ctx, l.program("jitr-agent"), g.args("import", "--cert", csr+".crt")...)
	return g, err
}

func (g *gateway) state() string { return filepath.Join(g.dir, "state") }

func (g *gateway) args(args ...string) []string {
	return append([]string{"--config", filepath.Join(g.dir, "agent.toml"), "--state-dir", g.state()}, args...)
}

// start starts the service. It does not wait.
func (g *gateway) start(ctx context.Context) (*path, error) {
	run := filepath.Join(g.dir, "run")
	cmd := command(ctx, g.lab.program("jitr-agent"), g.args("run")...)
	cmd.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+run)
	p, err := start(cmd)
	if err != nil {
		return nil, err
	}
	return &path{process: p, lab: g.lab, thing: g.thing, socket: filepath.Join(run, "mqtt.sock")}, nil
}
