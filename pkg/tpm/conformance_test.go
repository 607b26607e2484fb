package tpm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/jitr-agent/jitr-agent/internal/certs"
	"github.com/jitr-agent/jitr-agent/internal/swtpmtest"
)

// bench is a TPM on which the conformance suite runs.
type bench struct {
	tpm *TPM
	// reset is a power cut and a new start; exchange puts in another TPM.
	reset, exchange func()
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
			t.Run("ReloadAfterReset", func(t *testing.T) {
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
		key := createKey(t, b.tpm, ECDSAP256)
		signer := loadKey(t, b.tpm, key)
		b.exchange()
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
		handles, err = transientHandles(c)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return handles
}
