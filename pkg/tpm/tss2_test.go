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

	"github.com/google/go-tpm/tpm2"
)

// sampleKey is a key file as a real TPM (swtpm) gave it; the private part is
// of use to that one only, which is gone.
func sampleKey(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "device.key"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestKeyFile(t *testing.T) {
	key, err := ParseKey(sampleKey(t))
	if err != nil {
		t.Fatal(err)
	}
	if !key.NoDA() || key.parent != owner || len(key.parentName) != 34 {
		t.Errorf("noDA %v, parent %#x, its name %x", key.NoDA(), uint32(key.parent), key.parentName)
	}
	if got := encodeKey(t, key); !bytes.Equal(got, sampleKey(t)) {
		t.Errorf("it is written otherwise than it was read:\n%s", got)
	}
}

// repack changes the ASN.1 structure in the sample.
func repack(t *testing.T, change func(*tssKey)) []byte {
	t.Helper()
	block, _ := pem.Decode(sampleKey(t))
	key, err := parseDER(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	change(key)
	der, err := asn1.Marshal(*key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: PEMType, Bytes: der})
}

func TestKeyFilesOfOthers(t *testing.T) {
	whole := repack(t, func(*tssKey) {})
	for _, test := range []struct {
		name   string
		data   []byte
		parent tpm2.TPMHandle
	}{
		{"no parent name", whole, owner},
		{"CRLF", bytes.ReplaceAll(sampleKey(t), []byte("\n"), []byte("\r\n")), owner},
		{"another block before it", append([]byte("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"), whole...), owner},
		// int is too small for it on 32-bit ARM.
		{"a persistent parent", repack(t, func(k *tssKey) { k.Parent = 0x81000001 }), 0x81000001},
		{"a negative parent", repack(t, func(k *tssKey) { k.Parent = 0x81000001 - 1<<32 }), 0x81000001},
		{"TRUE is 0x01", trueIsOne(t), owner},
	} {
		key, err := ParseKey(test.data)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if key.parent != test.parent || key.saysPassword {
			t.Errorf("%s: the parent is %#x; it has a password: %v", test.name, uint32(key.parent), key.saysPassword)
		}
	}
}

// trueIsOne is the sample as tpm2-openssl 1.1.1 would write it.
func trueIsOne(t *testing.T) []byte {
	t.Helper()
	block, _ := pem.Decode(sampleKey(t))
	strict := []byte{0xa0, 0x03, 0x01, 0x01, 0xff}
	if !bytes.Contains(block.Bytes, strict) {
		t.Fatal("the sample has no emptyAuth")
	}
	block.Bytes = bytes.Replace(block.Bytes, strict, []byte{0xa0, 0x03, 0x01, 0x01, 0x01}, 1)
	return pem.EncodeToMemory(block)
}

func TestUnusableKeyFiles(t *testing.T) {
	area := func(change func(*tpm2.TPMTPublic)) func(*tssKey) {
		return func(k *tssKey) {
			pub, err := tpm2.Unmarshal[tpm2.TPM2BPublic](k.Public)
			if err != nil {
				t.Fatal(err)
			}
			contents, err := pub.Contents()
			if err != nil {
				t.Fatal(err)
			}
			changed := *contents
			change(&changed)
			k.Public = tpm2.Marshal(tpm2.New2B(changed))
		}
	}
	for _, test := range []struct {
		name string
		data []byte
		says string
	}{
		{"empty", nil, "no whole PEM block"},
		{"cut off", sampleKey(t)[:200], "no whole PEM block"},
		{"another key", []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), "no whole PEM block"},
		{"not ASN.1", pem.EncodeToMemory(&pem.Block{Type: PEMType, Bytes: []byte("hello")}), "not a TPM key"},
		{"a sealed one", repack(t, func(k *tssKey) { k.Type = asn1.ObjectIdentifier{2, 23, 133, 10, 1, 5} }), "2.23.133.10.1.5"},
		{"with a password and no noDA", repack(t, func(k *tssKey) {
			area(func(p *tpm2.TPMTPublic) { p.ObjectAttributes.NoDA = false })(k)
			k.EmptyAuth = false
		}), "password"},
		{"a parent beyond 32 bits", repack(t, func(k *tssKey) { k.Parent = 1 << 32 }), "not a handle"},
		{"a private area cut short", repack(t, func(k *tssKey) { k.Private = k.Private[:20] }), "private area"},
		{"a public area cut short", repack(t, func(k *tssKey) { k.Public = k.Public[:20] }), "public area"},
		{"no public area", repack(t, func(k *tssKey) { k.Public = nil }), "public area"},
		{"one that decrypts", repack(t, area(func(p *tpm2.TPMTPublic) { p.ObjectAttributes.SignEncrypt = false })), "not a key that signs"},
		{"a restricted one", repack(t, area(func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Restricted = true })), "restricted"},
		{"under a policy", repack(t, area(func(p *tpm2.TPMTPublic) { p.ObjectAttributes.UserWithAuth = false })), "policy"},
		{"on another curve", repack(t, area(func(p *tpm2.TPMTPublic) {
			p.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP384})
		})), "P-384"},
		{"off the curve", repack(t, area(func(p *tpm2.TPMTPublic) {
			p.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
				X: tpm2.TPM2BECCParameter{Buffer: []byte{1}}, Y: tpm2.TPM2BECCParameter{Buffer: []byte{2}},
			})
		})), "public area"},
		{"RSA that is too short", repack(t, area(func(p *tpm2.TPMTPublic) {
			p.Type = tpm2.TPMAlgRSA
			p.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: 1024})
			p.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: slices.Repeat([]byte{0xff}, 128)})
		})), "1024 bits"},
	} {
		_, err := ParseKey(test.data)
		if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// What can be read can be written, and reads the same; nothing panics.
func FuzzParseKey(f *testing.F) {
	f.Add(sampleKey(f))
	block, _ := pem.Decode(sampleKey(f))
	f.Add(block.Bytes)
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, file := range [][]byte{data, pem.EncodeToMemory(&pem.Block{Type: PEMType, Bytes: data})} {
			key, err := ParseKey(file)
			if err != nil {
				if !errors.Is(err, ErrCorrupt) {
					t.Errorf("got %v", err)
				}
				continue
			}
			again, err := ParseKey(encodeKey(t, key))
			if err != nil {
				t.Fatalf("what was read cannot be read again: %v", err)
			}
			if again.parent != key.parent || !bytes.Equal(again.private.Buffer, key.private.Buffer) ||
				!bytes.Equal(again.public.Bytes(), key.public.Bytes()) {
				t.Error("it reads otherwise")
			}
		}
	})
}
