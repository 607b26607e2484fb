package rig

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

// startLimit is how long a program may take until it says that it is ready,
// on a busy machine.
const startLimit = 15 * time.Second

// Sim is an iotcore-sim process, a CA that is registered with it, and a plain
// HTTP client for its REST side.
type Sim struct {
	t    testing.TB
	args []string

	CA       *CA
	ServerCA string // PEM file of the root that devices trust
	MQTT     string // host:port, the same after a restart
	API      string
	*Process
}

// StartSim starts an emulator on free ports. The args are more flags for it.
func StartSim(t testing.TB, args ...string) *Sim {
	t.Helper()
	dir := TempDir(t)
	s := &Sim{
		t: t, CA: NewCA(t), ServerCA: filepath.Join(dir, "server-ca.pem"),
		MQTT: "127.0.0.1:0", API: "127.0.0.1:0",
	}
	s.args = append([]string{"--dir", dir, "--register-ca", s.CA.Cert}, args...)
	s.Start()
	return s
}

// Start starts it again, with what it had stored, after Stop or Kill.
func (s *Sim) Start() {
	s.t.Helper()
	s.Process = StartProcess(s.t, nil, Bin(s.t, "iotcore-sim"), append([]string{"--mqtt", s.MQTT, "--api", s.API}, s.args...)...)
	ready := regexp.MustCompile(`(?m)^ready mqtt=(\S+) api=(\S+)$`)
	Eventually(s.t, startLimit, func() error {
		found := ready.FindStringSubmatch(s.Stdout.String())
		if found == nil {
			return fmt.Errorf("the emulator is not ready")
		}
		s.MQTT, s.API = found[1], found[2]
		return nil
	})
}

// Call makes an HTTP request to the emulator. A body is sent as JSON, where it
// is not nil.
func (s *Sim) Call(method, path string, body any) (status int, answer []byte) {
	s.t.Helper()
	var data bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&data).Encode(body); err != nil {
			s.t.Fatal(err)
		}
	}
	request, err := http.NewRequestWithContext(s.t.Context(), method, "http://"+s.API+path, &data)
	if err != nil {
		s.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err = io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response.StatusCode, answer
}

// Must is Call for a request that must succeed. The answer is decoded into
// out, where that is not nil.
func (s *Sim) Must(method, path string, body, out any) {
	s.t.Helper()
	status, answer := s.Call(method, path, body)
	if status != http.StatusOK {
		s.t.Fatalf("%s %s: HTTP %d %s", method, path, status, answer)
	}
	if out == nil {
		return
	}
	if err := json.Unmarshal(answer, out); err != nil {
		s.t.Fatalf("%s %s: %v in %s", method, path, err, answer)
	}
}

// CertificateStatus is the status in the registry, "" for a certificate that
// it does not know.
func (s *Sim) CertificateStatus(id string) string {
	s.t.Helper()
	status, answer := s.Call("GET", "/certificates/"+id, nil)
	if status == http.StatusNotFound {
		return ""
	}
	var out struct {
		CertificateDescription struct{ Status string }
	}
	if err := json.Unmarshal(answer, &out); err != nil || status != http.StatusOK {
		s.t.Fatalf("describe certificate %s: HTTP %d %s", id, status, answer)
	}
	return out.CertificateDescription.Status
}

// Certificates are the ids of all certificates that the registered CA signed.
func (s *Sim) Certificates() []string {
	s.t.Helper()
	var out struct {
		Certificates []struct{ CertificateID string }
	}
	s.Must("GET", "/certificates-by-ca/"+CertificateID(s.t, s.CA.Cert)+"?pageSize=250", nil, &out)
	var ids []string
	for _, c := range out.Certificates {
		ids = append(ids, c.CertificateID)
	}
	return ids
}

// AllowAll is a policy document without limits.
const AllowAll = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}`

// Activate does what an operator's rule does: a policy and ACTIVE.
func (s *Sim) Activate(id, policy string) {
	s.t.Helper()
	s.attach(id, policy)
	s.Must("PUT", "/certificates/"+id+"?newStatus=ACTIVE", nil, nil)
}

func (s *Sim) attach(id, policy string) {
	s.t.Helper()
	name := "rig-" + id[:16]
	s.Must("POST", "/policies/"+name, map[string]string{"policyDocument": policy}, nil)
	var out struct {
		CertificateDescription struct{ CertificateArn string }
	}
	s.Must("GET", "/certificates/"+id, nil, &out)
	s.Must("PUT", "/target-policies/"+name, map[string]string{"target": out.CertificateDescription.CertificateArn}, nil)
}

// Register puts a certificate into the registry, ACTIVE and without limits.
func (s *Sim) Register(c Credentials) {
	s.t.Helper()
	cert, err := os.ReadFile(c.Cert)
	if err != nil {
		s.t.Fatal(err)
	}
	ca, err := os.ReadFile(s.CA.Cert)
	if err != nil {
		s.t.Fatal(err)
	}
	s.Must("POST", "/certificate/register", map[string]string{
		"certificatePem": string(cert), "caCertificatePem": string(ca), "status": "ACTIVE",
	}, nil)
	s.attach(CertificateID(s.t, c.Cert), AllowAll)
}

// Attempt is one connection as the emulator saw it.
type Attempt struct {
	At                      time.Time
	CertificateID, ClientID string
	ClientCertificates      int
	Outcome, Detail         string
}

// Attempts are the connections that a certificate made, in their order.
func (s *Sim) Attempts(certificateID string) []Attempt {
	s.t.Helper()
	var out struct{ Attempts []Attempt }
	s.Must("GET", "/sim/attempts", nil, &out)
	var own []Attempt
	for _, a := range out.Attempts {
		if a.CertificateID == certificateID {
			own = append(own, a)
		}
	}
	return own
}

// SetFault switches one of the emulator's faults.
func (s *Sim) SetFault(name string, value any) {
	s.t.Helper()
	s.Must("POST", "/sim/faults", map[string]any{name: value}, nil)
}

// Shadow is the state of a thing's classic shadow, nil without one.
func (s *Sim) Shadow(thing string) map[string]any {
	s.t.Helper()
	status, answer := s.Call("GET", "/things/"+thing+"/shadow", nil)
	if status == http.StatusNotFound {
		return nil
	}
	var out struct{ State map[string]any }
	if err := json.Unmarshal(answer, &out); err != nil || status != http.StatusOK {
		s.t.Fatalf("shadow of %s: HTTP %d %s", thing, status, answer)
	}
	return out.State
}

// Desire writes the desired state of a thing's classic shadow.
func (s *Sim) Desire(thing string, desired any) {
	s.t.Helper()
	s.Must("POST", "/things/"+thing+"/shadow", map[string]any{"state": map[string]any{"desired": desired}}, nil)
}

// Settings are what an agent needs to reach this emulator.
func (s *Sim) Settings() map[string]string {
	return map[string]string{
		"cloud.endpoint":  fmt.Sprintf("%q", s.MQTT),
		"cloud.server_ca": fmt.Sprintf("%q", s.ServerCA),
	}
}
