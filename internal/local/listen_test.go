package local

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	e2e "github.com/jitr-agent/jitr-agent/test/rig"
)

// TestSocket: its rights, and that it goes with the server.
func TestSocket(t *testing.T) {
	r := start(t)
	info, err := os.Stat(r.cfg.Socket)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != os.ModeSocket|0o660 {
		t.Errorf("the socket's mode is %v", info.Mode())
	}
	if got := r.Status(); got.State != OK || got.Socket != r.cfg.Socket || got.Listen != "" || got.Clients != 0 {
		t.Errorf("status %+v", got)
	}
	r.stop()
	if _, err := os.Stat(r.cfg.Socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after the end: %v", err)
	}
}

// TestStaleSocket: what a killed process left is no obstacle.
func TestStaleSocket(t *testing.T) {
	start(t, func(c *Config) {
		l, err := new(net.ListenConfig).Listen(context.Background(), "unix", c.Socket)
		if err != nil {
			t.Fatal(err)
		}
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		l.Close()
		if _, err := os.Stat(c.Socket); err != nil {
			t.Fatal(err)
		}
	}).client(v311, "me").expectAlive()
}

// TestBusy: a place that somebody has is a state, tried again until it is free.
func TestBusy(t *testing.T) {
	t.Parallel()
	tcp, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dir := e2e.TempDir(t)
	path := filepath.Join(dir, "s")
	unix, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, socket, listen, why string
		free                      func()
	}{
		{"a living socket", path, "", "another program listens there; stop the program that has it; which one it is: ss -lxtnp", func() { unix.Close() }},
		{"a file", file, "", "there is a file that is not a socket; remove it: rm " + file, func() { os.Remove(file) }},
		{
			"no directory", filepath.Join(dir, "none/s"), "", "no such file or directory; make the directory: mkdir -p " + filepath.Join(dir, "none"),
			func() { _ = os.Mkdir(filepath.Join(dir, "none"), 0o755) },
		},
		{"a port", "", tcp.Addr().String(), "address already in use; stop the program that has it; which one it is: ss -lxtnp", func() { tcp.Close() }},
		{
			"a file for a directory", filepath.Join(other, "s"), "", "not a directory; change local.socket in agent.toml and restart jitr-agent",
			func() { _ = errors.Join(os.Remove(other), os.Mkdir(other, 0o755)) },
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			changes := make(chan Status, 100)
			cfg := (&rig{store: newStore(), t: t}).config(t)
			cfg.Socket, cfg.Listen = test.socket, test.listen
			cfg.Changed = func(s Status) { changes <- s }
			s, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			served := make(chan struct{})
			go func() {
				defer close(served)
				s.Serve(ctx)
			}()
			defer func() { cancel(); <-served }()
			next := func(state State) Status {
				select {
				case st := <-changes:
					if st.State != state {
						t.Fatalf("%+v, want %s", st, state)
					}
					return st
				case <-time.After(patience):
					t.Fatalf("it does not become %s", state)
					return Status{}
				}
			}
			if busy := next(Busy); !strings.Contains(busy.Why, test.why) || !strings.Contains(busy.Why, test.socket+test.listen) {
				t.Errorf("why: %s", busy.Why)
			}
			test.free()
			if ok := next(OK); ok.Why != "" {
				t.Errorf("why: %s", ok.Why)
			}
		})
	}
}

// TestFileIsKept: what is no socket is not ours to remove.
func TestFileIsKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := removeStale(t.Context(), file); err == nil {
		t.Error("it is taken for a socket")
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}

// TestLoopbackOnly: no port for the network.
func TestLoopbackOnly(t *testing.T) {
	for address, ok := range map[string]bool{
		"127.0.0.1:1883": true, "localhost:1883": true, "[::1]:1883": true, "127.9.9.9:1": true, "[::ffff:127.0.0.1]:1883": true,
		"0.0.0.0:1883": false, ":1883": false, "[::]:1883": false, "192.168.1.2:1883": false, "gw-1:1883": false, "127.0.0.1": false,
	} {
		cfg := (&rig{store: newStore(), t: t}).config(t)
		cfg.Listen = address
		if _, err := New(cfg); (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// TestOff: nothing configured is nothing to do.
func TestOff(t *testing.T) {
	s, err := New((&rig{store: newStore(), t: t}).config(t))
	if err != nil {
		t.Fatal(err)
	}
	s.Serve(t.Context()) // returns
	if got := s.Status().State; got != Off {
		t.Errorf("state %q", got)
	}
}

// TestTakeOver: the newer client of an id stays.
func TestTakeOver(t *testing.T) {
	each(t, func(t *testing.T, version byte) {
		r := start(t)
		r.setHold()
		old := r.client(version, "me")
		old.send(publish(version, "telemetry/x", 1, "1"))
		r.await(t, 1)
		p := r.client(version, "me")
		if version == v5 {
			old.expectEnd(0x8E)
		} else {
			old.expectEnd(0)
		}
		p.expectAlive()
		if got := r.Status().Clients; got != 1 {
			t.Errorf("%d clients", got)
		}
		// It sends again what was not acknowledged; that is a message anew.
		p.send(packet(0x3A, str("telemetry/x"), u16(1), none(version), []byte("1")))
		r.await(t, 1)
		_, done := r.take()
		done[0](nil) // the old client's
		p.expectAlive()
		done[1](nil)
		p.expect("4002 0001")
		p.Close()
		eventually(t, func() error {
			if n := r.Status().Clients; n != 0 {
				return fmt.Errorf("%d clients", n)
			}
			return nil
		})
	})
}
