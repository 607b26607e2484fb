package ca

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/certs"
)

func TestSign(t *testing.T) {
	c := newTestCA(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{"ecdsa": newECKey(t), "rsa": rsaKey} {
		t.Run(name, func(t *testing.T) {
			issued := sign(t, c, request(t, key, "gw-"+name), SignOptions{Days: 30})
			if err := certs.CheckChain(issued.Chain); err != nil {
				t.Errorf("our own check: %v", err)
			}
			opensslVerify(t, filepath.Join(c.dir, "ca.crt"), issued.Chain)

			leaf := issued.Chain[0]
			if leaf.Subject.CommonName != "gw-"+name || !certs.SameKey(leaf.PublicKey, key.Public()) {
				t.Errorf("subject %s, key %T", leaf.Subject, leaf.PublicKey)
			}
			if !leaf.BasicConstraintsValid || leaf.IsCA {
				t.Error("basicConstraints is not CA:FALSE")
			}
			if leaf.KeyUsage != x509.KeyUsageDigitalSignature || len(leaf.ExtKeyUsage) != 1 || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth {
				t.Errorf("keyUsage %b, extKeyUsage %v", leaf.KeyUsage, leaf.ExtKeyUsage)
			}
			if leaf.SerialNumber.Sign() != 1 || leaf.SerialNumber.BitLen() < 121 {
				t.Errorf("serial number %x", leaf.SerialNumber)
			}
			if want := now.AddDate(0, 0, 30).Truncate(time.Second); !leaf.NotAfter.Equal(want) || issued.Capped {
				t.Errorf("NotAfter %s, want %s; Capped %v", leaf.NotAfter, want, issued.Capped)
			}
		})
	}
}

// A request is a wish: what it asks for beyond key and name is not granted.
func TestSign_grantsNoExtensions(t *testing.T) {
	c, key := newTestCA(t), newECKey(t)
	ca := pkix.Extension{Id: []int{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 0x03, 0x01, 0x01, 0xff}} // basicConstraints CA:TRUE
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:         pkix.Name{CommonName: "gw-1"},
		DNSNames:        []string{"iot.example.com"},
		ExtraExtensions: []pkix.Extension{ca},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := ParseRequest(encodeRequest(der))
	if err != nil {
		t.Fatal(err)
	}
	if leaf := sign(t, c, csr, SignOptions{}).Chain[0]; leaf.IsCA || len(leaf.DNSNames) > 0 {
		t.Errorf("IsCA %v, DNS names %q", leaf.IsCA, leaf.DNSNames)
	}
}

func TestSign_sameRequestSameCertificate(t *testing.T) {
	c, key := newTestCA(t), newECKey(t)
	first := sign(t, c, request(t, key, "gw-1"), SignOptions{})
	if first.Again {
		t.Error("the first one claims to be made before")
	}

	// Later, by another process, from a request that was made afresh.
	reopened, err := Open(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	again := sign(t, reopened, request(t, key, "gw-1"), SignOptions{Days: 7, Now: now.Add(time.Hour)})
	if !again.Again || !bytes.Equal(certs.EncodeChain(again.Chain), certs.EncodeChain(first.Chain)) {
		t.Errorf("Again = %v, want the same certificate, marked as made before:\n%s", again.Again, certs.EncodeChain(again.Chain))
	}

	for name, other := range map[string]*Issued{
		"another key":     sign(t, c, request(t, newECKey(t), "gw-1"), SignOptions{}),
		"another name":    sign(t, c, request(t, key, "gw-2"), SignOptions{}),
		"name by --name":  sign(t, c, request(t, key, "gw-1"), SignOptions{Name: "gw-3"}),
		"renewed on wish": sign(t, c, request(t, key, "gw-1"), SignOptions{Renew: true}),
	} {
		if other.Again || other.Chain[0].Equal(first.Chain[0]) {
			t.Errorf("%s gives the same certificate", name)
		}
	}
	renewed := sign(t, c, request(t, key, "gw-1"), SignOptions{Renew: true})
	if got := sign(t, c, request(t, key, "gw-1"), SignOptions{}); !got.Again || !got.Chain[0].Equal(renewed.Chain[0]) {
		t.Error("after --renew, the same request does not give the newest certificate")
	}
}

func TestSign_earlierCertificateOfNoUse(t *testing.T) {
	c, csr := newTestCA(t), request(t, newECKey(t), "gw-1")
	sign(t, c, csr, SignOptions{Days: 1})

	_, err := c.Sign(t.Context(), csr, SignOptions{Days: 1, Now: now.AddDate(0, 0, 2)})
	if !errors.Is(err, ErrIssuedBefore) || !strings.Contains(err.Error(), "--renew") {
		t.Errorf("expired: err = %v", err)
	}
	if got := sign(t, c, csr, SignOptions{Renew: true, Now: now.AddDate(0, 0, 2)}); got.Again {
		t.Error("--renew gives the expired one")
	}

	// The operator puts a new CA into the directory and keeps issued/.
	other := newTestCA(t)
	for _, file := range []string{"ca.crt", "ca.key"} {
		if err := os.Rename(filepath.Join(other.dir, file), filepath.Join(c.dir, file)); err != nil {
			t.Fatal(err)
		}
	}
	c, err = Open(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Sign(t.Context(), csr, SignOptions{Days: 1, Now: now}); !errors.Is(err, ErrIssuedBefore) {
		t.Errorf("other CA: err = %v", err)
	}
}

func TestSign_neverOutlivesTheCA(t *testing.T) {
	c := newTestCA(t)
	own := c.Certificate()
	issued := sign(t, c, request(t, newECKey(t), "gw-1"), SignOptions{Days: DefaultDays + 1})
	if leaf := issued.Chain[0]; !issued.Capped || !leaf.NotAfter.Equal(own.NotAfter) {
		t.Errorf("Capped = %v, NotAfter = %s, the CA's %s", issued.Capped, leaf.NotAfter, own.NotAfter)
	}
	if leaf := sign(t, c, request(t, newECKey(t), "gw-2"), SignOptions{}).Chain[0]; leaf.NotBefore.Before(own.NotBefore) {
		t.Errorf("NotBefore = %s, before the CA's %s", leaf.NotBefore, own.NotBefore)
	}
	csr := request(t, newECKey(t), "gw-3")
	if _, err := c.Sign(t.Context(), csr, SignOptions{Days: 1, Now: own.NotAfter.Add(time.Second)}); !errors.Is(err, certs.ErrExpired) {
		t.Errorf("expired CA: err = %v", err)
	}
	if _, err := c.Sign(t.Context(), csr, SignOptions{Days: 1, Now: own.NotBefore.Add(-time.Second)}); !errors.Is(err, certs.ErrNotYetValid) {
		t.Errorf("CA of the future: err = %v", err)
	}
}

func TestSign_name(t *testing.T) {
	c := newTestCA(t)
	acme := pkix.Name{Organization: []string{"Acme"}, Country: []string{"DE"}}
	named := func(cn string) pkix.Name { n := acme; n.CommonName = cn; return n }
	twice := acme
	twice.ExtraNames = []pkix.AttributeTypeAndValue{{Type: oidCommonName, Value: "gw-1"}, {Type: oidCommonName, Value: "gw-2"}}

	for name, tt := range map[string]struct {
		subject pkix.Name
		flag    string
		want    string // "" for ErrBadName
	}{
		"as requested":         {named("gw-1"), "", "CN=gw-1,O=Acme,C=DE"},
		"none":                 {acme, "", ""},
		"none, given":          {acme, "gw-9", "CN=gw-9,O=Acme,C=DE"},
		"replaced":             {named("gw-1"), "gw-9", "CN=gw-9,O=Acme,C=DE"},
		"empty subject, given": {pkix.Name{}, "gw-9", "CN=gw-9"},
		"no thing name":        {named("gw 1"), "", ""},
		"with a dot":           {named("gw.1"), "", ""},
		"replaced by bad":      {named("gw-1"), "gw 1", ""},
		"two names":            {twice, "", ""},
		"two names, chosen":    {twice, "gw-2", "CN=gw-2,O=Acme,C=DE"},
		"128 letters":          {acme, strings.Repeat("a", 128), "CN=" + strings.Repeat("a", 128) + ",O=Acme,C=DE"},
		"129 letters":          {acme, strings.Repeat("a", 129), ""},
	} {
		t.Run(name, func(t *testing.T) {
			csr, err := ParseRequest(encodeRequest(requestDER(t, newECKey(t), tt.subject)))
			if err != nil {
				t.Fatal(err)
			}
			issued, err := c.Sign(t.Context(), csr, SignOptions{Name: tt.flag, Days: 1, Now: now})
			switch {
			case tt.want == "" && !errors.Is(err, ErrBadName):
				t.Errorf("err = %v, want ErrBadName", err)
			case tt.want != "" && err != nil:
				t.Error(err)
			case tt.want != "" && issued.Chain[0].Subject.String() != tt.want:
				t.Errorf("subject = %s, want %s", issued.Chain[0].Subject, tt.want)
			}
		})
	}
}

func TestSign_atTheSameTime(t *testing.T) {
	c, key := newTestCA(t), newECKey(t)
	const processes = 8
	leaves := make(chan *x509.Certificate)
	for range processes {
		csr := request(t, key, "gw-1")
		go func() {
			issued, err := c.Sign(t.Context(), csr, SignOptions{Days: 1, Now: now})
			if err != nil {
				t.Error(err)
				leaves <- nil
				return
			}
			leaves <- issued.Chain[0]
		}()
	}
	first := <-leaves
	for range processes - 1 {
		if leaf := <-leaves; leaf == nil || first == nil || !leaf.Equal(first) {
			t.Error("two certificates for one request")
		}
	}
}

func TestSign_keyOfAnotherCA(t *testing.T) {
	c, other := newTestCA(t), newTestCA(t)
	if err := os.Rename(filepath.Join(other.dir, "ca.key"), filepath.Join(c.dir, "ca.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Sign(t.Context(), request(t, newECKey(t), "gw-1"), SignOptions{Days: 1, Now: now}); !errors.Is(err, ErrKeyMismatch) {
		t.Errorf("err = %v, want ErrKeyMismatch", err)
	}
}

// An intermediate CA, made by openssl's rules: what it signs carries the
// whole chain.
func TestSign_underAnIntermediateCA(t *testing.T) {
	root := newTestCA(t)
	dir := t.TempDir()
	key, err := newKey("ecdsa-p256")
	if err != nil {
		t.Fatal(err)
	}
	template, err := root.leafTemplate(key.Public(), now, now.AddDate(1, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	template.Subject, template.IsCA, template.KeyUsage = pkix.Name{CommonName: "Plant 7"}, true, x509.KeyUsageCertSign
	rootKey, err := root.signer(now)
	if err != nil {
		t.Fatal(err)
	}
	own, err := create(template, root.Certificate(), key.Public(), rootKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := write(dir, key, own); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), certs.EncodeChain([]*x509.Certificate{own, root.Certificate()}), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	issued := sign(t, c, request(t, newECKey(t), "gw-1"), SignOptions{})
	if len(issued.Chain) != 3 {
		t.Fatalf("%d certificates, want leaf, intermediate, root", len(issued.Chain))
	}
	opensslVerify(t, filepath.Join(root.dir, "ca.crt"), issued.Chain)
}
