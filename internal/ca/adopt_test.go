package ca

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/ca/inventory"
)

// opensslCA makes a directory as 'openssl ca' keeps it, with gw-1 valid, gw-2
// and gw-3 revoked, and one CRL made.
const opensslCA = `
mkdir private newcerts
touch index.txt
echo 1000 > serial
echo 0A > crlnumber
cat > openssl.cnf <<'CNF'
[ca]
default_ca = own
[own]
dir = .
database = $dir/index.txt
new_certs_dir = $dir/newcerts
certificate = $dir/cacert.pem
private_key = $dir/private/cakey.pem
serial = $dir/serial
crlnumber = $dir/crlnumber
default_md = sha256
default_days = 365
default_crl_days = 30
policy = any
[any]
commonName = supplied
CNF
openssl req -x509 -newkey rsa:2048 -nodes -keyout private/cakey.pem -subj "/O=Acme/CN=Old CA" -days 3650 -out cacert.pem
for n in 1 2 3; do
	openssl req -new -newkey rsa:2048 -nodes -keyout gw-$n.key -subj /CN=gw-$n -out gw-$n.csr
	openssl ca -batch -config openssl.cnf -in gw-$n.csr -out gw-$n.crt -notext
done
openssl ca -config openssl.cnf -revoke gw-2.crt -crl_reason keyCompromise
openssl ca -config openssl.cnf -revoke gw-3.crt
openssl ca -config openssl.cnf -gencrl -out first.crl
`

func TestAdopt(t *testing.T) {
	dir := t.TempDir()
	run := func(script string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "bash", "-euc", script)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	run(opensslCA + "rm newcerts/1002.pem; chmod 644 private/cakey.pem") // gw-3 is known by the index only
	other := newTestCA(t)
	c, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	foreign := filepath.Join(other.dir, "ca.crt")
	got, err := c.Adopt(t.Context(), []string{foreign, filepath.Join(dir, "gw-1.crt")}, now)
	if err != nil {
		t.Fatal(err)
	}
	if got.Certificates != 2 || got.Unseen != 1 || got.Known != 1 || len(got.Foreign) != 1 || got.Foreign[0] != foreign || got.ClosedKey == "" {
		t.Errorf("%+v", got)
	}
	if info, err := os.Stat(filepath.Join(dir, "private/cakey.pem")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's mode: %v, %v", info.Mode(), err)
	}
	list, err := c.List(t.Context(), Filter{}, now)
	if err != nil || len(list) != 3 {
		t.Fatalf("%d in the inventory, %v", len(list), err)
	}
	for i, want := range []struct {
		name   string
		serial inventory.Serial
		state  inventory.State
		reason inventory.Reason
		seen   bool
	}{
		{"gw-1", "1000", inventory.Valid, inventory.Unspecified, true},
		{"gw-2", "1001", inventory.Revoked, inventory.KeyCompromise, true},
		{"gw-3", "1002", inventory.Revoked, inventory.Unspecified, false},
	} {
		if e := list[i]; e.Name != want.name || e.Serial != want.serial || e.State(now) != want.state || e.Reason != want.reason || (e.CertificateID != "") != want.seen {
			t.Errorf("%+v, want %+v", e, want)
		}
	}

	// Given again it changes nothing, but takes in what was missing.
	again, err := c.Adopt(t.Context(), []string{filepath.Join(dir, "gw-3.crt")}, now)
	if err != nil || again.Certificates != 1 || again.Known != 2 || again.Unseen != 0 || again.ClosedKey != "" {
		t.Errorf("again: %+v, %v", again, err)
	}
	if list, err := c.List(t.Context(), Filter{States: []inventory.State{inventory.Revoked}}, now); err != nil || len(list) != 2 || list[1].CertificateID == "" {
		t.Errorf("revoked: %v, %v", list, err)
	}

	// The same request does not get a second certificate, and a compromised
	// key none at all.
	for name, want := range map[string]error{"gw-1": nil, "gw-2": ErrCompromised} {
		data, err := os.ReadFile(filepath.Join(dir, name+".csr"))
		if err != nil {
			t.Fatal(err)
		}
		csr, err := ParseRequest(data)
		if err != nil {
			t.Fatal(err)
		}
		issued, err := c.Sign(t.Context(), csr, SignOptions{Days: 10, Renew: want != nil, Now: now})
		if !errors.Is(err, want) || want == nil && !issued.Again {
			t.Errorf("%s: %+v, %v", name, issued, err)
		}
	}

	// openssl goes on from our index, and our CRL's number from openssl's.
	crl, err := c.MakeCRL(t.Context(), 30, now)
	if err != nil || crl.Number.Int64() != 0x0B || crl.Entries != 2 {
		t.Fatalf("CRL %+v, %v; want number 0x0B with 2 entries", crl, err)
	}
	var index strings.Builder
	all, err := c.List(t.Context(), Filter{}, now)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if err := inventory.WriteIndex(&index, e, now); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.ReadFile(filepath.Join(dir, "index.txt"))
	if err != nil || index.String() != string(before) {
		t.Errorf("our index.txt:\n%sopenssl's:\n%s%v", index.String(), before, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "index.txt"), []byte(index.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := run("openssl ca -config openssl.cnf -status 1001 || true"); !strings.Contains(out, "1001=Revoked") {
		t.Errorf("openssl's opinion of our index: %s", out)
	}
}

func TestAdopt_refuses(t *testing.T) {
	c := newTestCA(t)
	put := func(name, content string) string {
		t.Helper()
		file := filepath.Join(c.dir, name)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	if _, err := c.Adopt(t.Context(), []string{put("note.txt", "hello")}, now); err == nil || !strings.Contains(err.Error(), "note.txt: it holds no PEM certificate") {
		t.Errorf("a note: %v", err)
	}
	put("crlnumber", "many\n")
	if _, err := c.Adopt(t.Context(), nil, now); err == nil || !strings.Contains(err.Error(), `crlnumber: it holds "many"`) {
		t.Errorf("crlnumber: %v", err)
	}
	put("index.txt", "V\t310101000000Z\t\t01\tunknown\t/CN=a\nX\t\n")
	if _, err := c.Adopt(t.Context(), nil, now); !errors.Is(err, inventory.ErrBadIndex) || !strings.Contains(err.Error(), "index.txt: line 2") {
		t.Errorf("index.txt: %v", err)
	}
	if list, err := c.List(t.Context(), Filter{}, now); err != nil || len(list) != 0 {
		t.Errorf("%d taken in all the same, %v", len(list), err)
	}
}
