package tpm

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/jitr-agent/jitr-agent/internal/swtpmtest"
)

// lockoutCounter is how many failed authorizations the TPM has counted.
func lockoutCounter(t *testing.T, tp *TPM) uint32 {
	t.Helper()
	var n uint32
	err := tp.do(t.Context(), "read the lockout counter", func(c channel) error {
		rsp, err := tpm2.GetCapability{
			Capability: tpm2.TPMCapTPMProperties, Property: uint32(tpm2.TPMPTLockoutCounter), PropertyCount: 1,
		}.Execute(c)
		if err != nil {
			return err
		}
		props, err := rsp.CapabilityData.Data.TPMProperties()
		if err != nil {
			return err
		}
		n = props.TPMProperty[0].Value
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Without noDA, swtpm locks after three power cuts.
func TestNoDA(t *testing.T) {
	s := swtpmtest.Start(t)
	tp := openTPM(t, s.Device)
	signer := loadKey(t, tp, createKey(t, tp, ECDSAP256))
	if !signer.Key().NoDA() {
		t.Error("the key has no noDA")
	}
	checkSign(t, signer)
	for cut := range 4 {
		s.PowerCycle()
		if n := lockoutCounter(t, tp); n != 0 {
			t.Errorf("after %d power cuts the lockout counter is %d", cut+1, n)
		}
		checkSign(t, signer)
	}
}

// The key must also sign while another program has locked the TPM.
func TestSignsInLockout(t *testing.T) {
	s := swtpmtest.Start(t)
	tp := openTPM(t, s.Device)
	signer := loadKey(t, tp, createKey(t, tp, ECDSAP256))
	lockOut(t, tp)
	checkSign(t, signer)
}

// lockOut guesses the password of another key until the TPM locks.
func lockOut(t *testing.T, tp *TPM) {
	t.Helper()
	err := tp.do(t.Context(), "lock", func(c channel) error {
		p, err := transient(c)
		if err != nil {
			return err
		}
		template, _ := ECDSAP256.template()
		template.ObjectAttributes.NoDA = false
		victim, err := tpm2.Create{
			ParentHandle: p.key, InPublic: tpm2.New2B(template),
			InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
				UserAuth: tpm2.TPM2BAuth{Buffer: []byte("secret")},
			}},
		}.Execute(c)
		if err != nil {
			return err
		}
		h, err := tpm2.Load{ParentHandle: p.key, InPrivate: victim.OutPrivate, InPublic: victim.OutPublic}.Execute(c)
		if err != nil {
			return err
		}
		p.close(c)
		for range 5 {
			digest := sha256.Sum256(nil)
			_, err = tpm2.Sign{
				KeyHandle: tpm2.AuthHandle{Handle: h.ObjectHandle, Name: h.Name, Auth: tpm2.PasswordAuth([]byte("wrong"))},
				Digest:    tpm2.TPM2BDigest{Buffer: digest[:]},
				InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgECDSA,
					&tpm2.TPMSSchemeHash{HashAlg: tpm2.TPMAlgSHA256})},
				Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull},
			}.Execute(c)
		}
		return err
	})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "tpm2_dictionarylockout") {
		t.Fatalf("a locked TPM: %v", err)
	}
}

// A child of go-tpm's own ECCSRKTemplate would load here and nowhere else, so
// another program has to load the key: OpenSSL's provider, and tpm2-tools,
// whose parent (-C o, template H-2) must have the name that we noted.
func TestEmptyUniqueSRK(t *testing.T) {
	for _, alg := range []Algorithm{ECDSAP256, RSA2048} {
		t.Run(string(alg), func(t *testing.T) {
			s := swtpmtest.Start(t)
			tp := openTPM(t, s.Device)
			key := createKey(t, tp, alg)
			dir := t.TempDir()
			file := filepath.Join(dir, "device.key")
			if err := os.WriteFile(file, encodeKey(t, key), 0o600); err != nil {
				t.Fatal(err)
			}

			csr := filepath.Join(dir, "gw.csr")
			openssl(t, s, "req", "-provider", "tpm2", "-provider", "default", "-propquery", "?provider=tpm2",
				"-new", "-key", file, "-subj", "/CN=gw-1", "-out", csr)
			openssl(t, s, "req", "-in", csr, "-verify", "-noout")

			tool(t, s, "tpm2_createprimary", "-C", "o", "-G", "ecc:aes128cfb", "-g", "sha256", "-c", filepath.Join(dir, "srk"),
				"-a", "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt")
			name := filepath.Join(dir, "name")
			tool(t, s, "tpm2_readpublic", "-c", filepath.Join(dir, "srk"), "-n", name)
			if got, err := os.ReadFile(name); err != nil || string(got) != string(key.parentName) {
				t.Errorf("tpm2-tools' SRK is %x (%v), ours %x", got, err, key.parentName)
			}
		})
	}
}

// A key that OpenSSL made is as good as ours: tpm2-openssl 1.1.1 writes
// BOOLEAN TRUE as 0x01.
func TestKeyMadeByOpenSSL(t *testing.T) {
	s := swtpmtest.Start(t)
	file := filepath.Join(t.TempDir(), "device.key")
	openssl(t, s, "genpkey", "-provider", "tpm2", "-provider", "default", "-propquery", "?provider=tpm2",
		"-algorithm", "EC", "-pkeyopt", "group:P-256", "-out", file)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParseKey(data)
	if err != nil {
		t.Fatal(err)
	}
	tp := openTPM(t, s.Device)
	signer := loadKey(t, tp, key)
	checkSign(t, signer)

	// It does not tell its parent's name, so only the likelier cause is named.
	s.Exchange()
	if _, err := tp.Load(t.Context(), key); !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("got %v", err)
	}
}

func openssl(t *testing.T, s *swtpmtest.TPM, args ...string) {
	t.Helper()
	tool(t, s, "openssl", args...)
}

func tool(t *testing.T, s *swtpmtest.TPM, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "TPM2OPENSSL_TCTI="+s.TCTI, "TPM2TOOLS_TCTI="+s.TCTI)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v (apt-get install openssl tpm2-openssl tpm2-tools)\n%s", name, strings.Join(args, " "), err, out)
	}
}

// A key of tpm2-tools, whose files say "password" of keys that have none. One
// that has a password is told from it when it is used, and no guess is
// counted.
func TestKeyMadeByTPM2Tools(t *testing.T) {
	s := swtpmtest.Start(t)
	tp := openTPM(t, s.Device)
	make := func(attributes string, more ...string) ([]byte, error) {
		dir := t.TempDir()
		f := func(name string) string { return filepath.Join(dir, name) }
		tool(t, s, "tpm2_createprimary", "-C", "o", "-G", "ecc:aes128cfb", "-c", f("srk"),
			"-a", "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt")
		tool(t, s, "tpm2_create", append([]string{"-C", f("srk"), "-G", "ecc256", "-u", f("pub"), "-r", f("priv"), "-a", attributes}, more...)...)
		tool(t, s, "tpm2_flushcontext", "-t")
		tool(t, s, "tpm2_encodeobject", "-C", "0x40000001", "-u", f("pub"), "-r", f("priv"), "-o", f("key"))
		return os.ReadFile(f("key"))
	}
	const usual = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign"
	data, err := make(usual + "|noda")
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParseKey(data)
	if err != nil {
		t.Fatal(err)
	}
	signer := loadKey(t, tp, key)
	checkSign(t, signer)
	if err := signer.Close(); err != nil { // tpm2-tools need the slots
		t.Fatal(err)
	}
	if again, err := ParseKey(encodeKey(t, key)); err != nil || !again.saysPassword {
		t.Errorf("it is written otherwise than it was read: %v", err)
	}

	if data, err = make(usual+"|noda", "-p", "secret"); err != nil {
		t.Fatal(err)
	}
	if key, err = ParseKey(data); err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(nil)
	signer = loadKey(t, tp, key)
	_, err = signer.Sign(nil, digest[:], crypto.SHA256)
	if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "has a password") {
		t.Errorf("a key with a password: %v", err)
	}
	if err := signer.Close(); err != nil {
		t.Fatal(err)
	}
	if data, err = make(usual, "-p", "secret"); err != nil {
		t.Fatal(err)
	}
	if _, err = ParseKey(data); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "noDA") {
		t.Errorf("without noDA: %v", err)
	}
	if n := lockoutCounter(t, tp); n != 0 {
		t.Errorf("the lockout counter is %d", n)
	}
}

// A provisioned gateway has its SRK at 0x81000001.
func TestPersistentSRK(t *testing.T) {
	s := swtpmtest.Start(t)
	persistSRK(t, s)
	// With a password on the owner hierarchy no primary can be made.
	tool(t, s, "tpm2_changeauth", "-c", "owner", "owned")

	tp := openTPM(t, s.Device)
	key, err := ParseKey(encodeKey(t, createKey(t, tp, ECDSAP256)))
	if err != nil {
		t.Fatal(err)
	}
	if key.parent != 0x81000001 {
		t.Errorf("the parent is %#x", uint32(key.parent))
	}
	checkSign(t, loadKey(t, tp, key))

	s.Exchange() // nothing stands at the handle
	if _, err := tp.Load(t.Context(), key); !errors.Is(err, ErrChanged) {
		t.Errorf("got %v", err)
	}
}

// A persistent key that is no fit parent is passed over.
func TestUnfitPersistentKey(t *testing.T) {
	s := swtpmtest.Start(t)
	srk := filepath.Join(t.TempDir(), "srk")
	tool(t, s, "tpm2_createprimary", "-C", "o", "-G", "ecc:aes128cfb", "-c", srk) // no noDA
	tool(t, s, "tpm2_evictcontrol", "-C", "o", "-c", srk, "0x81000001")
	tool(t, s, "tpm2_flushcontext", "-t")
	tp := openTPM(t, s.Device)
	key := createKey(t, tp, ECDSAP256)
	if key.parent != owner {
		t.Errorf("the parent is %#x", uint32(key.parent))
	}
	checkSign(t, loadKey(t, tp, key))
}

func TestOwnerPassword(t *testing.T) {
	s := swtpmtest.Start(t)
	tool(t, s, "tpm2_changeauth", "-c", "owner", "owned")
	tp := openTPM(t, s.Device)
	_, err := tp.CreateKey(t.Context(), ECDSAP256)
	if !errors.Is(err, ErrFailing) || !strings.Contains(err.Error(), "owner hierarchy has a password") || !strings.Contains(err.Error(), "tpm-owner-auth") {
		t.Errorf("got %v", err)
	}

	owned, err := Open(s.Device, WithOwnerAuth(NewSecret([]byte("owned"))))
	if err != nil {
		t.Fatal(err)
	}
	key := createKey(t, owned, ECDSAP256)
	signer := loadKey(t, owned, key)
	checkSign(t, signer)
	s.PowerCycle()
	checkSign(t, signer) // it is loaded again, which takes the password
	unsealKey(t, owned, sealKey(t, owned, softwareKey(t, ECDSAP256)))

	wrong, err := Open(s.Device, WithOwnerAuth(NewSecret([]byte("own"))))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wrong.Load(t.Context(), key); !errors.Is(err, ErrFailing) || !strings.Contains(err.Error(), "correct the credential tpm-owner-auth") {
		t.Errorf("a wrong password: %v", err)
	}
	if n := lockoutCounter(t, owned); n != 0 {
		t.Errorf("the lockout counter is %d", n)
	}
}

// A password does not get into a log.
func TestSecretIsNotPrinted(t *testing.T) {
	secret := NewSecret([]byte("owned"))
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q"} {
		for _, value := range []any{secret, &secret, struct{ S Secret }{secret}} {
			if got := fmt.Sprintf(format, value); strings.Contains(got, "owned") || strings.Contains(got, "6f776e6564") || strings.Contains(got, "0x6f") {
				t.Errorf("%s: %s", format, got)
			}
		}
	}
	if got, err := json.Marshal(map[string]any{"s": secret}); err == nil {
		t.Errorf("marshalled: %s", got)
	}
}

func TestOwnerHierarchyDisabled(t *testing.T) {
	s := swtpmtest.Start(t)
	tool(t, s, "tpm2_hierarchycontrol", "-C", "p", "shEnable", "clear")
	tp := openTPM(t, s.Device)
	_, err := tp.CreateKey(t.Context(), ECDSAP256)
	if !errors.Is(err, ErrFailing) || !strings.Contains(err.Error(), "hierarchy is disabled") {
		t.Errorf("got %v", err)
	}
}

func TestFlushLeftovers(t *testing.T) {
	s := swtpmtest.Start(t)
	killed := openTPM(t, s.Device)
	key := createKey(t, killed, ECDSAP256)
	for range 3 { // all slots; a parent needs one while a key is loaded
		if _, err := killed.Load(t.Context(), key); err != nil {
			break
		}
	}
	tp := openTPM(t, s.Device)
	if _, err := tp.Load(t.Context(), key); !errors.Is(err, ErrFailing) || !strings.Contains(err.Error(), "restart the jitr-agent service") {
		t.Fatalf("with no slot free: %v", err)
	}
	n, err := tp.FlushLeftovers(t.Context())
	if err != nil || n < 2 {
		t.Fatalf("flushed %d: %v", n, err)
	}
	if h := loaded(t, tp); len(h) != 0 {
		t.Errorf("objects %x are still loaded", h)
	}
	signer := loadKey(t, tp, key)
	checkSign(t, signer)
}

// What the service flushes may be another process's key in use: that one loads
// it again.
func TestReloadAfterFlushByAnother(t *testing.T) {
	s := swtpmtest.Start(t)
	a, b := openTPM(t, s.Device), openTPM(t, s.Device)
	signer := loadKey(t, a, createKey(t, a, ECDSAP256))
	if _, err := b.FlushLeftovers(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkSign(t, signer)
}

// After a reset another key may stand at our handle; its signatures must not
// come out as ours.
func TestForeignKeyAtOurHandle(t *testing.T) {
	s := swtpmtest.Start(t)
	a, b := openTPM(t, s.Device), openTPM(t, s.Device)
	signer := loadKey(t, a, createKey(t, a, ECDSAP256))
	other := createKey(t, b, ECDSAP256)
	s.PowerCycle()
	// The parent takes the first slot while a key is loaded, and gives it back.
	for range 2 {
		loadKey(t, b, other)
	}
	found := false
	for _, h := range loaded(t, b) {
		found = found || h == signer.handle.Handle
	}
	if !found {
		t.Fatalf("nothing stands at %#x: the test shows nothing", uint32(signer.handle.Handle))
	}
	// One slot of three is left: the reload needs two.
	digest := sha256.Sum256(nil)
	if sig, err := signer.Sign(nil, digest[:], crypto.SHA256); err == nil {
		t.Fatalf("signed by another key: %x", sig)
	}
	if _, err := b.FlushLeftovers(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkSign(t, signer)
}

func TestHang(t *testing.T) {
	for name, start := range map[string]func(testing.TB) *swtpmtest.TPM{"unix": swtpmtest.Start, "tcp": swtpmtest.StartTCP} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			tp := openTPM(t, s.Device)
			signer := loadKey(t, tp, createKey(t, tp, ECDSAP256))
			s.Hang()
			tp.limit = 50 * time.Millisecond
			digest := sha256.Sum256(nil)
			for range 4 { // more than the socket's backlog
				_, err := signer.Sign(nil, digest[:], crypto.SHA256)
				if !errors.Is(err, ErrFailing) || !strings.Contains(err.Error(), "does not answer within 50ms") {
					t.Errorf("a hung TPM: %v", err)
				}
			}
			tp.limit = commandLimit
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			if _, err := tp.Load(ctx, signer.Key()); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrFailing) {
				t.Errorf("a context that ends first: %v", err)
			}
			s.Resume()
			checkSign(t, signer)
		})
	}
}

func TestOpenErrors(t *testing.T) {
	dir, err := os.MkdirTemp("", "x") //nolint:usetesting // a unix address has 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	gone := swtpmtest.Start(t)
	gone.PowerCut()
	goneTCP := swtpmtest.StartTCP(t)
	goneTCP.PowerCut()
	for _, test := range []struct {
		device string
		want   error
		says   string
	}{
		{filepath.Join(dir, "none"), ErrAbsent, "overlay"},
		{"unix:" + filepath.Join(dir, "none"), ErrAbsent, "tpm_device"},
		{gone.Device, ErrAbsent, "start the software TPM"},
		{goneTCP.Device, ErrAbsent, "start the software TPM"},
		{file, ErrFailing, "not a character device"},
		{"tpmrm0", ErrFailing, "correct [identity] tpm_device"},
	} {
		tp, err := Open(test.device)
		if tp != nil || !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), test.device) {
			t.Errorf("%s: %v", test.device, err)
		}
	}
}

// A software TPM that went away while we ran is absent, and back when it is.
func TestAwayAndBack(t *testing.T) {
	s := swtpmtest.Start(t)
	tp := openTPM(t, s.Device)
	signer := loadKey(t, tp, createKey(t, tp, ECDSAP256))
	s.PowerCut()
	digest := sha256.Sum256(nil)
	if _, err := signer.Sign(nil, digest[:], crypto.SHA256); !errors.Is(err, ErrAbsent) {
		t.Errorf("got %v", err)
	}
	s.PowerOn()
	checkSign(t, signer)
}

// The device node: there is none in a container, so what can be shown is how
// its errors are taken. /dev/full refuses every write, /dev/null answers
// nothing.
func TestNode(t *testing.T) {
	full := openTPM(t, "/dev/full")
	if _, err := full.CreateKey(t.Context(), ECDSAP256); !errors.Is(err, ErrFailing) || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v", err)
	}
	null := openTPM(t, "/dev/null")
	if _, err := null.CreateKey(t.Context(), ECDSAP256); !errors.Is(err, ErrFailing) || !errors.Is(err, errNoAnswer) {
		t.Errorf("an empty response: %v", err)
	}
	if n, err := null.FlushLeftovers(t.Context()); n != 0 || err != nil || null.Commands() != 1 {
		t.Errorf("FlushLeftovers on a node: %d, %v, after %d commands", n, err, null.Commands())
	}
}

// A user who is not in the group of the device. As root, only the user id that
// the kernel checks files against is changed, for this thread and this one
// call. The thread must not end: swtpm dies with the one that started it.
func TestDenied(t *testing.T) {
	s := swtpmtest.Start(t)
	if err := os.Chmod(strings.TrimPrefix(s.Device, "unix:"), 0o600); err != nil {
		t.Fatal(err)
	}
	tp := openTPM(t, s.Device)
	denied := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if os.Geteuid() == 0 {
			_, _, _ = syscall.RawSyscall(syscall.SYS_SETFSUID, 65534, 0, 0)
			defer func() { _, _, _ = syscall.RawSyscall(syscall.SYS_SETFSUID, 0, 0, 0) }()
		} else if err := os.Chmod(strings.TrimPrefix(s.Device, "unix:"), 0); err != nil {
			denied <- err
			return
		}
		_, err := Open(s.Device)
		denied <- err
	}()
	if err := <-denied; !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), "group tss") {
		t.Errorf("got %v", err)
	}
	if os.Geteuid() == 0 {
		createKey(t, tp, ECDSAP256) // the others are not affected
	}
}
