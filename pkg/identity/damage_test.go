package identity

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jitr-agent/jitr-agent/internal/certs"
	"github.com/jitr-agent/jitr-agent/internal/swtpmtest"
)

// A worn SD card flips bits and cuts files. Whatever comes of it: the key is
// the same one or the cause says what is wrong, in one line, and nothing on
// the disk is changed.
func TestDamagedKeyFile(t *testing.T) {
	for _, provider := range []string{ProviderFile, ProviderTPM, ProviderSealed} {
		t.Run(provider, func(t *testing.T) {
			opts := options(t)
			opts.Key = provider
			if provider != ProviderFile {
				opts.TPMDevice = swtpmtest.Start(t).Device
			}
			ca := newCA(t, "Test CA")
			pub := csrKey(t, opts)
			importChain(t, opts, ca.leaf(t, "gw-1", pub), ca.cert)
			whole, err := os.ReadFile(opts.path(KeyFile))
			if err != nil {
				t.Fatal(err)
			}
			causes := map[string]int{}
			check := func(data []byte) {
				t.Helper()
				if err := os.WriteFile(opts.path(KeyFile), data, 0o600); err != nil {
					t.Fatal(err)
				}
				id, err := Load(t.Context(), opts)
				if err == nil {
					if !certs.SameKey(id.Signer.Public(), pub) {
						t.Error("it became another key")
					}
					err = id.Close()
				}
				cause := Cause(err)
				causes[cause]++
				// A flipped bit may make another handle of the parent, where
				// nothing stands, or another public key.
				if !slices.Contains([]string{"", "key-corrupt", "key-mismatch", "tpm-changed"}, cause) || err != nil && cause == "" {
					t.Errorf("%q: %v", cause, err)
				}
				if err != nil && strings.Contains(err.Error(), "\n") {
					t.Errorf("more than a line: %q", err)
				}
			}
			for at := 0; at < len(whole); at += 7 {
				flipped := bytes.Clone(whole)
				flipped[at] ^= 1 << (at % 7)
				check(flipped)
			}
			for size := 0; size < len(whole)-1; size += 53 {
				check(whole[:size])
			}
			check(nil)
			if causes["key-corrupt"] < 10 {
				t.Errorf("causes: %v", causes)
			}
			check(whole)
		})
	}
}

// A key of a later version is refused and kept: neither csr nor import writes
// over it.
func TestNewerKeyIsKept(t *testing.T) {
	opts := options(t)
	opts.Key = ProviderSealed
	later := "-----BEGIN JITR SEALED KEY-----\nMAUwAwIBAg==\n-----END JITR SEALED KEY-----\n" // version 2
	if err := errors.Join(os.MkdirAll(opts.StateDir, 0o700), os.WriteFile(opts.path(KeyFile), []byte(later), 0o600)); err != nil {
		t.Fatal(err)
	}
	ca := newCA(t, "Test CA")
	key := newKey(t)
	files := ImportFiles{Cert: write(t, pemOf(ca.leaf(t, "gw-1", key.Public()), ca.cert)), Key: softKey(t, key)}
	_, importErr := Import(t.Context(), opts, files, false, floor(), floor())
	_, csrErr := MakeCSR(t.Context(), opts, "CN=gw-1")
	_, loadErr := Load(t.Context(), opts)
	for name, err := range map[string]error{"import": importErr, "csr": csrErr, "load": loadErr} {
		if Cause(err) != "key-corrupt" || !strings.Contains(err.Error(), "format version 2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if data, err := os.ReadFile(opts.path(KeyFile)); err != nil || string(data) != later {
		t.Errorf("device.key is %q: %v", data, err)
	}
}

// A cloned SD card: the key says on which board it was made.
func TestCopiedKey(t *testing.T) {
	opts := options(t)
	plant(t, opts, "proc/device-tree/serial-number", "10000000aaaa\x00")
	ca := newCA(t, "Test CA")
	importChain(t, opts, ca.leaf(t, "gw-1", csrKey(t, opts)), ca.cert)
	warnings := func() []Warning {
		t.Helper()
		id, err := Load(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		defer id.Close()
		return id.Warnings
	}
	if w := warnings(); len(w) != 0 {
		t.Errorf("on its own board: %v", w)
	}
	plant(t, opts, "proc/device-tree/serial-number", "10000000bbbb\x00")
	w := warnings()
	if len(w) != 1 || w[0].ID != WarnKeyCopied || !strings.Contains(w[0].Why, "10000000aaaa") || !strings.Contains(w[0].Why, "10000000bbbb") {
		t.Errorf("on another board: %v", w)
	}
	csr, err := MakeCSR(t.Context(), opts, "CN=gw-1")
	if err != nil || len(csr.Warnings) != 1 || csr.Warnings[0] != w[0].String() {
		t.Errorf("csr: %q, %v", csr.Warnings, err)
	}

	// The board was replaced on purpose: what the remedy says.
	data, err := os.ReadFile(opts.path(KeyFile))
	if err != nil {
		t.Fatal(err)
	}
	data = bytes.Replace(data, []byte("10000000aaaa"), []byte("10000000bbbb"), 1)
	if err := os.WriteFile(opts.path(KeyFile), data, 0o600); err != nil {
		t.Fatal(err)
	}
	if w := warnings(); len(w) != 0 {
		t.Errorf("after the remedy: %v", w)
	}
	// A board that tells no number is no other board.
	if err := os.Remove(opts.Root + "/proc/device-tree/serial-number"); err != nil {
		t.Fatal(err)
	}
	if w := warnings(); len(w) != 0 {
		t.Errorf("without a serial number: %v", w)
	}
}

// A file key that nobody has asked for is a warning, wherever it came from.
func TestFileKeyIsAWarning(t *testing.T) {
	opts := options(t)
	opts.Key = "auto"
	ca := newCA(t, "Test CA")
	importChain(t, opts, ca.leaf(t, "gw-1", csrKey(t, opts)), ca.cert)
	for _, why := range []string{"no sign of a TPM", "before this gateway had its TPM"} {
		id, err := Load(t.Context(), opts)
		if err != nil {
			t.Fatal(err)
		}
		if len(id.Warnings) != 1 || id.Warnings[0].ID != WarnFileKey || !strings.Contains(id.Warnings[0].Why, why) {
			t.Errorf("warnings: %v", id.Warnings)
		}
		if err := id.Close(); err != nil {
			t.Error(err)
		}
		plant(t, opts, "sys/class/tpm/tpm0/dev", "10:224\n")
	}
}
