package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// Errors of ParseKey, besides ErrDamaged and ErrWeakKey.
var (
	ErrNoKey     = errors.New("it holds no PEM private key")
	ErrEncrypted = errors.New("the key is encrypted")
)

// ParseKey reads the first private key in data: PKCS#8, PKCS#1 (openssl
// genrsa of old) or SEC 1 (openssl ecparam -genkey). An encrypted key is
// refused: the agent starts with nobody there to type a passphrase.
func ParseKey(data []byte) (crypto.Signer, error) {
	data = normal(data)
	begun := bytes.Count(data, []byte("-----BEGIN "))
	for {
		var block *pem.Block
		block, data = pem.Decode(data)
		switch {
		case block == nil && begun > 0:
			return nil, ErrDamaged
		case block == nil:
			return nil, ErrNoKey
		}
		begun--
		var (
			key any
			err error
		)
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			if block.Headers["DEK-Info"] != "" {
				return nil, ErrEncrypted
			}
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			if block.Headers["DEK-Info"] != "" {
				return nil, ErrEncrypted
			}
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "ENCRYPTED PRIVATE KEY":
			return nil, ErrEncrypted
		default:
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("the private key in it is damaged: %w", err)
		}
		signer, ok := key.(crypto.Signer)
		if !ok {
			return nil, fmt.Errorf("%w: a %T cannot sign", ErrWeakKey, key)
		}
		if err := CheckKey(signer.Public()); err != nil {
			return nil, err
		}
		return signer, nil
	}
}

// CheckKey says whether AWS IoT takes certificates with this public key: RSA
// of at least 2048 bits, P-256, P-384 or P-521 (CreateCertificateFromCsr in
// the AWS IoT API reference). The errors wrap ErrWeakKey.
func CheckKey(pub crypto.PublicKey) error {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		if pub.N.BitLen() < 2048 {
			return fmt.Errorf("%w: RSA with %d bits, where at least 2048 are needed", ErrWeakKey, pub.N.BitLen())
		}
		return nil
	case *ecdsa.PublicKey:
		switch pub.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return nil
		}
		return fmt.Errorf("%w: ECDSA on %s", ErrWeakKey, pub.Curve.Params().Name)
	case ed25519.PublicKey:
		return fmt.Errorf("%w: Ed25519", ErrWeakKey)
	default:
		return fmt.Errorf("%w: %T", ErrWeakKey, pub)
	}
}

// Algorithm names a public key as the configuration and status do:
// "ecdsa-p256", "rsa-2048", and so on; "" for a kind that CheckKey refuses.
func Algorithm(pub crypto.PublicKey) string {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("rsa-%d", pub.N.BitLen())
	case *ecdsa.PublicKey:
		return fmt.Sprintf("ecdsa-p%d", pub.Curve.Params().BitSize)
	}
	return ""
}

// SameKey says whether two public keys are the same one.
func SameKey(a, b crypto.PublicKey) bool {
	eq, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && eq.Equal(b)
}
