package tpm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/jitr-agent/jitr-agent/internal/swtpmtest"
)

// What came in does not come out again: the key has no policy, and
// TPM2_Duplicate wants one.
func TestAdoptedKeyStaysInside(t *testing.T) {
	tp := openTPM(t, swtpmtest.Start(t).Device)
	key, err := tp.Adopt(t.Context(), softwareKey(t, ECDSAP256))
	if err != nil {
		t.Fatal(err)
	}
	if h := loaded(t, tp); len(h) != 0 {
		t.Errorf("objects %x are still loaded", h)
	}
	area, err := key.public.Contents()
	if err != nil {
		t.Fatal(err)
	}
	if len(area.AuthPolicy.Buffer) != 0 {
		t.Errorf("the key has a policy: %x", area.AuthPolicy.Buffer)
	}
	signer := loadKey(t, tp, key)
	for name, auth := range map[string]tpm2.Session{
		"the empty password": tpm2.PasswordAuth(nil),
		"a policy of DUP":    tpm2.Policy(tpm2.TPMAlgSHA256, nonceSize, duplicates),
		"an empty policy":    tpm2.Policy(tpm2.TPMAlgSHA256, nonceSize, nothing),
	} {
		err := tp.do(t.Context(), "duplicate", func(c channel) error {
			_, err := tpm2.Duplicate{
				ObjectHandle:    tpm2.AuthHandle{Handle: signer.handle.Handle, Name: signer.handle.Name, Auth: auth},
				NewParentHandle: tpm2.TPMRHNull,
				Symmetric:       tpm2.TPMTSymDef{Algorithm: tpm2.TPMAlgNull},
			}.Execute(c)
			return err
		})
		if err == nil {
			t.Errorf("it was duplicated with %s", name)
		}
	}
}

func duplicates(t transport.TPM, session tpm2.TPMISHPolicy, _ tpm2.TPM2BNonce) error {
	_, err := tpm2.PolicyCommandCode{PolicySession: session, Code: tpm2.TPMCCDuplicate}.Execute(t)
	return err
}

func nothing(transport.TPM, tpm2.TPMISHPolicy, tpm2.TPM2BNonce) error { return nil }

// The same file works in OpenSSL.
func TestAdoptedKeyInOpenSSL(t *testing.T) {
	for _, alg := range []Algorithm{ECDSAP256, RSA2048} {
		s := swtpmtest.Start(t)
		tp := openTPM(t, s.Device)
		key, err := tp.Adopt(t.Context(), softwareKey(t, alg))
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "device.key")
		if err := os.WriteFile(file, encodeKey(t, key), 0o600); err != nil {
			t.Fatal(err)
		}
		csr := filepath.Join(t.TempDir(), "gw.csr")
		openssl(t, s, "req", "-provider", "tpm2", "-provider", "default", "-propquery", "?provider=tpm2",
			"-new", "-key", file, "-subj", "/CN=gw-1", "-out", csr)
		openssl(t, s, "req", "-in", csr, "-verify", "-noout")
	}
}

func TestAdoptRefuses(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsa3072, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tp := openTPM(t, swtpmtest.Start(t).Device)
	for says, key := range map[string]crypto.Signer{"P-384": p384, "3072 bits": rsa3072, "ed25519": ed} {
		if _, err := tp.Adopt(t.Context(), key); err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "jitr-agent csr") {
			t.Errorf("%s: %v", says, err)
		}
	}
	if n := tp.Commands(); n != 0 {
		t.Errorf("%d commands were sent", n)
	}
}
