package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/certs"
	"github.com/jitr-agent/jitr-agent/internal/cli"
	"github.com/jitr-agent/jitr-agent/internal/settings"
)

// certificate is a chain of one, signed by itself.
func certificate(t *testing.T, cn string) []*x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: cn}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return []*x509.Certificate{c}
}

func parse(t *testing.T, toml string) *settings.Settings {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent.toml")
	if err := os.WriteFile(path, []byte(toml), 0o600); err != nil {
		t.Fatal(err)
	}
	s, _, err := settings.Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEndpointOf(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	none, err := endpointOf(parse(t, ""))
	if err != nil || none.Host != "" {
		t.Errorf("an empty endpoint is no error, the agent waits: %+v, %v", none, err)
	}
	usual, err := endpointOf(parse(t, "[cloud]\nendpoint = \"a.example\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if usual.Host != "a.example" || usual.Port != 8883 || usual.Port443 || usual.Proxy != nil || usual.Roots != nil ||
		usual.MaxTLS != tls.VersionTLS12 || usual.KeepAlive != time.Minute || usual.Stall != 20*time.Second {
		t.Errorf("%+v", usual)
	}

	roots := filepath.Join(t.TempDir(), "roots.pem")
	ca := certificate(t, "Root")
	if err := os.WriteFile(roots, certs.EncodeChain(ca), 0o600); err != nil {
		t.Fatal(err)
	}
	other, err := endpointOf(parse(t, "[cloud]\nendpoint = \"a.example:8884\"\nport_443 = \"always\"\ntls_max = \"1.3\"\n"+
		"keep_alive = \"90s\"\nstall = \"7s\"\nproxy = \"http://gw:geheim@proxy:3128\"\nserver_ca = \""+roots+"\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	password, _ := other.Proxy.User.Password()
	if other.Port != 8884 || !other.Port443 || other.MaxTLS != tls.VersionTLS13 || other.KeepAlive != 90*time.Second ||
		other.Stall != 7*time.Second || other.Proxy.Host != "proxy:3128" || password != "geheim" {
		t.Errorf("%+v", other)
	}
	want := x509.NewCertPool()
	want.AddCert(ca[0])
	if !other.Roots.Equal(want) {
		t.Error("the roots are not those of server_ca")
	}
}

// A file of roots that is of no use is a wrong configuration.
func TestEndpointOfErrors(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, []byte("no PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{empty, empty + ".none"} {
		_, err := endpointOf(parse(t, "[cloud]\nendpoint = \"a.example\"\nserver_ca = \""+file+"\"\n"))
		var exit *cli.ExitError
		if !errors.As(err, &exit) || exit.Code != cli.ExitConfig || !strings.Contains(err.Error(), "cloud.server_ca") || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", file, err)
		}
	}
}
