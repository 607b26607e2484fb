package ca

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des" // only to read what openssl 1.0 wrote
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1" // the same
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash"
)

// PBES2 (RFC 8018 §6.2) is how a PKCS#8 key is encrypted: a key from the
// passphrase by PBKDF2, and a block cipher in CBC mode. The standard library
// has all of it but the ASN.1 frame, which is this file; a module for a
// hundred lines would be one more to trust with the CA's key. openssl reads
// what encrypt writes, and decrypt reads what openssl pkcs8, genpkey and
// genrsa write, except for scrypt and PKCS#12's own schemes.

// iterations is OWASP's figure for PBKDF2-HMAC-SHA256 (Password Storage Cheat
// Sheet, 2023): a fifth of a second on a desk, once for each command.
const iterations = 600_000

// maxIterations bounds what a file can make us compute: some seconds.
const maxIterations = 10_000_000

var (
	oidPBES2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidSHA1   = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 7} // hmacWithSHA1 and so on
	oidSHA256 = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
	oidSHA384 = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 10}
	oidSHA512 = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 11}
	oidDES3   = asn1.ObjectIdentifier{1, 2, 840, 113549, 3, 7}
	oidAES128 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 2} // CBC
	oidAES192 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 22}
	oidAES256 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
)

type encryptedKey struct { // EncryptedPrivateKeyInfo, RFC 5958 §3
	Algorithm pkix.AlgorithmIdentifier
	Data      []byte
}

type pbes2 struct{ Derivation, Cipher pkix.AlgorithmIdentifier }

type pbkdf2Params struct {
	Salt       []byte
	Iterations int
	KeyLength  int                      `asn1:"optional"`
	Hash       pkix.AlgorithmIdentifier `asn1:"optional"` // absent: hmacWithSHA1
}

// errUnread: the key is encrypted in a way that we do not read.
var errUnread = errors.New("it is encrypted in a way that is unknown here; write it anew with 'openssl pkcs8 -topk8 -v2 aes-256-cbc'")

// encrypt makes an EncryptedPrivateKeyInfo of a PKCS#8 key.
func encrypt(plain, passphrase []byte) ([]byte, error) {
	salt, iv := make([]byte, 16), make([]byte, aes.BlockSize)
	rand.Read(salt) // never fails: crypto/rand.Read's promise
	rand.Read(iv)
	key, err := pbkdf2.Key(sha256.New, string(passphrase), salt, iterations, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	pad := aes.BlockSize - len(plain)%aes.BlockSize
	data := append(bytes.Clone(plain), bytes.Repeat([]byte{byte(pad)}, pad)...)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(data, data)

	derivation, err := asn1.Marshal(pbkdf2Params{Salt: salt, Iterations: iterations, Hash: pkix.AlgorithmIdentifier{Algorithm: oidSHA256, Parameters: asn1.NullRawValue}})
	if err != nil {
		return nil, err
	}
	ivDER, err := asn1.Marshal(iv)
	if err != nil {
		return nil, err
	}
	params, err := asn1.Marshal(pbes2{
		Derivation: pkix.AlgorithmIdentifier{Algorithm: oidPBKDF2, Parameters: asn1.RawValue{FullBytes: derivation}},
		Cipher:     pkix.AlgorithmIdentifier{Algorithm: oidAES256, Parameters: asn1.RawValue{FullBytes: ivDER}},
	})
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(encryptedKey{
		Algorithm: pkix.AlgorithmIdentifier{Algorithm: oidPBES2, Parameters: asn1.RawValue{FullBytes: params}},
		Data:      data,
	})
}

// decrypt takes the PKCS#8 key out of an EncryptedPrivateKeyInfo. A wrong
// passphrase is ErrPassphrase in 255 of 256 cases; in the last one what comes
// out is no key.
func decrypt(der, passphrase []byte) ([]byte, error) {
	var (
		outer  encryptedKey
		scheme pbes2
		kdf    pbkdf2Params
		iv     []byte
	)
	if _, err := asn1.Unmarshal(der, &outer); err != nil {
		return nil, fmt.Errorf("the encrypted key is damaged: %w", err)
	}
	if !outer.Algorithm.Algorithm.Equal(oidPBES2) {
		return nil, errUnread
	}
	if _, err := asn1.Unmarshal(outer.Algorithm.Parameters.FullBytes, &scheme); err != nil {
		return nil, fmt.Errorf("the encrypted key is damaged: %w", err)
	}
	if !scheme.Derivation.Algorithm.Equal(oidPBKDF2) {
		return nil, errUnread
	}
	if _, err := asn1.Unmarshal(scheme.Derivation.Parameters.FullBytes, &kdf); err != nil {
		return nil, fmt.Errorf("the encrypted key is damaged: %w", err)
	}
	if _, err := asn1.Unmarshal(scheme.Cipher.Parameters.FullBytes, &iv); err != nil {
		return nil, fmt.Errorf("the encrypted key is damaged: %w", err)
	}
	newHash, newCipher, size := hashOf(kdf.Hash.Algorithm), cipherOf(scheme.Cipher.Algorithm), keySize(scheme.Cipher.Algorithm)
	if newHash == nil || newCipher == nil {
		return nil, errUnread
	}
	if kdf.Iterations < 1 || kdf.Iterations > maxIterations {
		return nil, fmt.Errorf("the encrypted key is damaged: PBKDF2 with %d iterations", kdf.Iterations)
	}
	key, err := pbkdf2.Key(newHash, string(passphrase), kdf.Salt, kdf.Iterations, size)
	if err != nil {
		return nil, err
	}
	block, err := newCipher(key)
	if err != nil {
		return nil, err
	}
	if len(iv) != block.BlockSize() || len(outer.Data) == 0 || len(outer.Data)%block.BlockSize() != 0 {
		return nil, errors.New("the encrypted key is damaged: its length is impossible")
	}
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(outer.Data, outer.Data)
	return unpad(outer.Data, block.BlockSize())
}

// unpad takes the padding of RFC 8018 §6.1.1 away, which a wrong passphrase
// does not leave intact.
func unpad(data []byte, size int) ([]byte, error) {
	pad := int(data[len(data)-1])
	if pad < 1 || pad > size || !bytes.Equal(data[len(data)-pad:], bytes.Repeat([]byte{byte(pad)}, pad)) {
		return nil, ErrPassphrase
	}
	return data[:len(data)-pad], nil
}

func hashOf(oid asn1.ObjectIdentifier) func() hash.Hash {
	switch {
	case len(oid) == 0, oid.Equal(oidSHA1):
		return sha1.New
	case oid.Equal(oidSHA256):
		return sha256.New
	case oid.Equal(oidSHA384):
		return sha512.New384
	case oid.Equal(oidSHA512):
		return sha512.New
	}
	return nil
}

func cipherOf(oid asn1.ObjectIdentifier) func(key []byte) (cipher.Block, error) {
	switch {
	case oid.Equal(oidAES128), oid.Equal(oidAES192), oid.Equal(oidAES256):
		return aes.NewCipher
	case oid.Equal(oidDES3):
		return des.NewTripleDESCipher
	}
	return nil
}

// keySize is in bytes.
func keySize(cipher asn1.ObjectIdentifier) int {
	switch {
	case cipher.Equal(oidAES128):
		return 16
	case cipher.Equal(oidAES256):
		return 32
	}
	return 24 // AES-192 and triple DES
}
