package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/cli"
	"github.com/jitr-agent/jitr-agent/internal/settings"
	"github.com/jitr-agent/jitr-agent/pkg/jitr"
)

// endpointOf turns the settings into what the connection loop dials. An error
// is one of the configuration.
func endpointOf(s *settings.Settings) (jitr.Endpoint, error) {
	host, port, err := s.Cloud.HostPort()
	if err != nil && !errors.Is(err, settings.ErrNoEndpoint) {
		return jitr.Endpoint{}, &cli.ExitError{Code: cli.ExitConfig, Err: err}
	}
	e := jitr.Endpoint{
		Host: host, Port: port, Port443: s.Cloud.Port443 == "always", Fallback: s.Cloud.Port443 == "fallback",
		Proxy:     withPassword(s.Cloud.Proxy.URL()),
		MaxTLS:    tls.VersionTLS12,
		KeepAlive: time.Duration(s.Cloud.KeepAlive), Stall: time.Duration(s.Cloud.Stall),
	}
	if s.Cloud.TLSMax == "1.3" {
		e.MaxTLS = tls.VersionTLS13
	}
	if file := s.Cloud.ServerCA; file != "" {
		if e.Roots, err = serverRoots(file); err != nil {
			return jitr.Endpoint{}, &cli.ExitError{Code: cli.ExitConfig, Err: err}
		}
	}
	return e, nil
}

// withPassword takes the proxy's password from the systemd credential
// proxy-password, where the URL has a user and no password.
func withPassword(proxy *url.URL) *url.URL {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if proxy == nil || proxy.User == nil || dir == "" {
		return proxy
	}
	if _, set := proxy.User.Password(); set {
		return proxy
	}
	secret, err := os.ReadFile(filepath.Join(dir, "proxy-password"))
	if err != nil {
		return proxy // there is none; the proxy says whether it wants one
	}
	proxy.User = url.UserPassword(proxy.User.Username(), strings.TrimRight(string(secret), "\r\n"))
	return proxy
}

func serverRoots(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("cannot read cloud.server_ca: %w; name a PEM file that the service can read", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("cannot use cloud.server_ca %s: it holds no PEM certificate; put the roots of the endpoint there, or leave it empty for the system's", file)
	}
	return pool, nil
}
