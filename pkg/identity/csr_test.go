package identity

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/jitr-agent/jitr-agent/internal/certs"
	"github.com/jitr-agent/jitr-agent/internal/swtpmtest"
)

// plant puts a file into the root directory of a made-up board.
func plant(t *testing.T, opts Options, path, content string) {
	t.Helper()
	path = filepath.Join(opts.Root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Without a sign of a TPM "auto" is a file, and says so; with one it is the
// TPM or an error, never a key that can be copied.
func TestAuto(t *testing.T) {
	for _, test := range []struct {
		name  string
		board func(t *testing.T, opts *Options)
		want  string // the provider; "": an error
		cause string
	}{
		{"nothing", func(*testing.T, *Options) {}, ProviderFile, ""},
		{"a software TPM", func(t *testing.T, o *Options) { o.TPMDevice = swtpmtest.Start(t).Device }, ProviderTPM, ""},
		{"a software TPM that is off", func(t *testing.T, o *Options) {
			s := swtpmtest.Start(t)
			s.PowerCut()
			o.TPMDevice = s.Device
		}, ProviderFile, ""},
		{"an empty class", func(t *testing.T, o *Options) {
			if err := os.MkdirAll(filepath.Join(o.Root, "sys/class/tpm"), 0o755); err != nil {
				t.Fatal(err)
			}
		}, ProviderFile, ""},
		{"in /sys, but no device", func(t *testing.T, o *Options) { plant(t, *o, "sys/class/tpm/tpm0/dev", "10:224\n") }, "", "tpm-absent"},
		{"in the device tree", func(t *testing.T, o *Options) {
			plant(t, *o, "proc/device-tree/soc/spi@7e204000/slb9670@1/compatible", "infineon,slb9670\x00tcg,tpm_tis-spi\x00")
			plant(t, *o, "proc/device-tree/soc/spi@7e204000/slb9670@1/status", "okay\x00")
		}, "", "tpm-absent"},
		{"in the device tree of a kernel with /sys only", func(t *testing.T, o *Options) {
			plant(t, *o, "sys/firmware/devicetree/base/tpm@1/compatible", "vendor,unknown\x00tcg,tpm-tis-i2c\x00")
		}, "", "tpm-absent"},
		{"disabled in the device tree", func(t *testing.T, o *Options) {
			plant(t, *o, "proc/device-tree/soc/spi@7e204000/slb9670@1/compatible", "infineon,slb9670\x00")
			plant(t, *o, "proc/device-tree/soc/spi@7e204000/slb9670@1/status", "disabled\x00")
		}, ProviderFile, ""},
		{"another device in the device tree", func(t *testing.T, o *Options) {
			plant(t, *o, "proc/device-tree/soc/spi@7e204000/spidev@1/compatible", "spidev\x00")
		}, ProviderFile, ""},
		{"a device that fails", func(_ *testing.T, o *Options) { o.TPMDevice = "/dev/null" }, "", "tpm-failing"},
		{"a device that is none", func(t *testing.T, o *Options) { o.TPMDevice = write(t, nil) }, "", "tpm-failing"},
	} {
		t.Run(test.name, func(t *testing.T) {
			opts := options(t)
			opts.Key = "auto"
			test.board(t, &opts)
			csr, err := MakeCSR(t.Context(), opts, "CN=gw-1")
			if test.want == "" {
				if err == nil || Cause(err) != test.cause {
					t.Errorf("got %+v, %v", csr, err)
				}
				if exists(opts.path(KeyFile)) {
					t.Error("a key was made")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if csr.Provider != test.want || !csr.KeyCreated {
				t.Errorf("got %+v", csr)
			}
			if warned := len(csr.Warnings) == 1 && strings.Contains(csr.Warnings[0], "no TPM found"); warned != (test.want == ProviderFile) {
				t.Errorf("warnings: %q", csr.Warnings)
			}
			// Said once; and the choice stays, whatever appears.
			plant(t, opts, "sys/class/tpm/tpm0/dev", "10:224\n")
			again, err := MakeCSR(t.Context(), opts, "CN=gw-1")
			if err != nil || again.Provider != test.want || len(again.Warnings) != 0 {
				t.Errorf("the second time: %+v, %v", again, err)
			}
		})
	}
}

func TestKeySettings(t *testing.T) {
	for _, test := range []struct{ key, algorithm, says string }{
		{"tpm-sealed", "ecdsa-p256", "there is no TPM"},
		{"hsm", "ecdsa-p256", "set auto, tpm, tpm-sealed or file"},
		{"file", "ed25519", "set ecdsa-p256 or rsa-2048"},
		{"tpm", "ecdsa-p256", "there is no TPM"},
	} {
		opts := options(t)
		opts.Key, opts.Algorithm = test.key, test.algorithm
		if _, err := MakeCSR(t.Context(), opts, "CN=gw-1"); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s, %s: %v", test.key, test.algorithm, err)
		}
		if exists(opts.path(KeyFile)) {
			t.Errorf("%s: a key was made", test.key)
		}
	}
}

// A key that is there stays, even one that cannot be used.
func TestKeyIsNeverReplaced(t *testing.T) {
	opts := options(t)
	csrKey(t, opts)
	nowhere := filepath.Join(t.TempDir(), "none")
	for _, test := range []struct {
		name  string
		spoil func() error
	}{
		{"damaged", func() error { return os.WriteFile(opts.path(KeyFile), []byte("damaged"), 0o600) }},
		{"empty", func() error { return os.WriteFile(opts.path(KeyFile), nil, 0o600) }},
		{"a link to nowhere", func() error { // last: a write would go through it
			if err := os.Remove(opts.path(KeyFile)); err != nil {
				return err
			}
			return os.Symlink(nowhere, opts.path(KeyFile))
		}},
	} {
		if err := test.spoil(); err != nil {
			t.Fatal(err)
		}
		if csr, err := MakeCSR(t.Context(), opts, "CN=gw-1"); err == nil || csr.KeyCreated {
			t.Errorf("%s: got %+v", test.name, csr)
		}
	}
	if exists(nowhere) {
		t.Error("a key was written through the link")
	}
}

func TestConcurrentCSRs(t *testing.T) {
	opts := options(t)
	var (
		wg   sync.WaitGroup
		csrs [8]CSR
	)
	for i := range csrs {
		wg.Go(func() {
			var err error
			if csrs[i], err = MakeCSR(t.Context(), opts, "CN=gw-1"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	created := 0
	for _, csr := range csrs {
		if csr.KeyCreated {
			created++
		}
		if !certs.SameKey(parseCSR(t, csr.PEM).PublicKey, parseCSR(t, csrs[0].PEM).PublicKey) {
			t.Error("two keys were made")
		}
	}
	if created != 1 {
		t.Errorf("%d say that they made the key", created)
	}
}

func TestLockIsNamed(t *testing.T) {
	opts := options(t)
	unlock, err := lock(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		_, err := MakeCSR(t.Context(), opts, "CN=gw-1")
		if err == nil || !strings.Contains(err.Error(), opts.path(LockFile)) || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
			t.Errorf("got %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := MakeCSR(ctx, opts, "CN=gw-1"); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	unlock()
	csrKey(t, opts)
}

// Run as root, what is written belongs to the directory's owner.
func TestFilesAreHandedOver(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	const uid, gid = 12345, 12346
	opts := options(t)
	if err := os.MkdirAll(opts.StateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(opts.StateDir, uid, gid); err != nil {
		t.Fatal(err)
	}
	ca := newCA(t, "Test CA")
	importChain(t, opts, ca.leaf(t, "gw-1", csrKey(t, opts)), ca.cert)
	for _, name := range []string{KeyFile, CertFile, LockFile} {
		info, err := os.Stat(opts.path(name))
		if err != nil {
			t.Fatal(err)
		}
		if st := info.Sys().(*syscall.Stat_t); st.Uid != uid || st.Gid != gid {
			t.Errorf("%s belongs to %d:%d", name, st.Uid, st.Gid)
		}
	}
}

func TestSubjectOfCSR(t *testing.T) {
	opts := options(t)
	plant(t, opts, "proc/device-tree/serial-number", "10000000abcdef01\x00")
	for _, test := range []struct{ given, thing, subject, source, warning string }{
		{"", "", "CN=gw-10000000abcdef01", "serial number", ""},
		{"", "hall-7", "CN=hall-7", "cloud.thing_name", ""},
		{"/O=Acme/CN=gw-2", "hall-7", "CN=gw-2,O=Acme", "--subject", ""},
		{"CN=hall 7", "", "CN=hall 7", "--subject", "cannot be a thing's name"},
		{"CN=hall 7", "hall-7", "CN=hall 7", "--subject", ""},
		{"O=Acme", "", "O=Acme", "--subject", "cannot be a thing's name"},
	} {
		opts.ThingName = test.thing
		csr, err := MakeCSR(t.Context(), opts, test.given)
		if err != nil {
			t.Errorf("%q: %v", test.given, err)
			continue
		}
		if got := parseCSR(t, csr.PEM).Subject.String(); got != test.subject || csr.Subject != got || !strings.Contains(csr.SubjectSource, test.source) {
			t.Errorf("%q: %q, said to be %q from %s", test.given, got, csr.Subject, csr.SubjectSource)
		}
		if warned := strings.Join(csr.Warnings, " "); (test.warning == "") != (warned == "") || !strings.Contains(warned, test.warning) {
			t.Errorf("%q: warnings %q", test.given, csr.Warnings)
		}
	}
}

func TestParseSubject(t *testing.T) {
	for in, want := range map[string]string{
		"CN=gw-1":                         "CN=gw-1",
		"CN=gw-1,O=Acme":                  "CN=gw-1,O=Acme",
		"/CN=gw-1/O=Acme":                 "CN=gw-1,O=Acme",
		" cn = gw-1 , o = Acme & Sons ":   "CN=gw-1,O=Acme & Sons",
		`CN=gw-1,O=Acme\, Inc.`:           `CN=gw-1,O=Acme\, Inc.`,
		`/CN=gw-1/O=A\/B, C`:              `CN=gw-1,O=A/B\, C`,
		"CN=a=b":                          "CN=a=b",
		"C=DE,ST=BY,L=M,O=A,OU=x,CN=gw-1": "CN=gw-1,OU=x,O=A,L=M,ST=BY,C=DE",
		"CN=gw-1,serialNumber=77":         "SERIALNUMBER=77,CN=gw-1",
	} {
		name, err := ParseSubject(in)
		if err != nil || name.String() != want {
			t.Errorf("%q: %q, %v", in, name.String(), err)
		}
	}
	for in, says := range map[string]string{
		"":                "has no =",
		"/":               "has no =",
		"gw-1":            "has no =",
		"CN=gw-1,":        "has no =",
		"CN=":             "CN is empty",
		"CN=a,CN=b":       "stands twice",
		"CN=gw-1,C=DEU":   "two letters",
		"CN=gw-1,X=1":     `attribute "X"`,
		`CN=gw-1\`:        "backslash",
		"/CN=gw-1//O=Ace": "has no =",
	} {
		if name, err := ParseSubject(in); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %q, %v", in, name.String(), err)
		}
	}
}

func TestDefaultName(t *testing.T) {
	const id = "0123456789abcdef0123456789abcdef"
	sum := sha256.Sum256([]byte(id + "jitr-agent"))
	hashed := "gw-" + hex.EncodeToString(sum[:])[:16]
	for _, test := range []struct {
		name, want, source string
		files              map[string]string
	}{
		{"device tree", "gw-10000000abcdef01", "device tree", map[string]string{
			"proc/device-tree/serial-number": "10000000abcdef01\x00", "sys/class/dmi/id/product_serial": "DMI1\n",
		}},
		{"device tree in /sys", "gw-10000000abcdef01", "device tree", map[string]string{
			"sys/firmware/devicetree/base/serial-number": "10000000abcdef01\x00",
		}},
		{"product serial", "gw-ABC-1-23", "DMI", map[string]string{"sys/class/dmi/id/product_serial": "ABC 1/23\n"}},
		{"board serial", "gw-B77", "DMI", map[string]string{
			"sys/class/dmi/id/product_serial": "To be filled by O.E.M.\n", "sys/class/dmi/id/board_serial": "B77\n",
		}},
		{"placeholders", hashed, "machine id", map[string]string{
			"proc/device-tree/serial-number":  "0000000000000000\x00",
			"sys/class/dmi/id/product_serial": "Default string\n", "sys/class/dmi/id/board_serial": "0\n",
		}},
		{"more placeholders", hashed, "machine id", map[string]string{
			"sys/class/dmi/id/product_serial": "System Serial Number\n", "sys/class/dmi/id/board_serial": "Not Specified\n",
		}},
		{"nothing usable in it", hashed, "machine id", map[string]string{"sys/class/dmi/id/product_serial": "???\n"}},
		{"none", hashed, "machine id", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			opts := options(t)
			plant(t, opts, "etc/machine-id", id+"\n")
			plant(t, opts, "etc/hostname", "raspberrypi\n")
			for path, content := range test.files {
				plant(t, opts, path, content)
			}
			name, source, err := DefaultName(opts.Root)
			if err != nil || name != test.want || !strings.Contains(source, test.source) {
				t.Errorf("%q from %s, %v", name, source, err)
			}
			if !certs.ValidThingName(name) {
				t.Errorf("%q cannot be a thing's name", name)
			}
		})
	}

	long := options(t)
	plant(t, long, "sys/class/dmi/id/product_serial", strings.Repeat("7A", 100))
	if name, _, err := DefaultName(long.Root); err != nil || !certs.ValidThingName(name) {
		t.Errorf("%q, %v", name, err)
	}
	for _, content := range []string{"", "uninitialized\n"} {
		bare := options(t)
		plant(t, bare, "etc/machine-id", content)
		if name, _, err := DefaultName(bare.Root); err == nil || !strings.Contains(err.Error(), "--subject") {
			t.Errorf("machine-id %q: %q, %v", content, name, err)
		}
	}
	if name, _, err := DefaultName(t.TempDir()); err == nil || !strings.Contains(err.Error(), "--subject") {
		t.Errorf("no machine-id: %q, %v", name, err)
	}
}

func TestHardware(t *testing.T) {
	pi, pc, bare := options(t), options(t), options(t)
	plant(t, pi, "proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\x00")
	plant(t, pi, "proc/device-tree/serial-number", "10000000abcdef01\x00")
	plant(t, pc, "sys/class/dmi/id/product_name", "NUC7\n")
	plant(t, pc, "sys/class/dmi/id/product_serial", "G6\n")
	for _, test := range []struct {
		opts          Options
		model, serial string
	}{
		{pi, "Raspberry Pi 4 Model B Rev 1.4", "10000000abcdef01"},
		{pc, "NUC7", "G6"},
		{bare, "", ""},
	} {
		if model, serial := Hardware(test.opts.Root); model != test.model || serial != test.serial {
			t.Errorf("%q, %q", model, serial)
		}
	}
}
