package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/jitr-agent/jitr-agent/internal/ca"
	"github.com/jitr-agent/jitr-agent/internal/certs"
)

// slowTests is set by make soak: what takes minutes.
const slowTests = "SLOW"

// desk is a directory with a CA and requests, as an operator has them.
type desk struct{ ca, requests, out string }

func newDesk(tb testing.TB, n int) desk {
	tb.Helper()
	dir := tb.TempDir()
	d := desk{filepath.Join(dir, "CA"), filepath.Join(dir, "requests"), filepath.Join(dir, "out")}
	if err := os.Mkdir(d.requests, 0o700); err != nil {
		tb.Fatal(err)
	}
	for i := range n {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			tb.Fatal(err)
		}
		name := fmt.Sprintf("gw-%05d", i)
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}}, key)
		if err != nil {
			tb.Fatal(err)
		}
		data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
		if err := os.WriteFile(filepath.Join(d.requests, name+".csr"), data, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	d.init(tb)
	return d
}

func (d desk) init(tb testing.TB) {
	tb.Helper()
	if out, err := exec.CommandContext(tb.Context(), "jitrctl", "ca", "init", "--dir", d.ca, "--cn", "Test CA").CombinedOutput(); err != nil {
		tb.Fatalf("%v\n%s", err, out)
	}
}

// sign runs the batch until it ends or ctx does, which is kill -9.
func (d desk) sign(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "jitrctl", "ca", "sign", "--dir", d.ca, d.requests, "--out", d.out).CombinedOutput()
	return string(out), err
}

// certificates reads what a batch has left in out: certificates only, each
// whole. What hides behind a dot is a killed batch's, and nobody's business.
func (d desk) certificates(tb testing.TB) map[string][]byte {
	tb.Helper()
	entries, err := os.ReadDir(d.out)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		tb.Fatal(err)
	}
	files := map[string][]byte{}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(d.out, e.Name()))
		if err != nil {
			tb.Fatal(err)
		}
		chain, err := certs.ParseChain(data)
		if err != nil || certs.CheckChain(chain) != nil {
			tb.Errorf("%s is half-written: %v", e.Name(), err)
		}
		files[e.Name()] = data
	}
	return files
}

// check wants n certificates for n requests and no more in the inventory, all
// serial numbers different, and all taken by openssl.
func (d desk) check(tb testing.TB, n int) {
	tb.Helper()
	files := d.certificates(tb)
	if len(files) != n {
		tb.Errorf("%d certificates for %d requests", len(files), n)
	}
	authority, err := ca.Open(d.ca, nil)
	if err != nil {
		tb.Fatal(err)
	}
	list, err := authority.List(tb.Context(), ca.Filter{}, time.Now())
	if err != nil || len(list) != n {
		tb.Errorf("%d certificates in the inventory, %v; want %d", len(list), err, n)
	}
	serials := map[string]bool{}
	for _, e := range list {
		chain, err := certs.ParseChain(files[e.Name+".crt"])
		if err != nil || certs.ID(chain[0]) != e.CertificateID {
			tb.Errorf("%s.crt is not what the inventory has: %v", e.Name, err)
		}
		serials[string(e.Serial)] = true
	}
	if len(serials) != n {
		tb.Errorf("%d serial numbers for %d requests", len(serials), n)
	}
	args := []string{"verify", "-purpose", "sslclient", "-CAfile", filepath.Join(d.ca, "ca.crt")}
	for name := range files {
		args = append(args, filepath.Join(d.out, name))
	}
	if out, err := exec.CommandContext(tb.Context(), "openssl", args...).CombinedOutput(); err != nil || bytes.Count(out, []byte(": OK\n")) != n {
		tb.Errorf("openssl verify: %v\n%.2000s", err, out)
	}
	if entries, err := os.ReadDir(d.out); err != nil || len(entries) != n {
		tb.Errorf("%d files in %s, %v; want the %d certificates alone", len(entries), d.out, err, n)
	}
}

// A batch is killed at random times and given again, until it is through: no
// certificate that was there once is ever another one, and none is too many.
func TestSign_killed(t *testing.T) {
	n, kills := 500, 10
	if os.Getenv(slowTests) != "" {
		n, kills = 10_000, 30
	}
	d := newDesk(t, n)
	whole := newDesk(t, 0)
	whole.requests = d.requests
	start := time.Now()
	if out, err := whole.sign(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	takes := time.Since(start)
	whole.check(t, n)

	seen := map[string][]byte{}
	killed, partly := 0, 0
	for killed < kills || partly == 0 && killed < 10*kills {
		// A part of the whole time: with it, some kills meet each of the states.
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(mathrand.Int64N(int64(takes)/2)))
		out, err := d.sign(ctx)
		late := ctx.Err() == nil || err == nil
		cancel()
		if late { // it was through before the kill: begin anew
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			d.check(t, n)
			if err := errors.Join(os.RemoveAll(d.ca), os.RemoveAll(d.out)); err != nil {
				t.Fatal(err)
			}
			d.init(t)
			clear(seen)
			continue
		}
		killed++
		files := d.certificates(t)
		for name, data := range seen {
			if !bytes.Equal(files[name], data) {
				t.Errorf("%s was handed out, and is another one after kill %d", name, killed)
			}
		}
		if len(files) > 0 && len(files) < n {
			partly++
		}
		seen = files
	}
	if out, err := d.sign(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	d.check(t, n)
	for name, data := range d.certificates(t) {
		if was, ok := seen[name]; ok && !bytes.Equal(was, data) {
			t.Errorf("%s is another one in the end", name)
		}
	}
	if partly == 0 {
		t.Errorf("none of %d kills came amid the batch, which takes %s", killed, takes)
	}
	t.Logf("%d kills of a batch of %d that takes %s, %d of them amid it", killed, n, takes, partly)
}

// The disk is full amid a batch; with room it goes on.
func TestSign_diskFull(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skipped: a small file system needs root")
	}
	const n = 400
	d := newDesk(t, n)
	small := t.TempDir()
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("skipped: a small file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(small, 0); err != nil {
			t.Error(err)
		}
	})
	d.ca, d.out = filepath.Join(small, "CA"), filepath.Join(small, "out")
	d.init(t)
	out, err := d.sign(t.Context())
	if err == nil || !strings.HasSuffix(out, "no space left on device; make room and run the same command again: what is signed stays as it is\n") || strings.Count(out, "\n") != 1 {
		t.Fatalf("%v\n%s", err, out)
	}
	before := d.certificates(t)
	if err := unix.Mount("", small, "", unix.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	if out, err := d.sign(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	d.check(t, n)
	after := d.certificates(t)
	for name, data := range before {
		if !bytes.Equal(after[name], data) {
			t.Errorf("%s is another one now", name)
		}
	}
}

// BenchmarkSign signs 10,000 requests in one run, and a part of them by a
// loop of openssl as the how-tos have it.
func BenchmarkSign(b *testing.B) {
	const n, byOpenssl = 10_000, 300
	d := newDesk(b, n)
	loop := `cd "$1"; i=0
for csr in "$2"/*.csr; do
	openssl x509 -req -in "$csr" -CA "$3/ca.crt" -CAkey "$3/ca.key" -CAcreateserial -out "$(basename "$csr" .csr).crt" -days 365 -sha256 2>/dev/null
	i=$((i + 1)); if [ $i = "$4" ]; then break; fi
done`
	for b.Loop() {
		start := time.Now()
		if out, err := d.sign(b.Context()); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
		ours := n / time.Since(start).Seconds()

		start = time.Now()
		if out, err := exec.CommandContext(b.Context(), "bash", "-ec", loop, "loop", b.TempDir(), d.requests, d.ca, fmt.Sprint(byOpenssl)).CombinedOutput(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
		theirs := byOpenssl / time.Since(start).Seconds()
		b.ReportMetric(ours, "signed/s")
		b.ReportMetric(theirs, "openssl/s")
		b.ReportMetric(ours/theirs, "ratio")

		if err := errors.Join(os.RemoveAll(d.ca), os.RemoveAll(d.out)); err != nil {
			b.Fatal(err)
		}
		d.init(b)
	}
}
