package tpm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jitr-agent/jitr-agent/internal/swtpmtest"
)

// PCR 16 is for debugging: it can be reset.
func TestPCRPolicy(t *testing.T) {
	s := swtpmtest.Start(t)
	tp := openTPM(t, s.Device)
	soft := softwareKey(t, ECDSAP256)
	bound, free := sealKey(t, tp, soft, 16, 7), sealKey(t, tp, soft)
	if got := bound.PCRs(); len(got) != 2 || got[0] != 7 || got[1] != 16 {
		t.Errorf("bound to %v", got)
	}
	unsealKey(t, tp, bound)
	tool(t, s, "tpm2_pcrextend", "16:sha256="+strings.Repeat("ab", 32))
	_, err := tp.Unseal(t.Context(), bound)
	if !errors.Is(err, ErrMeasured) || errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), "PCR 7, 16 changed") ||
		strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
	unsealKey(t, tp, free)
	if h := loaded(t, tp); len(h) != 0 {
		t.Errorf("objects %x are still loaded", h)
	}
	tool(t, s, "tpm2_pcrreset", "16")
	unsealKey(t, tp, bound)
	if n := lockoutCounter(t, tp); n != 0 {
		t.Errorf("the lockout counter is %d", n)
	}
}

// A register that the TPM does not keep would bind to nothing.
func TestPCRBankIsOff(t *testing.T) {
	s := swtpmtest.Start(t)
	tool(t, s, "tpm2_pcrallocate", "sha1:all+sha256:none")
	s.PowerCycle()
	tp := openTPM(t, s.Device)
	_, err := tp.Seal(t.Context(), softwareKey(t, ECDSAP256), []int{7})
	if !errors.Is(err, ErrFailing) || !strings.Contains(err.Error(), "PCR 7 with SHA-256") {
		t.Errorf("got %v", err)
	}
}

// Without noDA, the sealed object would count power cuts as a resident key
// does.
func TestSealedNoDA(t *testing.T) {
	s := swtpmtest.Start(t)
	tp := openTPM(t, s.Device)
	key := sealKey(t, tp, softwareKey(t, ECDSAP256))
	area, err := key.public.Contents()
	if err != nil {
		t.Fatal(err)
	}
	if !area.ObjectAttributes.NoDA {
		t.Error("the sealed object has no noDA")
	}
	lockOut(t, tp)
	unsealKey(t, tp, key)
}

// What is changed in the file beside the TPM's own blobs: the parent's name
// and the key's encryption are bound together.
func TestChangedEnvelope(t *testing.T) {
	tp := openTPM(t, swtpmtest.Start(t).Device)
	whole := sealKey(t, tp, softwareKey(t, ECDSAP256))
	other := sealKey(t, tp, softwareKey(t, ECDSAP256))
	for name, change := range map[string]func(*Sealed){
		"the ciphertext":        func(s *Sealed) { s.encrypted = append([]byte{s.encrypted[0] ^ 1}, s.encrypted[1:]...) },
		"no ciphertext":         func(s *Sealed) { s.encrypted = nil },
		"another's ciphertext":  func(s *Sealed) { s.encrypted = other.encrypted },
		"the header":            func(s *Sealed) { s.associated = other.associated },
		"the name of a parent":  func(s *Sealed) { s.header.ParentName = other.public.Bytes() },
		"no name of the parent": func(s *Sealed) { s.header.ParentName = nil },
	} {
		bad := *whole
		change(&bad)
		key, err := tp.Unseal(t.Context(), &bad)
		if key != nil || !errors.Is(err, ErrCorrupt) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	unsealKey(t, tp, whole)
}

// A sealed key may be of any kind that AWS IoT takes.
func TestSealedP384(t *testing.T) {
	tp := openTPM(t, swtpmtest.Start(t).Device)
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if got := unsealKey(t, tp, sealKey(t, tp, key)); !key.Equal(got.(crypto.PrivateKey)) {
		t.Error("another key came out")
	}
}

// Under a persistent SRK, and when nothing stands there any more.
func TestSealedUnderPersistentSRK(t *testing.T) {
	s := swtpmtest.Start(t)
	persistSRK(t, s)
	tp := openTPM(t, s.Device)
	key := sealKey(t, tp, softwareKey(t, ECDSAP256))
	if key.parent != persistentSRK {
		t.Errorf("the parent is %#x", uint32(key.parent))
	}
	unsealKey(t, tp, key)
	s.Exchange()
	if _, err := tp.Unseal(t.Context(), key); !errors.Is(err, ErrChanged) {
		t.Errorf("got %v", err)
	}
}

// persistSRK does what provisioning a gateway does.
func persistSRK(t *testing.T, s *swtpmtest.TPM) {
	t.Helper()
	srk := filepath.Join(t.TempDir(), "srk")
	tool(t, s, "tpm2_createprimary", "-C", "o", "-G", "ecc:aes128cfb", "-c", srk,
		"-a", "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt")
	tool(t, s, "tpm2_evictcontrol", "-C", "o", "-c", srk, "0x81000001")
	tool(t, s, "tpm2_flushcontext", "-t")
	if err := os.Remove(srk); err != nil {
		t.Fatal(err)
	}
}
