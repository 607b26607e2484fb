package rig

import (
	"net"
	"testing"
	"time"
)

// FreePort is a TCP port of the loopback interface that nobody listens on.
func FreePort(t testing.TB) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// AwaitPort waits until a server listens on a port of the loopback interface.
func AwaitPort(t testing.TB, server *Process, port string, d time.Duration) {
	t.Helper()
	Eventually(t, d, func() error {
		if !server.Running() {
			t.Fatal("the server did not start")
		}
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", port))
		if err != nil {
			return err
		}
		return c.Close()
	})
}
