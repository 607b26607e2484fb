package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// In process: each client is a program that connects, publishes and ends when
// every message has its PUBACK. What it costs with a single message is measured
// each time too, and taken off: the start of Node or Python is not what is
// compared.

// publisher is a client for that: its command line, and what it is to read.
type publisher func(ctx context.Context, messages int) (*exec.Cmd, error)

// inProcess makes a contender of a publisher.
func (l *lab) inProcess(name string, messages int, p publisher) contender {
	return contender{name: name, messages: messages, run: func(ctx context.Context, messages int) (cost, error) {
		before, err := l.broker.watch.counted(ctx)
		if err != nil {
			return cost{}, err
		}
		base, after, err := l.published(ctx, p, 1, before)
		if err != nil {
			return cost{}, err
		}
		c, _, err := l.published(ctx, p, messages+1, after)
		c.messages -= base.messages
		c.wall -= base.wall
		c.cpu -= base.cpu
		c.brokerCPU -= base.brokerCPU
		if err == nil && (c.wall <= 0 || c.cpu <= 0) {
			return c, errors.New("its start took longer than its messages: too few of them, or too busy a machine")
		}
		return c, err
	}}
}

// published is what a publisher costs from its start to its end, and the
// broker's count behind it; before is the count until now.
func (l *lab) published(ctx context.Context, p publisher, messages, before int) (c cost, after int, err error) {
	cmd, err := p(ctx, messages)
	if err != nil {
		return c, 0, err
	}
	brokerBefore, err := l.broker.cpu()
	if err != nil {
		return c, 0, err
	}
	if c, err = spent(cmd); err != nil {
		return c, 0, err
	}
	after, err = l.complete(ctx, &c, messages, before, brokerBefore)
	return c, after, err
}

// pubLines is how many lines mosquitto_pub -l is given at most. It reads ahead
// of what it has sent, and when it has read everything it ends with the first
// PUBACK for the last packet identifier: behind 65,535 lines that is another
// message's, and the rest is lost.
const pubLines = 60_000

// mosquittoPub is the measure of all: mosquitto_pub -l, a message for each line
// of a file.
func (l *lab) mosquittoPub(ctx context.Context, messages int) (*exec.Cmd, error) {
	c, err := l.issue(ctx, "bench-pub")
	if err != nil {
		return nil, err
	}
	cmd := command(ctx, "mosquitto_pub", "-h", "localhost", "-p", l.broker.tls, "-V", "mqttv5", "--tls-version", "tlsv1.2",
		"--cafile", l.broker.server.cert, "--cert", c.cert, "--key", c.key, "-i", "bench-pub", "-q", "1", "-t", "dt/bench-pub/bench",
		"-M", strconv.Itoa(window), "-l")
	cmd.Stdin, err = l.lines(messages)
	return cmd, err
}

// script is a client with the arguments HOST PORT CAFILE CERT KEY CLIENT_ID
// TOPIC MESSAGES SIZE behind its command line.
func (l *lab) script(id string, argv ...string) publisher {
	return func(ctx context.Context, messages int) (*exec.Cmd, error) {
		c, err := l.issue(ctx, id)
		if err != nil {
			return nil, err
		}
		return command(ctx, argv[0], append(argv[1:len(argv):len(argv)], "localhost", l.broker.tls, l.broker.server.cert,
			c.cert, c.key, id, "dt/"+id+"/bench", strconv.Itoa(messages), strconv.Itoa(messageSize))...), nil
	}
}

// nodePeers installs what peers/package-lock.json names, and returns the
// folder with the scripts in it.
func (l *lab) nodePeers(ctx context.Context, peers string) (dir string, err error) {
	for _, name := range []string{"node", "npm"} {
		if _, err := exec.LookPath(name); err != nil {
			return "", err
		}
	}
	dir = l.path("peers")
	if err := os.CopyFS(dir, os.DirFS(peers)); err != nil {
		return "", err
	}
	_, err = output(ctx, "npm", "ci", "--prefix", dir, "--ignore-scripts", "--no-audit", "--no-fund")
	return dir, err
}

// clients are the contenders in process.
func (l *lab) clients(ctx context.Context, scale func(int) int, peers string) ([]contender, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	all := []contender{
		l.inProcess(ourBuffer, scale(400_000), l.script("bench-buffer", self, "buffer")),
		l.inProcess(ourSession, scale(400_000), l.script("bench-session", self, "session")),
		l.inProcess(theirPub, scale(pubLines), l.mosquittoPub),
		// Debian's own Python, because that is the one with Debian's paho.
		l.inProcess("paho for Python", scale(60_000), l.script("bench-paho", "/usr/bin/python3", filepath.Join(peers, "paho_client.py"))),
	}
	dir, err := l.nodePeers(ctx, peers)
	node := func(name, id, script string, messages int) contender {
		if err != nil {
			return contender{name: name, run: func(context.Context, int) (cost, error) {
				return cost{}, fmt.Errorf("cannot be installed: %w", err)
			}}
		}
		return l.inProcess(name, scale(messages), l.script(id, "node", filepath.Join(dir, script)))
	}
	return append(all,
		node("MQTT.js", "bench-mqttjs", "mqttjs.js", 80_000),
		// It leaves Nagle's algorithm on, so it waits for the other side's
		// delayed TCP acknowledgements: some 40 ms for each window.
		node("aws-crt for Node", "bench-crt", "awscrt.js", 6_000),
	), nil
}
