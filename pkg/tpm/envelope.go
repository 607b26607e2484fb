package tpm

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math"

	"github.com/google/go-tpm/tpm2"
)

// SealedPEMType is the type of a PEM block that holds a sealed key.
const SealedPEMType = "JITR SEALED KEY"

// sealedVersion is the version of the envelope that is written. A later one
// begins in the same way: a SEQUENCE that begins with a SEQUENCE that begins
// with the version.
const sealedVersion = 1

// Sealed is a software key as it stands in its file: encrypted with a key that
// the TPM has sealed. It is immutable.
type Sealed struct {
	header     sealedHeader
	associated []byte // what the encryption authenticates beside the key
	encrypted  []byte // AES-256-GCM: nonce, PKCS #8, tag

	parent  tpm2.TPMHandle
	public  tpm2.TPM2BPublic
	private tpm2.TPM2BPrivate
	pub     crypto.PublicKey
}

// sealedFile and sealedHeader are what the PEM block holds:
//
//	SealedKey ::= SEQUENCE {
//		header     SEQUENCE {
//			version    INTEGER (1),
//			parent     INTEGER,              -- handle, as in a TSS2 key file
//			parentName OCTET STRING,
//			public     OCTET STRING,         -- TPM2B_PUBLIC of the sealed AES key
//			private    OCTET STRING,         -- TPM2B_PRIVATE of it
//			pcrs       SEQUENCE OF INTEGER,  -- SHA-256 bank; empty: not bound
//			key        OCTET STRING          -- SubjectPublicKeyInfo
//		},
//		encrypted  OCTET STRING              -- AES-256-GCM
//	}
//
// The associated data of the encryption is SealedPEMType and the header's DER.
type sealedFile struct {
	Header    asn1.RawValue
	Encrypted []byte
}

type sealedHeader struct {
	Version    int
	Parent     int64 // a handle is above 2^31, more than an int has on 32-bit ARM
	ParentName []byte
	Public     []byte
	Private    []byte
	PCRs       []int
	Key        []byte
}

func (h sealedHeader) encode() ([]byte, error) { return asn1.Marshal(h) }

func associated(header []byte) []byte { return append([]byte(SealedPEMType), header...) }

// Public returns the public key. It needs no TPM.
func (s *Sealed) Public() crypto.PublicKey { return s.pub }

// PCRs are the registers of the SHA-256 bank that the key is bound to.
func (s *Sealed) PCRs() []int { return s.header.PCRs }

// Encode returns the content of the key's file.
func (s *Sealed) Encode() ([]byte, error) {
	header, err := s.header.encode()
	if err != nil {
		return nil, fmt.Errorf("encode the sealed key: %w", err)
	}
	der, err := asn1.Marshal(sealedFile{Header: asn1.RawValue{FullBytes: header}, Encrypted: s.encrypted})
	if err != nil {
		return nil, fmt.Errorf("encode the sealed key: %w", err)
	}
	out := bytes.NewBufferString("Device key of jitr-agent, encrypted. Only the TPM that sealed it can unlock it.\n")
	out.Write(pem.EncodeToMemory(&pem.Block{Type: SealedPEMType, Bytes: der}))
	return out.Bytes(), nil
}

// IsSealed says whether data is the file of a sealed key, readable or not.
func IsSealed(data []byte) bool {
	return bytes.Contains(data, []byte("-----BEGIN "+SealedPEMType+"-----"))
}

// ParseSealed reads the file of a sealed key. Errors wrap ErrCorrupt; one for
// a file of a later version says so. It needs no TPM.
func ParseSealed(data []byte) (*Sealed, error) {
	s, err := parseSealed(data)
	if err == nil {
		return s, nil
	}
	if newer := newerError(0); errors.As(err, &newer) {
		return nil, fmt.Errorf("%w: %w; keep the file and install the jitr-agent that made it, or a later one", ErrCorrupt, err)
	}
	return nil, fmt.Errorf("%w: %w; %s", ErrCorrupt, err, remedyCorrupt)
}

// newerError is a version of the format that we do not know.
type newerError int

func (v newerError) Error() string {
	return fmt.Sprintf("it has format version %d, where this jitr-agent knows %d", int(v), sealedVersion)
}

func parseSealed(data []byte) (*Sealed, error) {
	begin := bytes.Index(data, []byte("-----BEGIN "+SealedPEMType+"-----"))
	if begin < 0 {
		return nil, fmt.Errorf("it holds no PEM block %s", SealedPEMType)
	}
	block, _ := pem.Decode(data[begin:])
	if block == nil || block.Type != SealedPEMType {
		return nil, fmt.Errorf("its PEM block %s is not whole", SealedPEMType)
	}
	var outer, first asn1.RawValue
	if rest, err := asn1.Unmarshal(block.Bytes, &outer); err != nil || len(rest) > 0 || outer.Tag != asn1.TagSequence {
		return nil, errors.New("its content is not a sealed key")
	}
	if _, err := asn1.Unmarshal(outer.Bytes, &first); err != nil || first.Tag != asn1.TagSequence {
		return nil, errors.New("its content is not a sealed key")
	}
	var version int
	if _, err := asn1.Unmarshal(first.Bytes, &version); err != nil {
		return nil, fmt.Errorf("its version: %w", err)
	}
	if version > sealedVersion {
		return nil, newerError(version)
	}
	s := &Sealed{associated: associated(first.FullBytes)}
	var file sealedFile
	if _, err := asn1.Unmarshal(block.Bytes, &file); err != nil {
		return nil, fmt.Errorf("its fields: %w", err)
	}
	if rest, err := asn1.Unmarshal(file.Header.FullBytes, &s.header); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("its header: %w", err)
	}
	if version < 1 {
		return nil, fmt.Errorf("its version is %d", version)
	}
	s.encrypted = file.Encrypted
	return s, s.judge()
}

// judge reads the fields of the header.
func (s *Sealed) judge() error {
	h := s.header
	if h.Parent < 0 || h.Parent > math.MaxUint32 {
		return fmt.Errorf("its parent %d is not a handle", h.Parent)
	}
	s.parent = tpm2.TPMHandle(uint32(h.Parent)) //nolint:gosec // the range was checked
	for _, pcr := range h.PCRs {
		if pcr < 0 || pcr > maxPCR {
			return fmt.Errorf("there is no PCR %d", pcr)
		}
	}
	public, err := sized(h.Public)
	if err != nil {
		return fmt.Errorf("its public area: %w", err)
	}
	private, err := sized(h.Private)
	if err != nil {
		return fmt.Errorf("its private area: %w", err)
	}
	s.public, s.private = tpm2.BytesAs2B[tpm2.TPMTPublic](public), tpm2.TPM2BPrivate{Buffer: private}
	if s.pub, err = x509.ParsePKIXPublicKey(h.Key); err != nil {
		return fmt.Errorf("its public key: %w", err)
	}
	return nil
}
