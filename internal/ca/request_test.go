package ca

import (
	"bytes"
	"crypto/x509/pkix"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/jitr-agent/jitr-agent/internal/certs"
)

func TestParseRequest(t *testing.T) {
	key := newECKey(t)
	good := requestDER(t, key, pkix.Name{CommonName: "gw-1"})
	tampered := bytes.Replace(good, []byte("gw-1"), []byte("gw-2"), 1)
	weakRSA := openssl(t, nil, "genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024")
	opensslRequest := func(key string, args ...string) []byte {
		file := filepath.Join(t.TempDir(), "key.pem")
		if err := os.WriteFile(file, []byte(key), 0o600); err != nil {
			t.Fatal(err)
		}
		return []byte(openssl(t, nil, append([]string{"req", "-new", "-key", file, "-subj", "/CN=gw-1"}, args...)...))
	}
	rsa2048 := openssl(t, nil, "genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
	ed25519 := openssl(t, nil, "genpkey", "-algorithm", "ed25519")

	for name, tt := range map[string]struct {
		data []byte
		want error
	}{
		"ours":            {encodeRequest(good), nil},
		"CRLF":            {bytes.ReplaceAll(encodeRequest(good), []byte("\n"), []byte("\r\n")), nil},
		"with text":       {append([]byte("Certificate Request:\n    Data:\n"), encodeRequest(good)...), nil},
		"openssl rsa":     {opensslRequest(rsa2048), nil},
		"openssl newhdr":  {opensslRequest(rsa2048, "-newhdr"), nil},
		"openssl pss":     {opensslRequest(rsa2048, "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"), nil},
		"changed name":    {encodeRequest(tampered), ErrBadSignature},
		"RSA-1024":        {opensslRequest(weakRSA), certs.ErrWeakKey},
		"Ed25519":         {opensslRequest(ed25519), certs.ErrWeakKey},
		"SHA-1":           {opensslRequest(rsa2048, "-sha1"), ErrWeakSignature},
		"MD5":             {opensslRequest(rsa2048, "-md5"), ErrWeakSignature},
		"a private key":   {[]byte(rsa2048), ErrNoRequest},
		"a certificate":   {certs.EncodeChain(newTestCA(t).chain), ErrNoRequest},
		"an empty file":   {nil, ErrNoRequest},
		"DER":             {good, ErrNoRequest},
		"cut in the text": {encodeRequest(good)[:100], ErrNoRequest},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := ParseRequest(tt.data); !errors.Is(err, tt.want) {
				t.Errorf("err = %v, want %v", err, tt.want)
			}
		})
	}
	if _, err := ParseRequest(encodeRequest(good[:len(good)-9])); err == nil || errors.Is(err, ErrNoRequest) {
		t.Errorf("cut DER: err = %v", err)
	}
}
