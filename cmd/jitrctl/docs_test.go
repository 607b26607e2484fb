package main

import (
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// shBlock is a fenced block marked sh, inside a list or not.
var shBlock = regexp.MustCompile("(?ms)^ *```sh\n(.*?)^ *```$")

// TestOperatorDocs runs docs/operator.md: all its sh blocks in their order, as
// one script. Then the files that the page speaks of are there, and openssl
// agrees with what each side made.
func TestOperatorDocs(t *testing.T) {
	page, err := os.ReadFile("../../docs/operator.md")
	if err != nil {
		t.Fatal(err)
	}
	var script bytes.Buffer
	for _, block := range shBlock.FindAllSubmatch(page, -1) {
		script.Write(block[1])
	}
	for _, command := range []string{"ca init", "ca verification-cert", "ca sign", "ca bundle", "ca list", "ca revoke", "ca crl", "ca adopt"} {
		if !strings.Contains(script.String(), "jitrctl "+command) {
			t.Errorf("the page has no block that runs jitrctl %s", command)
		}
	}
	script.WriteString(`
cmp deviceCertAndCA.crt <(cat deviceCert.crt openssl/CAroot.pem)
openssl verify -x509_strict -CAfile CA/ca.crt Verify.crt gw-1-new.crt gw-2.crt
openssl verify -CAfile openssl/CAroot.pem openssl/Verify.crt gw-1.crt by-openssl/gw-11.crt
openssl verify -x509_strict -CAfile CA/ca.crt certificates/gw-11.crt certificates/gw-12.crt certificates/gw-13.crt certificates/gw-2.crt
cmp certificates/gw-2.crt gw-2.crt
openssl verify -CAfile openssl/CAroot.pem plant/CAroot.pem
openssl verify -x509_strict -CAfile CA/ca.crt plant-CA/ca.crt
openssl pkey -in sealed-CA/ca.key -passin file:passphrase -noout -check
openssl crl -in openssl/CA.crl -CAfile openssl/CAroot.pem -noout
! openssl verify -crl_check -CAfile CA/ca.crt -CRLfile CA.crl certificates/gw-12.crt
jitrctl ca list --dir openssl --format csv | grep -c '/CN=gw-1,' | grep -x 2
jitrctl ca list --dir openssl --format csv | grep -c ',imported,' | grep -x 4
`)
	cmd := exec.CommandContext(t.Context(), "bash", "-euxo", "pipefail", "-c", script.String())
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "CODE="+strings.Repeat("8cd4f1e2", 8))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
