package causes

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const (
	proxyUser     = "gateway"
	proxyPassword = "s3cr3t-of-the-proxy"
)

// tunnels is a proxy that wants credentials, and then connects.
func tunnels(ctx context.Context, conn net.Conn, _ *tls.Config) {
	in := bufio.NewReader(conn)
	request, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	user, password, _ := basicAuth(request.Header.Get("Proxy-Authorization"))
	if request.Method != http.MethodConnect || user != proxyUser || password != proxyPassword {
		_, _ = io.WriteString(conn, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
		return
	}
	far, err := (&net.Dialer{}).DialContext(ctx, "tcp", request.Host)
	if err != nil {
		_, _ = io.WriteString(conn, "HTTP/1.1 502 Bad Gateway\r\n\r\n")
		return
	}
	defer far.Close()
	_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
	var work sync.WaitGroup
	work.Go(func() {
		_, _ = io.Copy(far, in)
		far.Close()
	})
	_, _ = io.Copy(conn, far)
	conn.Close()
	work.Wait()
}

func basicAuth(header string) (user, password string, ok bool) {
	data, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(header, "Basic "))
	if err != nil {
		return "", "", false
	}
	return strings.Cut(string(data), ":")
}

func TestProxy(t *testing.T) {
	t.Parallel()
	through := func(user, password string, p *server) map[string]string {
		return map[string]string{"cloud.proxy": strconv.Quote("http://" + user + ":" + password + "@" + p.Endpoint())}
	}
	for name, c := range map[string]struct {
		play     play
		password string
		says     []string
	}{
		"407":     {tunnels, proxyPassword + "-no-more", []string{"407 Proxy Authentication Required"}},
		"garbage": {answers([]byte("220 mail.example ESMTP\r\n")...), proxyPassword, []string{"does not speak HTTP", "220 mai"}},
		"EOF":     {raw(func(net.Conn) {}), proxyPassword, []string{"proxy"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv, proxy := startServer(t, "127.0.0.1:0", online), startServer(t, "127.0.0.1:0", c.play)
			g := newGateway(t, srv.Settings(), through(proxyUser, c.password, proxy))
			g.Start()
			g.judge(connecting("proxy"), "proxy", waits["proxy"].first, 0, c.says, []string{"cloud.proxy"})
			g.secrets(proxyPassword)
			if n := len(srv.Met()); n != 0 {
				t.Errorf("%d dials past the proxy", n)
			}
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		t.Parallel()
		srv := startServer(t, "127.0.0.1:0", online)
		g := newGateway(t, srv.Settings(), map[string]string{"cloud.proxy": `"http://127.0.0.1:1"`})
		g.Start()
		g.judge(connecting("proxy"), "proxy", waits["proxy"].first, 0, []string{"refused"}, []string{"cloud.proxy"})
	})
	t.Run("with credentials", func(t *testing.T) {
		t.Parallel()
		srv, proxy := startServer(t, "127.0.0.1:0", online), startServer(t, "127.0.0.1:0", tunnels)
		g := newGateway(t, srv.Settings(), through(proxyUser, proxyPassword, proxy))
		g.Start()
		g.await(soon, "online", 0)
		if shown := text(t, g.Status(), "cloud.proxy"); !strings.Contains(shown, proxy.Endpoint()) {
			t.Errorf("the status has the proxy %q", shown)
		}
		if len(srv.Met()) != 1 || len(proxy.Met()) != 1 {
			t.Errorf("%d dials at the proxy, %d at the endpoint; want 1 each", len(proxy.Met()), len(srv.Met()))
		}
		g.secrets(proxyPassword)
	})
}

// silent checks that a text does not give a secret away, plain or as it goes
// over the wire.
func silent(t *testing.T, what, has, secret string) {
	t.Helper()
	for _, form := range []string{secret, base64.StdEncoding.EncodeToString([]byte(proxyUser + ":" + secret))} {
		if strings.Contains(has, form) {
			t.Errorf("%s gives the password away: %s", what, has)
		}
	}
}
