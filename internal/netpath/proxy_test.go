package netpath

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestProxy(t *testing.T) {
	for name, answer := range map[string]string{
		"plain":            "HTTP/1.1 200 Connection established\r\n\r\n",
		"old, with header": "HTTP/1.0 200 OK\r\nProxy-Agent: x\r\nVia: 1.1 y\r\n\r\n",
		"another success":  "HTTP/1.1 204 No Content\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			e := newEndpoint(t, &tls.Config{})
			p := newProxy(t, answer, e)
			target := e.target()
			target.Proxy = p.URL
			conn := dial(t, new(Dialer), target)
			asked := <-p.asked
			want := "localhost:" + strconv.Itoa(e.port)
			if asked.Method != http.MethodConnect || asked.RequestURI != want || asked.Host != want {
				t.Errorf("the proxy got %s %s, host %s; want CONNECT %s", asked.Method, asked.RequestURI, asked.Host, want)
			}
			if _, ok := asked.Header["Proxy-Authorization"]; ok {
				t.Error("credentials that nobody gave")
			}
			// The deadline of the CONNECT must not outlive it.
			if _, err := io.WriteString(conn, "ping"); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil {
				t.Error(err)
			}
			if saw := <-e.seen; saw.ServerName != "localhost" {
				t.Errorf("SNI %q through the proxy", saw.ServerName)
			}
		})
	}
}

func TestProxyErrors(t *testing.T) {
	for name, c := range map[string]struct{ answer, want string }{
		"credentials are wanted": {"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", `"407 Proxy Authentication Required"`},
		"not allowed":            {"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", `"403 Forbidden"`},
		"another protocol":       {"SSH-2.0-OpenSSH_9.2p1\r\n", `it does not speak HTTP, its answer begins with "SSH-2.0"`},
		"TLS":                    {"\x15\x03\x01\x00\x02\x02\x0a\x00", "does not speak HTTP"},
		"no status":              {"HTTP/1.1\r\n\r\n", `refused CONNECT`},
		"control characters":     {"HTTP/1.1 500 \x1b[2Jx\nMESSAGE=y\r\n\r\n", `"500 \x1b[2Jx\nMESSAGE=y"`},
		"no end":                 {"HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 2000), "too long"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProxy(t, c.answer, nil)
			p.User = url.UserPassword("gw", "geheim")
			_, err := new(Dialer).Dial(t.Context(), Target{Host: "endpoint.example", Port: 8883, Proxy: p.URL, Stall: time.Second})
			var failed *Error
			if !errors.As(err, &failed) || failed.Phase != Proxy {
				t.Fatalf("%v; want a proxy error", err)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v; want %q in it", err, c.want)
			}
			mentions(t, err)
		})
	}
}

// mentions fails where a secret does.
func mentions(t *testing.T, err error) {
	t.Helper()
	for _, secret := range []string{"geheim", base64.StdEncoding.EncodeToString([]byte("gw:geheim"))} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the password is in %q", err)
		}
	}
}

func TestProxyCredentials(t *testing.T) {
	for user, want := range map[*url.Userinfo]string{
		url.UserPassword("gw", "geheim"):      "gw:geheim",
		url.User("gw"):                        "gw:",
		url.UserPassword("gw", "sp ace:@/%é"): "gw:sp ace:@/%é",
	} {
		p := newProxy(t, "HTTP/1.1 407 no\r\n\r\n", nil)
		p.User = user
		if _, err := new(Dialer).Dial(t.Context(), Target{Host: "endpoint.example", Port: 8883, Proxy: p.URL}); err == nil {
			t.Fatal("no error")
		}
		got := (<-p.asked).Header.Get("Proxy-Authorization")
		if wanted := "Basic " + base64.StdEncoding.EncodeToString([]byte(want)); got != wanted {
			t.Errorf("%s; want %s", got, wanted)
		}
	}
}

// A proxy that is not there or has no address is no fault of the endpoint's.
func TestProxyAbsent(t *testing.T) {
	for _, at := range []string{"127.0.0.1:1", "no-such-proxy.invalid:3128"} {
		proxy := &url.URL{Scheme: "http", Host: at, User: url.UserPassword("gw", "geheim")}
		_, err := new(Dialer).Dial(t.Context(), Target{Host: "localhost", Port: 8883, Proxy: proxy})
		var failed *Error
		if !errors.As(err, &failed) || failed.Phase != Proxy || failed.Peer != at {
			t.Errorf("%v; want a proxy error of %s", err, at)
		}
		mentions(t, err)
	}
}

// A silent proxy holds nobody longer than the caller's context or the phase's
// own time.
func TestProxySilent(t *testing.T) {
	p := newProxy(t, "", nil)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-p.asked; cancel() }()
	target := Target{Host: "endpoint.example", Port: 8883, Proxy: p.URL}
	if _, err := new(Dialer).Dial(ctx, target); !errors.Is(err, context.Canceled) {
		t.Errorf("%v; want %v", err, context.Canceled)
	}

	raw, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", p.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err = connectThrough(ctx, raw, p.URL, "endpoint.example:8883")
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("%v; want a timeout", err)
	}
	mentions(t, err)
}

// The deadline of the CONNECT does not outlive it: the tunnel stands for weeks.
func TestProxyTunnelLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer far.Close()
			if _, err := http.ReadRequest(bufio.NewReader(far)); err != nil {
				t.Error(err)
			}
			for _, part := range []string{"HTTP/1.1 200 OK\r\n\r\n", "x"} {
				if _, err := io.WriteString(far, part); err != nil {
					t.Error(err)
				}
				<-time.After(time.Hour)
			}
		}()
		ctx, cancel := context.WithTimeout(t.Context(), tcpTimeout)
		defer cancel()
		if err := connectThrough(ctx, near, &url.URL{Host: "proxy"}, "endpoint.example:8883"); err != nil {
			t.Fatal(err)
		}
		if _, err := near.Read(make([]byte, 1)); err != nil {
			t.Errorf("an hour later: %v", err)
		}
		near.Close()
		<-done
	})
}

func TestProxyAddress(t *testing.T) {
	for from, want := range map[string]string{
		"http://proxy:3128":         "proxy:3128",
		"http://proxy":              "proxy:8080",
		"http://u:p@10.0.0.1":       "10.0.0.1:8080",
		"http://[2001:db8::1]":      "[2001:db8::1]:8080",
		"http://[2001:db8::1]:3128": "[2001:db8::1]:3128",
	} {
		u, err := url.Parse(from)
		if err != nil {
			t.Fatal(err)
		}
		if got := proxyAddress(u); got != want {
			t.Errorf("%s: %s; want %s", from, got, want)
		}
	}
}
