package tpm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"flag"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/jitr-agent/jitr-agent/internal/certs"
	"github.com/jitr-agent/jitr-agent/internal/swtpmtest"
)

// hardware names a real TPM: go test ./pkg/tpm -run Conformance
// -tpm-device=/dev/tpmrm0. It loses nothing: all that the suite makes in it is
// transient. What needs a power cut or another TPM is skipped there.
//
//nolint:gochecknoglobals // a flag
var hardware = flag.String("tpm-device", "", "run the conformance suite on this TPM as well")

// bench is a TPM on which the conformance suite runs.
type bench struct {
	tpm *TPM
	// reset is a power cut and a new start; exchange puts in another TPM. Both
	// are nil for hardware.
	reset, exchange func()
}

// needs skips a test where the TPM cannot be treated so.
func (b bench) needs(t *testing.T, treatment func(), name string) {
	t.Helper()
	if treatment == nil {
		t.Skip("nobody can " + name + " this TPM from here")
	}
}

func onSwtpm(t testing.TB, s *swtpmtest.TPM) bench {
	t.Helper()
	return bench{tpm: openTPM(t, s.Device), reset: s.PowerCycle, exchange: s.Exchange}
}

func openTPM(t testing.TB, device string) *TPM {
	t.Helper()
	tp, err := Open(device)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tp.Close(); err != nil {
			t.Error(err)
		}
	})
	return tp
}

func TestConformance(t *testing.T) {
	t.Run("unix", func(t *testing.T) {
		conformance(t, func(t testing.TB) bench { return onSwtpm(t, swtpmtest.Start(t)) })
	})
	t.Run("tcp", func(t *testing.T) {
		conformance(t, func(t testing.TB) bench { return onSwtpm(t, swtpmtest.StartTCP(t)) })
	})
	if *hardware != "" {
		t.Run("hardware", func(t *testing.T) {
			conformance(t, func(t testing.TB) bench {
				tp := openTPM(t, *hardware)
				t.Cleanup(func() { // the next test has the same TPM
					if _, err := tp.FlushLeftovers(context.Background()); err != nil {
						t.Error(err)
					}
				})
				return bench{tpm: tp}
			})
		})
	}
}

// conformance is what every TPM has to do. Each subtest has a TPM of its own.
func conformance(t *testing.T, start func(testing.TB) bench) {
	for _, alg := range []Algorithm{ECDSAP256, RSA2048} {
		t.Run(string(alg), func(t *testing.T) {
			b := start(t)
			key := createKey(t, b.tpm, alg)
			signer := loadKey(t, b.tpm, key)
			oneCommand := func(t *testing.T) {
				before := b.tpm.Commands()
				checkSign(t, signer)
				if n := b.tpm.Commands() - before; n != 1 {
					t.Errorf("a signature took %d commands, want 1", n)
				}
			}
			t.Run("OneCommandPerSignature", oneCommand)
			t.Run("TLS12", func(t *testing.T) { handshake(t, signer) })
			t.Run("ReloadAfterReset", func(t *testing.T) {
				b.needs(t, b.reset, "reset")
				b.reset()
				checkSign(t, signer)
				oneCommand(t)
			})
			t.Run("FileIsAllThatIsNeeded", func(t *testing.T) {
				again, err := ParseKey(encodeKey(t, key))
				if err != nil {
					t.Fatal(err)
				}
				second := loadKey(t, b.tpm, again)
				checkSign(t, second)
				if !certs.SameKey(second.Public(), signer.Public()) {
					t.Error("the key from the file is another one")
				}
				if err := second.Close(); err != nil {
					t.Error(err)
				}
			})
			t.Run("Adopted", func(t *testing.T) { adopted(t, b, alg) })
			t.Run("Sealed", func(t *testing.T) { sealed(t, b, alg) })
			t.Run("TenPowerCuts", func(t *testing.T) {
				b.needs(t, b.reset, "reset")
				seal := sealKey(t, b.tpm, softwareKey(t, alg))
				for range 10 {
					b.reset()
					checkSign(t, signer)
					unsealKey(t, b.tpm, seal)
				}
				if n := lockoutCounter(t, b.tpm); n != 0 {
					t.Errorf("the lockout counter is %d", n)
				}
			})
		})
	}

	t.Run("NothingStaysLoaded", func(t *testing.T) {
		b := start(t)
		for range 5 { // more than there are slots
			s := loadKey(t, b.tpm, createKey(t, b.tpm, ECDSAP256))
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if h := loaded(t, b.tpm); len(h) != 0 {
			t.Errorf("objects %x are still loaded", h)
		}
	})

	t.Run("Closed", func(t *testing.T) {
		b := start(t)
		s := loadKey(t, b.tpm, createKey(t, b.tpm, ECDSAP256))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		digest := sha256.Sum256(nil)
		if _, err := s.Sign(nil, digest[:], crypto.SHA256); !errors.Is(err, errClosed) {
			t.Errorf("a closed key: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("the second Close: %v", err)
		}
	})

	t.Run("WipedTPMIsChanged", func(t *testing.T) {
		b := start(t)
		b.needs(t, b.exchange, "exchange")
		key := createKey(t, b.tpm, ECDSAP256)
		signer := loadKey(t, b.tpm, key)
		seal := sealKey(t, b.tpm, softwareKey(t, ECDSAP256))
		b.exchange()
		if _, err := b.tpm.Unseal(t.Context(), seal); !errors.Is(err, ErrChanged) || errors.Is(err, ErrCorrupt) {
			t.Errorf("Unseal: %v", err)
		}
		if _, err := b.tpm.Load(t.Context(), key); !errors.Is(err, ErrChanged) || errors.Is(err, ErrCorrupt) {
			t.Errorf("Load: %v", err)
		}
		digest := sha256.Sum256(nil)
		for range 2 { // the first leaves the signer without a handle
			if _, err := signer.Sign(nil, digest[:], crypto.SHA256); !errors.Is(err, ErrChanged) {
				t.Errorf("Sign: %v", err)
			}
		}
	})

	t.Run("CorruptFileIsCorrupt", func(t *testing.T) {
		b := start(t)
		key := createKey(t, b.tpm, ECDSAP256)
		for _, at := range []int{0, 1, 2, 10, len(key.private.Buffer) - 1} {
			bad := *key
			bad.private.Buffer = bytes.Clone(key.private.Buffer)
			bad.private.Buffer[at] ^= 0x10
			if _, err := b.tpm.Load(t.Context(), &bad); !errors.Is(err, ErrCorrupt) || errors.Is(err, ErrChanged) {
				t.Errorf("byte %d: %v", at, err)
			}
		}
		whole := sealKey(t, b.tpm, softwareKey(t, ECDSAP256))
		for _, at := range []int{0, 1, 2, 10, len(whole.private.Buffer) - 1} {
			bad := *whole
			bad.private.Buffer = bytes.Clone(whole.private.Buffer)
			bad.private.Buffer[at] ^= 0x10
			if _, err := b.tpm.Unseal(t.Context(), &bad); !errors.Is(err, ErrCorrupt) || errors.Is(err, ErrChanged) {
				t.Errorf("sealed, byte %d: %v", at, err)
			}
		}
	})

	t.Run("Concurrent", func(t *testing.T) {
		b := start(t)
		signer := loadKey(t, b.tpm, createKey(t, b.tpm, ECDSAP256))
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 10 {
					checkSign(t, signer)
				}
			})
			wg.Go(func() {
				s, err := b.tpm.Load(t.Context(), signer.Key())
				if err != nil {
					// Two slots are free beside the signer's, one of them for
					// the parent while a key is loaded.
					if !strings.Contains(err.Error(), "TPM_RC_OBJECT_MEMORY") {
						t.Error(err)
					}
					return
				}
				checkSign(t, s)
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})

	t.Run("Refusals", func(t *testing.T) {
		b := start(t)
		ecc := loadKey(t, b.tpm, createKey(t, b.tpm, ECDSAP256))
		before := b.tpm.Commands()
		digest := sha256.Sum256(nil)
		for name, test := range map[string]struct {
			digest []byte
			opts   crypto.SignerOpts
		}{
			"PSS":                 {digest[:], &rsa.PSSOptions{Hash: crypto.SHA256}},
			"SHA-384":             {make([]byte, 48), crypto.SHA384},
			"no hash":             {digest[:], crypto.Hash(0)},
			"no options":          {digest[:], nil},
			"a digest cut short":  {digest[:31], crypto.SHA256},
			"a digest that is no": {nil, crypto.SHA256},
		} {
			if sig, err := ecc.Sign(rand.Reader, test.digest, test.opts); err == nil {
				t.Errorf("%s: signed: %x", name, sig)
			}
		}
		if n := b.tpm.Commands() - before; n != 0 {
			t.Errorf("%d commands were sent", n)
		}
	})

	t.Run("UnknownAlgorithm", func(t *testing.T) {
		b := start(t)
		if _, err := b.tpm.CreateKey(t.Context(), "ed25519"); err == nil || !strings.Contains(err.Error(), "ecdsa-p256") {
			t.Errorf("got %v", err)
		}
	})

	t.Run("EndedContext", func(t *testing.T) {
		b := start(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := b.tpm.CreateKey(ctx, ECDSAP256); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

func createKey(t testing.TB, tp *TPM, alg Algorithm) *Key {
	t.Helper()
	key, err := tp.CreateKey(t.Context(), alg)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func loadKey(t testing.TB, tp *TPM, key *Key) *Signer {
	t.Helper()
	s, err := tp.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func encodeKey(t testing.TB, key *Key) []byte {
	t.Helper()
	data, err := key.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func softwareKey(t testing.TB, alg Algorithm) (key crypto.Signer) {
	t.Helper()
	var err error
	switch alg {
	case ECDSAP256:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case RSA2048:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sealKey(t testing.TB, tp *TPM, key crypto.Signer, pcrs ...int) *Sealed {
	t.Helper()
	s, err := tp.Seal(t.Context(), key, pcrs)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func unsealKey(t testing.TB, tp *TPM, s *Sealed) crypto.Signer {
	t.Helper()
	key, err := tp.Unseal(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// adopted takes a software key in, and uses it from its file.
func adopted(t *testing.T, b bench, alg Algorithm) {
	soft := softwareKey(t, alg)
	key, err := b.tpm.Adopt(t.Context(), soft)
	if err != nil {
		t.Fatal(err)
	}
	if key, err = ParseKey(encodeKey(t, key)); err != nil {
		t.Fatal(err)
	}
	if !certs.SameKey(key.Public(), soft.Public()) || !key.NoDA() {
		t.Errorf("another key came out, or noDA (%v) is missing", key.NoDA())
	}
	if b.reset != nil {
		b.reset()
	}
	signer := loadKey(t, b.tpm, key)
	checkSign(t, signer)
	handshake(t, signer)
	if err := signer.Close(); err != nil {
		t.Error(err)
	}
}

// sealed seals a software key, and uses it from its file.
func sealed(t *testing.T, b bench, alg Algorithm) {
	soft := softwareKey(t, alg)
	before := len(loaded(t, b.tpm))
	data, err := sealKey(t, b.tpm, soft).Encode()
	if err != nil {
		t.Fatal(err)
	}
	if !IsSealed(data) || IsKey(data) {
		t.Errorf("the file is\n%s", data)
	}
	s, err := ParseSealed(data)
	if err != nil {
		t.Fatal(err)
	}
	if !certs.SameKey(s.Public(), soft.Public()) {
		t.Error("the file tells another public key")
	}
	if b.reset != nil {
		b.reset()
		before = 0
	}
	key := unsealKey(t, b.tpm, s)
	if equal, ok := key.(interface{ Equal(crypto.PrivateKey) bool }); !ok || !equal.Equal(soft) {
		t.Error("another key came out")
	}
	handshake(t, key)
	if n := len(loaded(t, b.tpm)); n > before {
		t.Errorf("%d objects stay loaded", n-before)
	}
}

// handshake presents the key to a TLS 1.2 server that wants a certificate.
func handshake(t *testing.T, key crypto.Signer) {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "gw-1"}, DNSNames: []string{"gw-1"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	algorithms := []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}
	if _, isRSA := key.Public().(*rsa.PublicKey); isRSA {
		template.SignatureAlgorithm = x509.SHA256WithRSA
		algorithms = []tls.SignatureScheme{tls.PKCS1WithSHA256}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	serverKey := softwareKey(t, ECDSAP256)
	template.SignatureAlgorithm = 0
	serverDER, err := x509.CreateCertificate(rand.Reader, template, template, serverKey.Public(), serverKey)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	serverCert, err := x509.ParseCertificate(serverDER)
	if err != nil {
		t.Fatal(err)
	}
	roots.AddCert(serverCert)
	here, there := net.Pipe()
	server := tls.Server(there, &tls.Config{
		MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12, ClientAuth: tls.RequireAnyClientCert,
		Certificates: []tls.Certificate{{Certificate: [][]byte{serverDER}, PrivateKey: serverKey}},
	})
	client := tls.Client(here, &tls.Config{
		MaxVersion: tls.VersionTLS12, RootCAs: roots, ServerName: "gw-1",
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key, SupportedSignatureAlgorithms: algorithms}},
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := server.HandshakeContext(t.Context()); err != nil {
			t.Errorf("the server: %v", err)
			there.Close()
		}
	})
	if err := client.HandshakeContext(t.Context()); err != nil {
		t.Errorf("the client: %v", err)
		here.Close()
	}
	wg.Wait()
	here.Close()
	there.Close()
}

// checkSign signs something new and verifies it with crypto, not with our own
// code.
func checkSign(t testing.TB, s *Signer) {
	t.Helper()
	digest := sha256.Sum256([]byte(rand.Text()))
	sig, err := s.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Error(err)
		return
	}
	switch pub := s.Public().(type) {
	case *ecdsa.PublicKey:
		if !ecdsa.VerifyASN1(pub, digest[:], sig) {
			t.Error("the ECDSA signature does not verify")
		}
	case *rsa.PublicKey:
		if err := rsa.VerifyPKCS1v15(pub, crypto.SHA256, digest[:], sig); err != nil {
			t.Error(err)
		}
	default:
		t.Errorf("a %T", pub)
	}
}

func loaded(t testing.TB, tp *TPM) (handles []tpm2.TPMHandle) {
	t.Helper()
	err := tp.do(t.Context(), "list", func(c channel) (err error) {
		handles, err = handlesFrom(c, firstTransient)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return handles
}
