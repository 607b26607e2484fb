package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// messageSize is the payload of every message, in bytes.
const messageSize = 200

// lab is what all measurements stand on.
type lab struct {
	dir    string // of all files; short, for unix sockets
	bin    string // our programs
	caFile string
	broker *broker // plays the cloud
}

// credentials are the PEM files of a client or a server.
type credentials struct{ cert, key string }

func (l *lab) path(names ...string) string {
	return filepath.Join(append([]string{l.dir}, names...)...)
}

func (l *lab) program(name string) string { return filepath.Join(l.bin, name) }

// openLab makes a CA and starts the broker.
func openLab(ctx context.Context, bin string) (*lab, error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	l := &lab{dir: dir, bin: bin, caFile: filepath.Join(dir, "ca", "ca.crt")}
	_, err = output(ctx, l.program("jitrctl"), "ca", "init", "--dir", l.path("ca"), "--cn", "Bench CA")
	if err == nil {
		l.broker, err = startBroker(ctx, l)
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *lab) close() {
	if l.broker != nil {
		l.broker.close()
	}
	os.RemoveAll(l.dir)
}

// issue makes a key and a certificate for it.
func (l *lab) issue(ctx context.Context, name string) (credentials, error) {
	c := credentials{cert: l.path(name + ".crt"), key: l.path(name + ".key")}
	csr := l.path(name + ".csr")
	_, err := output(ctx, "openssl", "req", "-new", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
		"-keyout", c.key, "-out", csr, "-subj", "/CN="+name)
	if err != nil {
		return c, err
	}
	return c, l.sign(ctx, csr, c.cert)
}

// sign makes a certificate for a request.
func (l *lab) sign(ctx context.Context, csr, cert string) error {
	_, err := output(ctx, l.program("jitrctl"), "ca", "sign", "--dir", l.path("ca"), csr, "--out", cert)
	return err
}

// lines is a file of messages, one a line, for mosquitto_pub -l.
func (l *lab) lines(messages int) (*os.File, error) {
	path := l.path(fmt.Sprintf("lines-%d", messages))
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		line := strings.Repeat("x", messageSize) + "\n"
		if err := os.WriteFile(path, []byte(strings.Repeat(line, messages)), 0o600); err != nil {
			return nil, err
		}
	}
	return os.Open(path)
}

// complete adds what the broker knows: how many messages arrived, and its own
// part of the cost. It returns the broker's count.
func (l *lab) complete(ctx context.Context, c *cost, messages, countBefore int, cpuBefore time.Duration) (count int, err error) {
	cpu, err := l.broker.cpu()
	if err != nil {
		return 0, err
	}
	c.brokerCPU = cpu - cpuBefore
	if count, err = l.broker.watch.counted(ctx); err != nil {
		return 0, err
	}
	if c.messages = min(count-countBefore, messages); c.messages <= 0 {
		return count, errors.New("no message arrived")
	}
	return count, nil
}

// freePort is a TCP port of the loopback interface that nobody listens on.
func freePort(ctx context.Context) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return strconv.Itoa(listener.Addr().(*net.TCPAddr).Port), nil
}
