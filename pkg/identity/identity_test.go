package identity

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/certs"
	"github.com/jitr-agent/jitr-agent/internal/swtpmtest"
	"github.com/jitr-agent/jitr-agent/pkg/tpm"
)

// authority is a CA for tests.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newCA(t testing.TB, cn string, change ...func(*x509.Certificate)) *authority {
	t.Helper()
	ca := &authority{key: newKey(t)}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: cn}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	for _, f := range change {
		f(template)
	}
	ca.cert = ca.issue(t, template, ca.key.Public(), template)
	return ca
}

func (ca *authority) issue(t testing.TB, template *x509.Certificate, pub crypto.PublicKey, parent *x509.Certificate) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = serial
	if template.NotBefore.IsZero() {
		template.NotBefore = time.Now().Add(-time.Hour)
	}
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// leaf makes a device certificate for a public key.
func (ca *authority) leaf(t testing.TB, cn string, pub crypto.PublicKey, change ...func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{Subject: pkix.Name{CommonName: cn}, KeyUsage: x509.KeyUsageDigitalSignature}
	for _, f := range change {
		f(template)
	}
	return ca.issue(t, template, pub, ca.cert)
}

func options(t testing.TB) Options {
	t.Helper()
	return Options{
		StateDir: filepath.Join(t.TempDir(), "state"), Key: "file", Algorithm: "ecdsa-p256",
		TPMDevice: filepath.Join(t.TempDir(), "tpmrm0"), Root: t.TempDir(),
	}
}

// write puts PEM data into a file outside the state directory.
func write(t testing.TB, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "given.pem")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func pemOf(chain ...*x509.Certificate) []byte { return certs.EncodeChain(chain) }

// csrKey makes a key and a CSR for it, and returns the CSR's public key.
func csrKey(t testing.TB, opts Options) crypto.PublicKey {
	t.Helper()
	csr, err := MakeCSR(t.Context(), opts, "CN=gw-1")
	if err != nil {
		t.Fatal(err)
	}
	return parseCSR(t, csr.PEM).PublicKey
}

func parseCSR(t testing.TB, data []byte) *x509.CertificateRequest {
	t.Helper()
	block, rest := pem.Decode(data)
	if block == nil || len(rest) != 0 {
		t.Fatalf("not one PEM block: %q", data)
	}
	req, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := req.CheckSignature(); err != nil {
		t.Fatal(err)
	}
	return req
}

func importChain(t testing.TB, opts Options, chain ...*x509.Certificate) ImportResult {
	t.Helper()
	res, err := Import(t.Context(), opts, ImportFiles{Cert: write(t, pemOf(chain...))}, false, time.Now(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// provider is one way to keep a key; the conformance test runs all.
type provider struct {
	name      string
	configure func(t *testing.T, opts *Options)
}

func providers() (all []provider) {
	for _, alg := range []string{"ecdsa-p256", "rsa-2048"} {
		all = append(all,
			provider{"file/" + alg, func(_ *testing.T, o *Options) { o.Key, o.Algorithm = "file", alg }},
			provider{"tpm/" + alg, func(t *testing.T, o *Options) {
				o.Key, o.Algorithm, o.TPMDevice = "tpm", alg, swtpmtest.Start(t).Device
			}},
			provider{"tpm-sealed/" + alg, func(t *testing.T, o *Options) {
				o.Key, o.Algorithm, o.TPMDevice = "tpm-sealed", alg, swtpmtest.Start(t).Device
			}},
			provider{"tpm-sealed-pcrs/" + alg, func(t *testing.T, o *Options) {
				o.Key, o.Algorithm, o.TPMDevice, o.PCRs = "tpm-sealed", alg, swtpmtest.Start(t).Device, []int{11, 7}
			}},
			provider{"tpm-tcp/" + alg, func(t *testing.T, o *Options) {
				o.Key, o.Algorithm, o.TPMDevice = "tpm", alg, swtpmtest.StartTCP(t).Device
			}},
		)
	}
	return all
}

func TestConformance(t *testing.T) {
	for _, p := range providers() {
		t.Run(p.name, func(t *testing.T) {
			opts := options(t)
			p.configure(t, &opts)

			// csr: makes the key once.
			first, err := MakeCSR(t.Context(), opts, "CN=gw-1,O=Acme")
			if err != nil {
				t.Fatal(err)
			}
			second, err := MakeCSR(t.Context(), opts, "/CN=gw-1/O=Acme")
			if err != nil {
				t.Fatal(err)
			}
			if !first.KeyCreated || second.KeyCreated || len(first.Warnings)+len(second.Warnings) != 0 {
				t.Errorf("keys made: %v, %v; warnings: %q, %q", first.KeyCreated, second.KeyCreated, first.Warnings, second.Warnings)
			}
			req := parseCSR(t, first.PEM)
			if got := req.Subject.String(); got != "CN=gw-1,O=Acme" || first.Subject != got {
				t.Errorf("the subject is %q, said to be %q", got, first.Subject)
			}
			if !certs.SameKey(req.PublicKey, parseCSR(t, second.PEM).PublicKey) {
				t.Error("the second csr is for another key")
			}
			if got := certs.Algorithm(req.PublicKey); got != opts.Algorithm {
				t.Errorf("the key is %s", got)
			}
			if out, err := exec.CommandContext(t.Context(), "openssl", "req", "-verify", "-noout", "-in", write(t, first.PEM)).CombinedOutput(); err != nil {
				t.Errorf("openssl: %v\n%s", err, out)
			}
			checkModes(t, opts)

			// Before the import there is no certificate.
			if _, err := Load(t.Context(), opts); !errors.Is(err, ErrNoCertificate) || Cause(err) != "no-certificate" {
				t.Errorf("got %v", err)
			}

			ca := newCA(t, "Test CA")
			leaf := ca.leaf(t, "gw-1", req.PublicKey)
			res := importChain(t, opts, leaf, ca.cert)
			if !res.Changed || res.InstalledAs != InstalledDevice || res.ThingName != "gw-1" ||
				res.CertificateID != certs.ID(leaf) || res.CACertificateID != certs.ID(ca.cert) {
				t.Errorf("got %+v", res)
			}
			before := snapshot(t, opts)
			if res := importChain(t, opts, leaf, ca.cert); res.Changed || res.CertificateID != certs.ID(leaf) {
				t.Errorf("the same again: %+v", res)
			}
			if after := snapshot(t, opts); !maps.Equal(before, after) {
				t.Errorf("the same again changed the disk: %v, was %v", after, before)
			}
			checkModes(t, opts)

			opts.Owner = true
			id, err := Load(t.Context(), opts)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := id.Close(); err != nil {
					t.Error(err)
				}
			}()
			if id.ThingName != "gw-1" || id.Provider != opts.Key || id.Algorithm != opts.Algorithm || !id.Leaf().Equal(leaf) ||
				id.CertificateID() != certs.ID(leaf) || id.CACertificateID() != certs.ID(ca.cert) || len(id.Warnings) != 0 {
				t.Errorf("loaded %+v", id)
			}
			if (id.TPMCommands == nil) != (id.Provider == ProviderFile) {
				t.Error("TPMCommands does not go with the provider")
			}
			var commands uint64
			if id.TPMCommands != nil {
				commands = id.TPMCommands()
			}
			for range 2 {
				peer := handshake(t, id.TLSCertificate(), tls.VersionTLS12)
				if len(peer) != 2 || !peer[0].Equal(leaf) || !peer[1].Equal(ca.cert) {
					t.Errorf("the server saw %d certificates", len(peer))
				}
			}
			each := map[string]uint64{ProviderTPM: 1}[id.Provider]
			if id.TPMCommands != nil && id.TPMCommands()-commands != 2*each {
				t.Errorf("2 handshakes took %d TPM commands", id.TPMCommands()-commands)
			}
			if id.Provider != ProviderTPM || opts.Algorithm == "ecdsa-p256" {
				handshake(t, id.TLSCertificate(), tls.VersionTLS13)
			}
		})
	}
}

// handshake connects to a server that wants a client certificate, and returns
// what the server saw.
func handshake(t *testing.T, cert *tls.Certificate, version uint16) []*x509.Certificate {
	t.Helper()
	ca := newCA(t, "Server CA")
	key := newKey(t)
	serverCert := ca.leaf(t, "localhost", key.Public(), func(c *x509.Certificate) { c.DNSNames = []string{"localhost"} })
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)

	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var (
		peer []*x509.Certificate
		wg   sync.WaitGroup
	)
	wg.Go(func() {
		conn, err := listener.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		server := tls.Server(conn, &tls.Config{
			Certificates: []tls.Certificate{{Certificate: [][]byte{serverCert.Raw}, PrivateKey: key}},
			ClientAuth:   tls.RequireAnyClientCert, MaxVersion: version, MinVersion: version,
		})
		defer server.Close()
		if err := server.HandshakeContext(t.Context()); err != nil {
			t.Errorf("server: %v", err)
			return
		}
		peer = server.ConnectionState().PeerCertificates
	})
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	client := tls.Client(conn, &tls.Config{
		RootCAs: roots, ServerName: "localhost", MaxVersion: version,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil },
	})
	defer client.Close()
	if err := client.HandshakeContext(t.Context()); err != nil {
		t.Errorf("client: %v", err)
	}
	_, _ = io.Copy(io.Discard, client) // until the server is done
	wg.Wait()
	return peer
}

// AWS IoT registers a certificate just in time only if it sees the CA behind
// it.
func TestChainIsWhole(t *testing.T) {
	opts := options(t)
	root := newCA(t, "Root")
	middle := &authority{key: newKey(t)}
	middle.cert = root.issue(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "Middle"}, IsCA: true, BasicConstraintsValid: true,
	}, middle.key.Public(), root.cert)
	leaf := middle.leaf(t, "gw-1", csrKey(t, opts))
	importChain(t, opts, leaf, middle.cert, root.cert)
	id, err := Load(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer id.Close()
	if peer := handshake(t, id.TLSCertificate(), tls.VersionTLS12); !equal(peer, []*x509.Certificate{leaf, middle.cert, root.cert}) {
		t.Errorf("the server saw %d of 3 certificates", len(peer))
	}
	if id.CACertificateID() != certs.ID(middle.cert) {
		t.Error("the CA's id is not that of the issuer")
	}
}

func TestOtherFileKeys(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsa3072, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	ca := newCA(t, "Test CA")
	for _, key := range []crypto.Signer{p384, p521, rsa3072} {
		t.Run(certs.Algorithm(key.Public()), func(t *testing.T) {
			opts := options(t)
			data, err := encodeFileKey(key, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			files := ImportFiles{
				Cert:  write(t, pemOf(ca.leaf(t, "gw-1", key.Public()))),
				Chain: write(t, pemOf(ca.cert)),
				Key:   write(t, data),
			}
			if _, err := Import(t.Context(), opts, files, false, time.Now(), time.Time{}); err != nil {
				t.Fatal(err)
			}
			checkModes(t, opts)
			id, err := Load(t.Context(), opts)
			if err != nil {
				t.Fatal(err)
			}
			defer id.Close()
			if id.Algorithm != certs.Algorithm(key.Public()) {
				t.Errorf("it is called %s", id.Algorithm)
			}
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				if peer := handshake(t, id.TLSCertificate(), version); len(peer) != 2 {
					t.Errorf("the server saw %d certificates", len(peer))
				}
			}
			csr, err := MakeCSR(t.Context(), opts, "CN=gw-1")
			if err != nil {
				t.Fatal(err)
			}
			parseCSR(t, csr.PEM)
			if len(csr.Warnings) != 1 || !strings.Contains(csr.Warnings[0], "algorithm") {
				t.Errorf("warnings: %q", csr.Warnings)
			}
		})
	}
}

// Each contract cause, as Load finds it.
func TestCauses(t *testing.T) {
	ca := newCA(t, "Test CA")
	// installed is a state directory with a TPM identity.
	installed := func(t *testing.T) (Options, *swtpmtest.TPM) {
		s := swtpmtest.Start(t)
		opts := options(t)
		opts.Key, opts.TPMDevice = "tpm", s.Device
		importChain(t, opts, ca.leaf(t, "gw-1", csrKey(t, opts)), ca.cert)
		return opts, s
	}
	replace := func(t *testing.T, opts Options, file string, data []byte) {
		if err := os.WriteFile(opts.path(file), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name, cause, says string
		want              error
		spoil             func(*testing.T, Options, *swtpmtest.TPM)
	}{
		{"no key", "no-key", "jitr-agent csr", ErrNoKey, func(_ *testing.T, o Options, _ *swtpmtest.TPM) { os.Remove(o.path(KeyFile)) }},
		{"no certificate", "no-certificate", "jitr-agent import", ErrNoCertificate, func(_ *testing.T, o Options, _ *swtpmtest.TPM) { os.Remove(o.path(CertFile)) }},
		{"a damaged certificate", "no-certificate", "import --cert FILE again", ErrNoCertificate, func(t *testing.T, o Options, _ *swtpmtest.TPM) {
			replace(t, o, CertFile, []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
		}},
		{"another key's certificate", "key-mismatch", "jitr-agent csr", ErrKeyMismatch, func(t *testing.T, o Options, _ *swtpmtest.TPM) {
			replace(t, o, CertFile, pemOf(ca.leaf(t, "gw-1", newKey(t).Public()), ca.cert))
		}},
		{"a damaged TPM key file", "key-corrupt", "backup", ErrKeyCorrupt, func(t *testing.T, o Options, _ *swtpmtest.TPM) {
			replace(t, o, KeyFile, []byte("-----BEGIN TSS2 PRIVATE KEY-----\nAAAA\n-----END TSS2 PRIVATE KEY-----\n"))
		}},
		{"an empty key file", "key-corrupt", "backup", ErrKeyCorrupt, func(t *testing.T, o Options, _ *swtpmtest.TPM) { replace(t, o, KeyFile, nil) }},
		{"no TPM", "tpm-absent", "start the software TPM", ErrTPMAbsent, func(_ *testing.T, _ Options, s *swtpmtest.TPM) { s.PowerCut() }},
		{"another TPM", "tpm-changed", "put the TPM back", ErrTPMChanged, func(_ *testing.T, _ Options, s *swtpmtest.TPM) { s.Exchange() }},
		{"another TPM for a sealed key", "tpm-changed", "put the TPM back", ErrTPMChanged, func(t *testing.T, o Options, s *swtpmtest.TPM) {
			sealAgain(t, o, ca)
			s.Exchange()
		}},
		{"other firmware", "tpm-changed", "start the firmware", ErrTPMMeasured, func(t *testing.T, o Options, s *swtpmtest.TPM) {
			o.PCRs = []int{16}
			sealAgain(t, o, ca)
			cmd := exec.CommandContext(t.Context(), "tpm2_pcrextend", "-T", s.TCTI, "16:sha256="+strings.Repeat("ab", 32))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v (apt-get install tpm2-tools)\n%s", err, out)
			}
		}},
		{"an owner's password", "tpm-failing", "tpm-owner-auth", ErrTPMFailing, func(t *testing.T, _ Options, s *swtpmtest.TPM) {
			cmd := exec.CommandContext(t.Context(), "tpm2_changeauth", "-T", s.TCTI, "-c", "owner", "owned")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v (apt-get install tpm2-tools)\n%s", err, out)
			}
		}},
		{"no common name", "", "device.crt has no usable common name; set cloud.thing_name", ErrNoThingName, func(t *testing.T, o Options, _ *swtpmtest.TPM) {
			key, err := readKey(o.path(KeyFile))
			if err != nil {
				t.Fatal(err)
			}
			replace(t, o, CertFile, pemOf(ca.leaf(t, "gateway in hall 7", key.public()), ca.cert))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			opts, s := installed(t)
			test.spoil(t, opts, s)
			before := snapshot(t, opts)
			id, err := Load(t.Context(), opts)
			if id != nil || !errors.Is(err, test.want) || Cause(err) != test.cause || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%q: %v", Cause(err), err)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than a line: %q", err)
			}
			if after := snapshot(t, opts); !maps.Equal(before, after) {
				t.Error("Load changed the disk")
			}
		})
	}
	if Cause(nil) != "" || Cause(io.EOF) != "" {
		t.Error("a cause for nothing")
	}
}

// sealAgain puts a sealed key and its certificate in the place of the TPM's.
func sealAgain(t *testing.T, opts Options, ca *authority) {
	t.Helper()
	if err := errors.Join(os.Remove(opts.path(KeyFile)), os.Remove(opts.path(CertFile))); err != nil {
		t.Fatal(err)
	}
	opts.Key = ProviderSealed
	importChain(t, opts, ca.leaf(t, "gw-1", csrKey(t, opts)), ca.cert)
}

func TestThingNameOfConfiguration(t *testing.T) {
	opts := options(t)
	ca := newCA(t, "Test CA")
	opts.ThingName = "hall-7"
	importChain(t, opts, ca.leaf(t, "gateway in hall 7", csrKey(t, opts)), ca.cert)
	id, err := Load(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer id.Close()
	if id.ThingName != "hall-7" {
		t.Errorf("the thing is %q", id.ThingName)
	}
}

// The service flushes what an earlier one left; csr does not, because what it
// finds is the service's.
func TestOwnerFlushes(t *testing.T) {
	s := swtpmtest.Start(t)
	opts := options(t)
	opts.Key, opts.TPMDevice = "tpm", s.Device
	ca := newCA(t, "Test CA")
	importChain(t, opts, ca.leaf(t, "gw-1", csrKey(t, opts)), ca.cert)
	for range 3 { // killed services: loaded, never closed
		if _, err := Load(t.Context(), opts); err != nil {
			break
		}
	}
	if _, err := Load(t.Context(), opts); Cause(err) != "tpm-failing" {
		t.Fatalf("with all slots taken: %v", err)
	}
	opts.Owner = true
	id, err := Load(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer id.Close()
	for range 5 { // csr beside the service leaves nothing behind
		opts.Owner = false
		csrKey(t, opts)
	}
	handshake(t, id.TLSCertificate(), tls.VersionTLS12)
}

func TestWideModeIsAWarning(t *testing.T) {
	opts := options(t)
	ca := newCA(t, "Test CA")
	importChain(t, opts, ca.leaf(t, "gw-1", csrKey(t, opts)), ca.cert)
	if err := os.Chmod(opts.path(KeyFile), 0o644); err != nil {
		t.Fatal(err)
	}
	id, err := Load(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer id.Close()
	if len(id.Warnings) != 1 || id.Warnings[0].ID != WarnKeyReadable || !strings.Contains(id.Warnings[0].String(), "chmod 600") {
		t.Errorf("warnings: %q", id.Warnings)
	}
}

func TestEndedContext(t *testing.T) {
	s := swtpmtest.Start(t)
	opts := options(t)
	opts.Key, opts.TPMDevice = "tpm", s.Device
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := MakeCSR(ctx, opts, "CN=gw-1"); !errors.Is(err, context.Canceled) || Cause(err) != "" {
		t.Errorf("got %v", err)
	}
	if exists(opts.path(KeyFile)) {
		t.Error("a key was made")
	}
}

// A TPM key never stands in the file in clear.
func TestTPMKeyFileFormat(t *testing.T) {
	s := swtpmtest.Start(t)
	opts := options(t)
	opts.Key, opts.TPMDevice = "tpm", s.Device
	csrKey(t, opts)
	data, err := os.ReadFile(opts.path(KeyFile))
	if err != nil {
		t.Fatal(err)
	}
	if !tpm.IsKey(data) {
		t.Errorf("device.key is\n%s", data)
	}
}

// snapshot is what stands in the state directory, but for the lock; with inode
// numbers, so that a rewrite with the same content shows as well.
func snapshot(t testing.TB, opts Options) map[string]string {
	t.Helper()
	all := map[string]string{}
	entries, err := os.ReadDir(opts.StateDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() == LockFile {
			continue
		}
		data, err := os.ReadFile(opts.path(e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = fmt.Sprintf("%x %s", data, info.ModTime())
	}
	return all
}

// checkModes: the directory and the keys are for the owner alone, and nothing
// but the files of the contract is there.
func checkModes(t testing.TB, opts Options) {
	t.Helper()
	want := map[string]fs.FileMode{
		KeyFile: 0o600, NextKeyFile: 0o600, CertFile: 0o644, NextCertFile: 0o644, LockFile: 0o600,
	}
	info, err := os.Stat(opts.StateDir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%s: %v, %v", opts.StateDir, info.Mode(), err)
	}
	entries, err := os.ReadDir(opts.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if mode, known := want[e.Name()]; !known || info.Mode().Perm() != mode {
			t.Errorf("%s has mode %v; known: %v", e.Name(), info.Mode(), known)
		}
	}
	if !slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == KeyFile }) {
		t.Error("there is no device.key")
	}
}
