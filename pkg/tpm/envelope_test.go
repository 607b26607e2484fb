package tpm

import (
	"bytes"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// sampleSealed is a file as a real TPM (swtpm, which is gone) gave it.
func sampleSealed(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "sealed.key"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// What an earlier release wrote must be readable for ever, and is written in
// the same way.
func TestSealedFile(t *testing.T) {
	s, err := ParseSealed(sampleSealed(t))
	if err != nil {
		t.Fatal(err)
	}
	if s.parent != owner || len(s.header.ParentName) != 34 || !slices.Equal(s.PCRs(), []int{7, 11}) || s.header.Version != 1 {
		t.Errorf("parent %#x, its name %x, PCRs %v, version %d", uint32(s.parent), s.header.ParentName, s.PCRs(), s.header.Version)
	}
	if got, err := s.Encode(); err != nil || !bytes.Equal(got, sampleSealed(t)) {
		t.Errorf("it is written otherwise than it was read (%v):\n%s", err, got)
	}
}

// reseal changes the sample's header.
func reseal(t *testing.T, change func(*sealedHeader)) []byte {
	t.Helper()
	s, err := ParseSealed(sampleSealed(t))
	if err != nil {
		t.Fatal(err)
	}
	change(&s.header)
	data, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A file of a later version is refused with a sentence of its own, whatever
// comes after the version.
func TestNewerSealedFile(t *testing.T) {
	later := struct {
		Header struct {
			Version int
			Novelty string
		}
	}{}
	later.Header.Version, later.Header.Novelty = 2, "something new"
	der, err := asn1.Marshal(later)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"the same fields": reseal(t, func(h *sealedHeader) { h.Version = 2 }),
		"other fields":    pem.EncodeToMemory(&pem.Block{Type: SealedPEMType, Bytes: der}),
	} {
		_, err := ParseSealed(data)
		if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "format version 2") || !strings.Contains(err.Error(), "keep the file") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUnusableSealedFiles(t *testing.T) {
	whole := sampleSealed(t)
	for _, test := range []struct {
		name string
		data []byte
		says string
	}{
		{"empty", nil, "no PEM block"},
		{"cut off", whole[:len(whole)-40], "not whole"},
		{"not ASN.1", pem.EncodeToMemory(&pem.Block{Type: SealedPEMType, Bytes: []byte("hello")}), "not a sealed key"},
		{"an empty structure", pem.EncodeToMemory(&pem.Block{Type: SealedPEMType, Bytes: []byte{0x30, 0}}), "not a sealed key"},
		{"version 0", reseal(t, func(h *sealedHeader) { h.Version = 0 }), "version is 0"},
		{"a parent beyond 32 bits", reseal(t, func(h *sealedHeader) { h.Parent = 1 << 32 }), "not a handle"},
		{"a PCR that does not exist", reseal(t, func(h *sealedHeader) { h.PCRs = []int{24} }), "no PCR 24"},
		{"a public area cut short", reseal(t, func(h *sealedHeader) { h.Public = h.Public[:10] }), "public area"},
		{"no private area", reseal(t, func(h *sealedHeader) { h.Private = nil }), "private area"},
		{"no public key", reseal(t, func(h *sealedHeader) { h.Key = nil }), "public key"},
	} {
		_, err := ParseSealed(test.data)
		if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), "backup") {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// What can be read can be written, and reads the same; nothing panics.
func FuzzParseSealed(f *testing.F) {
	f.Add(sampleSealed(f))
	block, _ := pem.Decode(sampleSealed(f))
	f.Add(block.Bytes)
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, file := range [][]byte{data, pem.EncodeToMemory(&pem.Block{Type: SealedPEMType, Bytes: data})} {
			s, err := ParseSealed(file)
			if err != nil {
				if !errors.Is(err, ErrCorrupt) {
					t.Errorf("got %v", err)
				}
				continue
			}
			written, err := s.Encode()
			if err != nil {
				t.Fatal(err)
			}
			again, err := ParseSealed(written)
			if err != nil {
				t.Fatalf("what was read cannot be read again: %v", err)
			}
			if again.parent != s.parent || !bytes.Equal(again.private.Buffer, s.private.Buffer) || !bytes.Equal(again.encrypted, s.encrypted) ||
				!bytes.Equal(again.associated, s.associated) {
				t.Error("it reads otherwise")
			}
		}
	})
}
