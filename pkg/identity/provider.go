package identity

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/jitr-agent/jitr-agent/pkg/tpm"
)

// chooseProvider says where a new key is made. With "auto" a TPM that is there,
// or should be, is taken; that it fails is then an error of the caller, never
// a reason for a key that can be copied. The warning is for the user, if any.
func chooseProvider(opts Options) (provider, warning string, err error) {
	switch opts.Key {
	case ProviderTPM, ProviderSealed, ProviderFile:
		return opts.Key, "", nil
	case "auto":
	default:
		return "", "", fmt.Errorf("[identity] key: there is no %q; set auto, tpm, tpm-sealed or file", opts.Key)
	}
	t, err := tpm.Open(opts.TPMDevice)
	if err == nil {
		return ProviderTPM, "", t.Close()
	}
	if !errors.Is(err, ErrTPMAbsent) {
		return ProviderTPM, "", nil
	}
	sign, err := tpmExpected(opts.Root)
	if err != nil || sign != "" {
		return ProviderTPM, "", err
	}
	return ProviderFile, fmt.Sprintf("no TPM found at %s: the key is kept in a file, and whoever copies the storage has it", opts.TPMDevice), nil
}

// tpmExpected returns the path that shows that this board has a TPM, though no
// device could be opened; "" if there is none. On a Raspberry Pi the device
// appears some 10 s into the boot, the device tree has it from the start.
func tpmExpected(root string) (string, error) {
	class := filepath.Join(rooted(root), "sys/class/tpm")
	entries, err := os.ReadDir(class)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("look for a TPM: %w", err)
	}
	if len(entries) > 0 {
		return filepath.Join(class, entries[0].Name()), nil
	}
	found := ""
	err = filepath.WalkDir(filepath.Join(deviceTree(root), "."), func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case d.Name() == "compatible" && tpmNode(path):
			found = filepath.Dir(path)
			return fs.SkipAll
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("look for a TPM: %w", err)
	}
	return found, nil
}

// tpmNode says whether the node whose property "compatible" stands at path is
// an enabled TPM: the generic names of the Linux bindings
// (Documentation/devicetree/bindings/tpm), and the makers' own, which some
// overlays have alone.
func tpmNode(path string) bool {
	names, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	if status, err := os.ReadFile(filepath.Join(filepath.Dir(path), "status")); err == nil &&
		strings.HasPrefix(string(status), "disabled") {
		return false
	}
	for name := range bytes.SplitSeq(names, []byte{0}) {
		for _, prefix := range []string{"tcg,tpm", "infineon,slb9", "st,st33", "nuvoton,npct", "atmel,at97", "microsoft,ftpm", "google,cr50"} {
			if bytes.HasPrefix(name, []byte(prefix)) {
				return true
			}
		}
	}
	return false
}
