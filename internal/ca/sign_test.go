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

	"github.com/jitr-agent/jitr-agent/internal/ca/inventory"
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
	reopened, err := Open(c.dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	again := sign(t, reopened, request(t, key, "gw-1"), SignOptions{Days: 7, Now: now.Add(time.Hour)})
	if !again.Again || !bytes.Equal(certs.EncodeChain(again.Chain), certs.EncodeChain(first.Chain)) {
		t.Errorf("Again = %v, want the same certificate, marked as made before:\n%s", again.Again, certs.EncodeChain(again.Chain))
	}

	for name, other := range map[string]*Issued{
		"another key":        sign(t, c, request(t, newECKey(t), "gw-1"), SignOptions{}),
		"renewed on wish":    sign(t, c, request(t, key, "gw-1"), SignOptions{Renew: true}),
		"renewed by its end": sign(t, c, request(t, key, "gw-1"), SignOptions{RenewBefore: now.AddDate(0, 0, DefaultDeviceDays+1)}),
	} {
		if other.Again || other.Chain[0].Equal(first.Chain[0]) {
			t.Errorf("%s gives the same certificate", name)
		}
	}
	if got := sign(t, c, request(t, key, "gw-1"), SignOptions{RenewBefore: now.AddDate(0, 0, 90)}); !got.Again {
		t.Error("a certificate that ends in years was renewed")
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
	c, err = Open(c.dir, nil)
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

// What an intermediate CA signs carries the whole chain, and its own
// certificate is in the parent's inventory.
func TestSign_underAnIntermediateCA(t *testing.T) {
	root := newTestCA(t)
	below := func(parent *CA, name string, days int) *CA {
		t.Helper()
		c, err := Init(t.Context(), filepath.Join(t.TempDir(), "CA"), InitOptions{CommonName: name, Algorithm: "rsa-2048", Days: days, Parent: parent, Now: now})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	plant := below(root, "Plant 7", DefaultDays+100)
	if own := plant.Certificate(); !own.NotAfter.Equal(root.Certificate().NotAfter) || !own.IsCA || own.KeyUsage != root.Certificate().KeyUsage {
		t.Errorf("NotAfter %s, the root's %s; IsCA %v, keyUsage %b", own.NotAfter, root.Certificate().NotAfter, own.IsCA, own.KeyUsage)
	}
	hall := below(plant, "Hall 3", 100)
	reopened, err := Open(hall.dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	issued := sign(t, reopened, request(t, newECKey(t), "gw-1"), SignOptions{Days: 30})
	if len(issued.Chain) != 4 {
		t.Fatalf("%d certificates, want leaf, two intermediates, root", len(issued.Chain))
	}
	opensslVerify(t, filepath.Join(root.dir, "ca.crt"), issued.Chain)

	list, err := root.List(t.Context(), Filter{}, now)
	if err != nil || len(list) != 1 || list[0].CertificateID != certs.ID(plant.Certificate()) {
		t.Errorf("the root's inventory: %v, %v; want the plant's certificate", list, err)
	}
	if _, err := Init(t.Context(), t.TempDir(), InitOptions{CommonName: "Test CA", Algorithm: "ecdsa-p256", Days: 1, Parent: root, Now: now}); err == nil {
		t.Error("a CA with its parent's own name is made")
	}
}

// The limit that an openssl user put into the root holds below it.
func TestInit_pathLength(t *testing.T) {
	dir := t.TempDir()
	for length, want := range map[string]error{"0": ErrNoCABelow, "1": nil} {
		sub := filepath.Join(dir, length)
		if err := os.Mkdir(sub, 0o700); err != nil {
			t.Fatal(err)
		}
		openssl(t, nil, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=root", "-keyout", filepath.Join(sub, "ca.key"), "-out", filepath.Join(sub, "ca.crt"),
			"-days", "30", "-addext", "basicConstraints=critical,CA:TRUE,pathlen:"+length)
		root, err := Open(sub, nil)
		if err != nil {
			t.Fatal(err)
		}
		o := InitOptions{CommonName: "below", Algorithm: "ecdsa-p256", Days: 10, Parent: root, Now: time.Now()}
		below, err := Init(t.Context(), filepath.Join(sub, "below"), o)
		if !errors.Is(err, want) {
			t.Fatalf("pathlen %s: err = %v, want %v", length, err, want)
		}
		if want != nil {
			continue
		}
		if own := below.Certificate(); own.MaxPathLen != 0 || !own.MaxPathLenZero {
			t.Errorf("below pathlen 1: MaxPathLen %d, zero %v", own.MaxPathLen, own.MaxPathLenZero)
		}
	}
}

func TestSign_keyOfAnother(t *testing.T) {
	c, key := newTestCA(t), newECKey(t)
	sign(t, c, request(t, key, "gw-1"), SignOptions{})
	other := SignOptions{Days: 30, Now: now}

	_, err := c.Sign(t.Context(), request(t, key, "gw-2"), other)
	if !errors.Is(err, ErrKeyReused) || !strings.Contains(err.Error(), `"gw-1"`) {
		t.Fatalf("err = %v, want ErrKeyReused that names gw-1", err)
	}
	// A gateway that gets a new name: the old one is revoked first.
	if _, err := c.Revoke(t.Context(), "gw-1", inventory.Unspecified, now); err != nil {
		t.Fatal(err)
	}
	sign(t, c, request(t, key, "gw-2"), other)
	if _, err := c.Sign(t.Context(), request(t, key, "gw-1"), other); !errors.Is(err, ErrIssuedBefore) {
		t.Errorf("the revoked one again: err = %v, want ErrIssuedBefore", err)
	}
	if _, err := c.Revoke(t.Context(), "gw-2", inventory.KeyCompromise, now); err != nil {
		t.Fatal(err)
	}
	other.Renew = true
	for _, name := range []string{"gw-1", "gw-2", "gw-3"} {
		if _, err := c.Sign(t.Context(), request(t, key, name), other); !errors.Is(err, ErrCompromised) {
			t.Errorf("%s with a compromised key: err = %v, want ErrCompromised", name, err)
		}
	}
}

// A directory of a jitrctl that had no inventory goes on: its certificates
// are the ones given out.
func TestOpen_takesOverIssued(t *testing.T) {
	c, key := newTestCA(t), newECKey(t)
	csr := request(t, key, "gw-1")
	older := sign(t, c, csr, SignOptions{}).Chain[0]
	newer := sign(t, c, csr, SignOptions{Renew: true}).Chain[0]
	if err := os.Remove(filepath.Join(c.dir, inventory.File)); err != nil {
		t.Fatal(err)
	}
	issued := filepath.Join(c.dir, "issued")
	if err := os.Mkdir(issued, 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(issued, strings.Repeat("ab", 32)+".crt")
	if err := os.WriteFile(file, certs.EncodeChain([]*x509.Certificate{newer, older})[:900], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.List(t.Context(), Filter{}, now); !errors.Is(err, certs.ErrDamaged) || !strings.Contains(err.Error(), file) {
		t.Errorf("a damaged file: err = %v", err)
	}
	if err := os.WriteFile(file, certs.EncodeChain([]*x509.Certificate{newer, older}), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := sign(t, c, csr, SignOptions{}); !got.Again || !got.Chain[0].Equal(newer) {
		t.Errorf("Again %v, serial %x, want %x", got.Again, got.Chain[0].SerialNumber, newer.SerialNumber)
	}
	if list, err := c.List(t.Context(), Filter{}, now); err != nil || len(list) != 2 {
		t.Errorf("%d in the inventory, %v; want 2", len(list), err)
	}
}
