package tpm

import (
	"bytes"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/google/go-tpm/tpm2"
)

// PEMType is the type of a PEM block that holds a TPM key.
const PEMType = "TSS2 PRIVATE KEY"

// parentLine is the line before the PEM block that keeps the name of the
// parent key. PEM readers pass over text before a block, while OpenSSL's tpm2
// provider refuses a key with fields that it does not know.
const parentLine = "TPM parent name: "

// loadable is the type of a key that TPM2_Load takes, and tssKey the structure
// around it (ASN.1 Specification for TPM 2.0 Key Files, 3.1):
//
//	TPMKey ::= SEQUENCE {
//		type        OBJECT IDENTIFIER,
//		emptyAuth   [0] EXPLICIT BOOLEAN OPTIONAL,
//		policy      [1] …, secret [2] …, authPolicy [3] …, description [4] …,
//		parent      INTEGER,
//		pubkey      OCTET STRING,
//		privkey     OCTET STRING
//	}
var loadable = asn1.ObjectIdentifier{2, 23, 133, 10, 1, 3} //nolint:gochecknoglobals // a constant

type tssKey struct {
	Type      asn1.ObjectIdentifier
	EmptyAuth bool  `asn1:"explicit,tag:0"`
	Parent    int64 // a handle is above 2^31, more than an int has on 32-bit ARM
	Public    []byte
	Private   []byte
}

// Encode returns the content of the key's file.
func (k *Key) Encode() ([]byte, error) {
	der, err := asn1.Marshal(tssKey{
		Type:      loadable,
		EmptyAuth: !k.saysPassword,
		Parent:    int64(k.parent),
		Public:    tpm2.Marshal(k.public),
		Private:   tpm2.Marshal(k.private),
	})
	if err != nil {
		return nil, fmt.Errorf("encode the TPM key: %w", err)
	}
	var out bytes.Buffer
	out.WriteString("Device key of jitr-agent. It works in the TPM that made it, and nowhere else.\n")
	if k.parentName != nil {
		out.WriteString(parentLine + hex.EncodeToString(k.parentName) + "\n")
	}
	out.Write(pem.EncodeToMemory(&pem.Block{Type: PEMType, Bytes: der}))
	return out.Bytes(), nil
}

// IsKey says whether data is a TPM key file, readable or not.
func IsKey(data []byte) bool { return bytes.Contains(data, []byte("-----BEGIN "+PEMType+"-----")) }

// ParseKey reads a key file: one of ours, or one that OpenSSL's tpm2 provider
// or tpm2-tools made, if the key has no password and no policy. Errors wrap
// ErrCorrupt. It needs no TPM.
func ParseKey(data []byte) (*Key, error) {
	key, err := parseKey(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w; %s", ErrCorrupt, err, remedyCorrupt)
	}
	return key, nil
}

func parseKey(data []byte) (*Key, error) {
	preamble, _, _ := bytes.Cut(data, []byte("-----BEGIN"))
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, fmt.Errorf("it holds no whole PEM block %s", PEMType)
		}
		if block.Type != PEMType {
			continue
		}
		raw, err := parseDER(block.Bytes)
		if err != nil {
			return nil, err
		}
		public, err := sized(raw.Public)
		if err != nil {
			return nil, fmt.Errorf("its public area: %w", err)
		}
		private, err := sized(raw.Private)
		if err != nil {
			return nil, fmt.Errorf("its private area: %w", err)
		}
		// A handle is unsigned; some writers make it negative.
		if raw.Parent < math.MinInt32 || raw.Parent > math.MaxUint32 {
			return nil, fmt.Errorf("its parent %d is not a handle", raw.Parent)
		}
		parent := tpm2.TPMHandle(uint32(raw.Parent)) //nolint:gosec // the range was checked
		key, err := newKey(parent, parentName(preamble), tpm2.BytesAs2B[tpm2.TPMTPublic](public), tpm2.TPM2BPrivate{Buffer: private})
		if err != nil {
			return nil, err
		}
		// tpm2_encodeobject 5.4 says so of every key that has none. Whether it
		// is true shows when the key is used, and without noDA that would be a
		// guess which brings the TPM nearer to its lockout.
		key.saysPassword = !raw.EmptyAuth
		if key.saysPassword && !key.noDA {
			return nil, errors.New("its file says that the key has a password, and without noDA it is not tried whether that is true")
		}
		return key, nil
	}
}

// sized takes the length off a TPM2B structure.
func sized(b []byte) ([]byte, error) {
	if len(b) < 3 || int(b[0])<<8|int(b[1]) != len(b)-2 {
		return nil, errors.New("its length is wrong")
	}
	return b[2:], nil
}

// parentName finds the parent's name in the text before the PEM block; nil
// where there is none.
func parentName(preamble []byte) []byte {
	for line := range strings.Lines(string(preamble)) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), parentLine); ok {
			if name, err := hex.DecodeString(text); err == nil {
				return name
			}
		}
	}
	return nil
}

// parseDER reads the structure field by field: encoding/asn1 alone refuses a
// BOOLEAN TRUE of 0x01, which tpm2-openssl 1.1.1 writes, and optional fields
// that we do not know.
func parseDER(der []byte) (*tssKey, error) {
	var outer asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &outer); err != nil || len(rest) > 0 || outer.Tag != asn1.TagSequence {
		return nil, errors.New("its content is not a TPM key")
	}
	var key tssKey
	rest, err := asn1.Unmarshal(outer.Bytes, &key.Type)
	if err != nil {
		return nil, fmt.Errorf("its type: %w", err)
	}
	if !key.Type.Equal(loadable) {
		return nil, fmt.Errorf("it is of type %s, where only loadable keys (%s) are supported", key.Type, loadable)
	}
	for {
		var field asn1.RawValue
		after, err := asn1.Unmarshal(rest, &field)
		if err != nil {
			return nil, fmt.Errorf("its fields: %w", err)
		}
		if field.Class != asn1.ClassContextSpecific {
			break
		}
		rest = after
		switch field.Tag {
		case 0:
			var boolean asn1.RawValue
			if _, err := asn1.Unmarshal(field.Bytes, &boolean); err != nil || boolean.Tag != asn1.TagBoolean || len(boolean.Bytes) != 1 {
				return nil, errors.New("its emptyAuth is not a BOOLEAN")
			}
			key.EmptyAuth = boolean.Bytes[0] != 0
		case 4: // a description tells us nothing
		default:
			return nil, errors.New("it has a policy or a secret, which this version does not support")
		}
	}
	for _, into := range []any{&key.Parent, &key.Public, &key.Private} {
		if rest, err = asn1.Unmarshal(rest, into); err != nil {
			return nil, fmt.Errorf("its fields: %w", err)
		}
	}
	return &key, nil
}
