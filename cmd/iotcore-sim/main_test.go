package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test binary be the program itself.
func TestMain(m *testing.M) {
	if os.Getenv("BE_IOTCORE_SIM") == "1" {
		main()
		return
	}
	os.Exit(m.Run())
}

func sim(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, args...)
	cmd.Env = append(os.Environ(), "BE_IOTCORE_SIM=1")
	return cmd
}

func TestRunAndStop(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		dir := filepath.Join(t.TempDir(), "new", "dir")
		cmd := sim(t, "--mqtt", "127.0.0.1:0", "--api", "127.0.0.1:0", "--dir", dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		var complaints strings.Builder
		cmd.Stderr = &complaints
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		lines.Scan()
		m := regexp.MustCompile(`^ready mqtt=(127\.0\.0\.1:[1-9]\d*) api=(127\.0\.0\.1:[1-9]\d*)$`).FindStringSubmatch(lines.Text())
		if m == nil {
			t.Fatalf("first line %q, %s", lines.Text(), complaints.String())
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+m[2]+"/registrationcode", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var body map[string]string
		if err := json.NewDecoder(res.Body).Decode(&body); err != nil || len(body["registrationCode"]) != 64 {
			t.Errorf("registration code %v, %v", body, err)
		}
		res.Body.Close()
		if conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", m[1]); err != nil {
			t.Error(err)
		} else {
			defer conn.Close() // a connection that does nothing must not hold up the end
		}
		began := time.Now()
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		if lines.Scan() {
			t.Errorf("a second line: %q", lines.Text())
		}
		if err := cmd.Wait(); err != nil || complaints.Len() > 0 || time.Since(began) > 5*time.Second {
			t.Errorf("%s: %v after %s, stderr %q", signal, err, time.Since(began), complaints.String())
		}
		for name, mode := range map[string]os.FileMode{"server-ca.pem": 0o644, "server-ca.key": 0o600, "registry.json": 0o600} {
			if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != mode {
				t.Errorf("%s: %v, %v", name, info, err)
			}
		}
	}
}

// selfSigned is a certificate that is not a CA's.
func selfSigned(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestRefusals(t *testing.T) {
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().String()
	dir := t.TempDir()
	noPolicy := filepath.Join(dir, "policy.json")
	if err := os.WriteFile(noPolicy, []byte(`{"Statement":[{"Effect":"Allow"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	leaf := filepath.Join(dir, "leaf.crt")
	if err := os.WriteFile(leaf, selfSigned(t), 0o600); err != nil {
		t.Fatal(err)
	}
	const giveCA = "; give with --register-ca the PEM file of a CA that signs devices"
	free := []string{"--mqtt", "127.0.0.1:0", "--api", "127.0.0.1:0", "--dir", dir}
	tests := []struct {
		name string
		args []string
		code int
		want string
	}{
		{"mqtt port", []string{"--mqtt", port, "--api", "127.0.0.1:0", "--dir", dir}, 1,
			"iotcore-sim: cannot listen on " + port + " for MQTT: another program has that port; choose another address with --mqtt HOST:PORT"},
		{"api port", []string{"--mqtt", "127.0.0.1:0", "--api", port, "--dir", dir}, 1,
			"iotcore-sim: cannot listen on " + port + " for API: another program has that port; choose another address with --api HOST:PORT"},
		{"no dir", nil, 64, `required flag(s) "dir" not set`},
		{"unknown flag", append(free, "--nope"), 64, "unknown flag: --nope"},
		{"argument", append(free, "x"), 64, "unknown command"},
		{"activation", append(free, "--activate-after", "soon"), 64, `--activate-after: "soon" is neither a duration such as 3s nor never nor manual`},
		{"close", append(free, "--pending-close", "slowly"), 64, `--pending-close: "slowly" is not one of`},
		{"no CA file", append(free, "--register-ca", dir+"/none"), 1, "no such file or directory" + giveCA},
		{"CA file without CA", append(free, "--register-ca", noPolicy), 1, "register the CA " + noPolicy},
		{"no CA", append(free, "--register-ca", leaf), 1, "register the CA " + leaf + ": The CA certificate has no basicConstraints CA:TRUE" + giveCA},
		{"no wait", append(free, "--async-retry", "0s"), 64, "--async-retry: 0s is not a wait; give a duration above 0, such as 1s"},
		{"negative wait", append(free, "--async-retry", "-1m"), 64, "--async-retry: -1m0s is not a wait"},
		{"dir", append(free[:4:4], "--dir", leaf+"/x"), 1, "iotcore-sim: cannot use --dir " + leaf + "/x: mkdir " + leaf + ": not a directory; give a directory that you may read and write"},
		{"policy", append(free, "--policy", noPolicy), 1, "read the policy " + noPolicy + ": policy statement 1: Action is missing"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cmd := sim(t, tt.args...)
			var stderr strings.Builder
			cmd.Stderr = &stderr
			out, _ := cmd.Output()
			line := stderr.String()
			if cmd.ProcessState.ExitCode() != tt.code || !strings.Contains(line, tt.want) || strings.Count(line, "\n") != 1 || len(out) > 0 {
				t.Errorf("exit %d, stdout %q, stderr %q, want exit %d and %q", cmd.ProcessState.ExitCode(), out, line, tt.code, tt.want)
			}
		})
	}
}
