package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// party is a certificate and the key behind it.
type party struct {
	*x509.Certificate
	key crypto.Signer
}

// issue makes a certificate that by signs, or itself where by is nil.
func issue(t *testing.T, cn string, isCA bool, by *party) *party {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return certify(t, cn, key, isCA, by)
}

func certify(t *testing.T, cn string, key crypto.Signer, isCA bool, by *party) *party {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: cn},
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, IsCA: isCA,
	}
	p := &party{template, key}
	if by == nil {
		by = p
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.Certificate, key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	if p.Certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return p
}

func chainOf(parties ...*party) (chain []*x509.Certificate) {
	for _, p := range parties {
		chain = append(chain, p.Certificate)
	}
	return chain
}

// openssl runs it in dir, and returns its standard output.
func openssl(t *testing.T, dir string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "openssl", args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return out
}

func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestParseChain(t *testing.T) {
	ca := issue(t, "CA", true, nil)
	leaf := issue(t, "gw-1", false, ca)
	one, two := string(EncodeChain(chainOf(leaf))), string(EncodeChain(chainOf(ca)))
	both := one + two
	key := string(pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 8}})) +
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1, 2, 3}}))

	for name, data := range map[string]string{
		"plain":                      both,
		"CRLF":                       strings.ReplaceAll(both, "\n", "\r\n"),
		"no last line end":           strings.TrimSuffix(both, "\n"),
		"joined without a line end":  strings.TrimSuffix(one, "\n") + two,
		"joined, the first one CRLF": strings.ReplaceAll(strings.TrimSuffix(one, "\n"), "\n", "\r\n") + two,
		"byte order mark":            "\ufeff" + both,
		"text before and between":    "Certificate:\n    Data:\n" + one + "subject=CN = CA\n\n" + two + "the end\n",
		"a key in between":           key + one + key + two + key,
		"blank lines":                "\n\n" + one + "\n\n" + two + "\n\n",
		"trailing blanks":            strings.ReplaceAll(both, "\n", "  \n"),
		"old name of the type":       strings.ReplaceAll(both, "CERTIFICATE", "X509 CERTIFICATE"),
	} {
		t.Run(name, func(t *testing.T) {
			chain, err := ParseChain([]byte(data))
			if err != nil {
				t.Fatal(err)
			}
			if len(chain) != 2 || !chain[0].Equal(leaf.Certificate) || !chain[1].Equal(ca.Certificate) {
				t.Errorf("%d certificates, or others than leaf and CA", len(chain))
			}
		})
	}
}

func TestParseChainErrors(t *testing.T) {
	ca := issue(t, "CA", true, nil)
	one, two := string(EncodeChain(chainOf(issue(t, "gw-1", false, ca)))), string(EncodeChain(chainOf(ca)))
	notDER := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("not a certificate")}))

	for name, c := range map[string]struct {
		data string
		want error  // where it is a sentinel
		text string // that the message must have
	}{
		"empty":               {"", ErrNoCertificate, ""},
		"a key only":          {string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}})), ErrNoCertificate, ""},
		"DER":                 {string(ca.Raw), ErrNoCertificate, ""},
		"the leaf is damaged": {strings.Replace(one, "\nMII", "\n!II", 1) + two, ErrDamaged, ""},
		"the CA is cut off":   {one + two[:len(two)/2], ErrDamaged, ""},
		"the second is no certificate": {
			one + notDER, nil, "certificate 2 in it is damaged",
		},
	} {
		t.Run(name, func(t *testing.T) {
			chain, err := ParseChain([]byte(c.data))
			if err == nil {
				t.Fatalf("%d certificates and no error", len(chain))
			}
			if c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v; want %v, %q", err, c.want, c.text)
			}
		})
	}
}

// Whatever openssl x509 writes can be read.
func TestParseOpenSSL(t *testing.T) {
	dir := t.TempDir()
	openssl(t, dir, "req", "-x509", "-new", "-nodes", "-newkey", "rsa:2048", "-keyout", "k", "-subj", "/CN=CA", "-days", "1", "-out", "c")
	want, err := ParseChain(read(t, dir, "c"))
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range [][]string{{"-text"}, {"-trustout"}, {"-trustout", "-addtrust", "clientAuth", "-setalias", "x"}} {
		got, err := ParseChain(openssl(t, dir, append([]string{"x509", "-in", "c"}, form...)...))
		if err != nil {
			t.Errorf("openssl x509 %v: %v", form, err)
		} else if len(got) != 1 || !got[0].Equal(want[0]) {
			t.Errorf("openssl x509 %v gave another certificate", form)
		}
	}
}

// The id is the SHA-256 of the DER, as others compute it too.
func TestID(t *testing.T) {
	dir := t.TempDir()
	c := issue(t, "gw-1", false, nil)
	if err := os.WriteFile(filepath.Join(dir, "c"), EncodeChain(chainOf(c)), 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(openssl(t, dir, "x509", "-in", "c", "-outform", "der"))
	if got, want := ID(c.Certificate), hex.EncodeToString(sum[:]); got != want {
		t.Errorf("ID %s; want %s", got, want)
	}
}

func TestAppend(t *testing.T) {
	ca, leaf := issue(t, "CA", true, nil), issue(t, "gw-1", false, nil)
	again, err := x509.ParseCertificate(ca.Raw) // equal, and another pointer
	if err != nil {
		t.Fatal(err)
	}
	chain := Append(chainOf(leaf, ca), []*x509.Certificate{again, leaf.Certificate})
	if len(chain) != 2 {
		t.Errorf("%d certificates; want 2, each once", len(chain))
	}
	if chain = Append(chainOf(leaf), chainOf(ca)); len(chain) != 2 || chain[1] != ca.Certificate {
		t.Errorf("the CA was not appended")
	}
}

func TestCheckChain(t *testing.T) {
	root := issue(t, "Root", true, nil)
	intermediate := issue(t, "Factory", true, root)
	leaf := issue(t, "gw-1", false, intermediate)
	other := issue(t, "Other", true, nil)
	double := issue(t, "Factory", true, nil) // the name of intermediate, another key
	cross := certify(t, "Factory", intermediate.key, true, other)
	noCA := issue(t, "Not a CA", false, nil)
	ofNoCA := issue(t, "gw-2", false, noCA)

	for name, c := range map[string]struct {
		chain []*x509.Certificate
		want  error
		text  string // that the message must have
	}{
		"leaf and issuer":                  {chainOf(leaf, intermediate), nil, ""},
		"up to the root":                   {chainOf(leaf, intermediate, root), nil, ""},
		"cross-signed issuer":              {chainOf(leaf, cross, other), nil, ""},
		"empty":                            {nil, ErrNoCertificate, ""},
		"the leaf alone":                   {chainOf(leaf), ErrNoIssuer, ""},
		"the CA alone":                     {chainOf(root), ErrNoCertificate, `only the CA certificate "Root"`},
		"the CA first":                     {chainOf(intermediate, leaf), ErrOrder, `the first one, "Factory"`},
		"root before intermediate":         {chainOf(leaf, root, intermediate), ErrOrder, `certificate 1, "gw-1", is not signed by certificate 2, "Root"`},
		"the intermediate is missing":      {chainOf(leaf, root), ErrNoIssuer, `signed by "Factory", and certificate 2 is "Root"`},
		"an unrelated one at the end":      {chainOf(leaf, intermediate, other), ErrNoIssuer, `certificate 2, "Factory"`},
		"a CA of the same name":            {chainOf(leaf, double), ErrNoIssuer, "but with another key"},
		"a cross-signed issuer's own root": {chainOf(leaf, cross, root), ErrNoIssuer, `signed by "Other"`},
		"an issuer without CA:TRUE":        {chainOf(ofNoCA, noCA), ErrNotCA, `certificate 2, "Not a CA"`},
	} {
		t.Run(name, func(t *testing.T) {
			err := CheckChain(c.chain)
			if !errors.Is(err, c.want) {
				t.Fatalf("%v; want %v", err, c.want)
			}
			if err != nil && !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v; want %q in it", err, c.text)
			}
		})
	}
}

// The how-to's certificate has all fields left blank, so the leaf is a version
// 1 certificate with the subject of its issuer.
func TestCheckChainHowTo(t *testing.T) {
	dir := t.TempDir()
	config := "[req]\ndistinguished_name=dn\nprompt=no\nx509_extensions=ca\n[dn]\nC=AU\nST=Some-State\nO=Internet Widgits Pty Ltd\n[ca]\nbasicConstraints=CA:TRUE\n"
	if err := os.WriteFile(filepath.Join(dir, "blank"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	openssl(t, dir, "req", "-x509", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "CAroot.key", "-sha256", "-days", "365", "-config", "blank", "-out", "CAroot.pem")
	openssl(t, dir, "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "deviceCert.key", "-config", "blank", "-out", "deviceCert.csr")
	openssl(t, dir, "x509", "-req", "-in", "deviceCert.csr", "-CA", "CAroot.pem", "-CAkey", "CAroot.key", "-CAcreateserial", "-out", "deviceCert.crt", "-days", "365", "-sha256")
	chain, err := ParseChain(append(read(t, dir, "deviceCert.crt"), read(t, dir, "CAroot.pem")...))
	if err != nil {
		t.Fatal(err)
	}
	if leaf := chain[0]; leaf.Version != 1 || !bytes.Equal(leaf.RawSubject, leaf.RawIssuer) {
		t.Fatalf("openssl made version %d, subject %s, issuer %s: not what this test is about", leaf.Version, leaf.Subject, leaf.Issuer)
	}
	if err := CheckChain(chain); err != nil {
		t.Error(err)
	}
	if err := CheckChain(chain[:1]); !errors.Is(err, ErrNoIssuer) {
		t.Errorf("the leaf alone: %v; want %v", err, ErrNoIssuer)
	}
}

func TestCheckValidity(t *testing.T) {
	c := issue(t, "gw-1", false, nil).Certificate
	for name, step := range map[string]struct {
		now  time.Time
		want error
	}{
		"the first second":  {c.NotBefore, nil},
		"the last second":   {c.NotAfter, nil},
		"a second too soon": {c.NotBefore.Add(-time.Second), ErrNotYetValid},
		"a second too late": {c.NotAfter.Add(time.Second), ErrExpired},
		"the year 1970":     {time.Unix(0, 0), ErrNotYetValid},
	} {
		err := CheckValidity(c, step.now)
		if !errors.Is(err, step.want) {
			t.Errorf("%s: %v; want %v", name, err, step.want)
		}
		if err != nil && !strings.Contains(err.Error(), step.now.UTC().Format(time.RFC3339)) {
			t.Errorf("%s: %v; it does not say what the clock says", name, err)
		}
	}
}

func TestName(t *testing.T) {
	for want, c := range map[string]*x509.Certificate{
		"gw-1":      {Subject: pkix.Name{CommonName: "gw-1", Names: []pkix.AttributeTypeAndValue{{}}}},
		"O=Acme":    parsed(t, pkix.Name{Organization: []string{"Acme"}}),
		"serial ff": {SerialNumber: big.NewInt(255)},
	} {
		if got := Name(c); got != want {
			t.Errorf("%q; want %q", got, want)
		}
	}
}

func parsed(t *testing.T, subject pkix.Name) *x509.Certificate {
	t.Helper()
	key := issue(t, "", false, nil).key
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: subject}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestValidThingName(t *testing.T) {
	for name, want := range map[string]bool{
		"gw-1": true, "A:b_c-9": true, strings.Repeat("x", 128): true,
		"": false, strings.Repeat("x", 129): false, "gw 1": false, "gw/1": false, "gw.1": false,
		"gw-1\n": false, "gateway-ä": false, "#": false, "+": false, "$aws": false,
	} {
		if got := ValidThingName(name); got != want {
			t.Errorf("%q: %v; want %v", name, got, want)
		}
	}
}
