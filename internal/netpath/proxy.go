package netpath

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"
)

// proxyAddress is where to reach the proxy; 8080 is the port where none is
// given.
func proxyAddress(proxy *url.URL) string {
	if proxy.Port() != "" {
		return proxy.Host
	}
	return net.JoinHostPort(proxy.Hostname(), "8080")
}

// maxProxyAnswer bounds the header of a proxy's answer, in bytes.
const maxProxyAnswer = 8 << 10

// proxyVersion is how the answer begins.
const proxyVersion = "HTTP/1."

// connectThrough asks the proxy on conn for a tunnel to peer. net/http would
// do it too, and cost the agent 0.9 MB for these lines.
func connectThrough(ctx context.Context, conn net.Conn, proxy *url.URL, peer string) error {
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline) // it fails only on a closed connection, as the Write below does
		defer func() { _ = conn.SetDeadline(time.Time{}) }()
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()

	request := "CONNECT " + peer + " HTTP/1.1\r\nHost: " + peer + "\r\n"
	if user := proxy.User; user != nil {
		password, _ := user.Password()
		request += "Proxy-Authorization: Basic " +
			base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)) + "\r\n"
	}
	if _, err := conn.Write([]byte(request + "\r\n")); err != nil {
		return err
	}
	// The tunnel's own bytes follow the header at once, so nothing behind it
	// may be read here: one byte at a time, once a connection.
	var header []byte
	one := make([]byte, 1)
	for !bytes.HasSuffix(header, []byte("\r\n\r\n")) {
		if len(header) == maxProxyAnswer {
			return errors.New("its answer to CONNECT is too long to be HTTP")
		}
		if _, err := conn.Read(one); err != nil {
			return fmt.Errorf("no answer to CONNECT: %w", err)
		}
		header = append(header, one[0])
		// Whoever does not speak HTTP may well say no more than this.
		if len(header) == len(proxyVersion) && string(header) != proxyVersion {
			return fmt.Errorf("it does not speak HTTP, its answer begins with %q", header)
		}
	}
	status, _, _ := strings.Cut(string(header), "\r\n")
	_, code, _ := strings.Cut(status, " ")
	if !strings.HasPrefix(code, "2") { // any 2xx opens the tunnel (RFC 9110, section 9.3.6)
		return fmt.Errorf("it refused CONNECT %s with %.100q", peer, code)
	}
	return nil
}
