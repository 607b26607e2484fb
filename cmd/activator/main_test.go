package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/activation/activationtest"
)

// program builds what the zip holds.
func program(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bootstrap")
	build := exec.CommandContext(t.Context(), "go", "build", "-tags", "lambda.norpc", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

// runtimeAPI is as much of the AWS Lambda runtime API as one invocation needs.
// What the function answers is sent to answers: "response" or "error", and the
// body.
func runtimeAPI(t *testing.T, event []byte, deadline time.Time, answers chan<- [2]string) string {
	t.Helper()
	events := make(chan []byte, 1)
	events <- event
	mux := http.NewServeMux()
	mux.HandleFunc("GET /2018-06-01/runtime/invocation/next", func(w http.ResponseWriter, r *http.Request) {
		select {
		case e := <-events:
			w.Header().Set("Lambda-Runtime-Aws-Request-Id", "1")
			w.Header().Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(deadline.UnixMilli(), 10))
			_, _ = w.Write(e) // a function that does not read it does not answer
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/1/{kind}", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("read the answer: %v", err)
		}
		w.WriteHeader(http.StatusAccepted)
		answers <- [2]string{r.PathValue("kind"), string(body)}
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// The program, as Lambda starts it, activates a certificate that is pending at
// the emulator; and with a policy that does not exist it says so.
func TestActivator(t *testing.T) {
	bootstrap := program(t)
	c := activationtest.Start(t)
	c.CreatePolicy(t, "gateways")
	ca := c.NewCA(t, "Acme device CA")
	for name, tt := range map[string]struct {
		policy, kind, log string
		active            bool
	}{
		"activates": {"gateways", "response", `"result":"activated"`, true},
		"fails":     {"nothing", "error", "attach the policy nothing: it does not exist", false},
	} {
		t.Run(name, func(t *testing.T) {
			g := ca.Issue(t, "gw-"+name)
			answers := make(chan [2]string, 1)
			address := runtimeAPI(t, c.Connect(t, g), time.Now().Add(30*time.Second), answers)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var log strings.Builder
			function := exec.CommandContext(ctx, bootstrap)
			function.Stderr = &log
			function.Env = []string{
				"AWS_LAMBDA_RUNTIME_API=" + address, "AWS_ENDPOINT_URL=http://" + c.APIAddr(), "AWS_REGION=us-east-1",
				"AWS_ACCESS_KEY_ID=AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY=secret",
				"JITR_CA_POLICIES=" + ca.ID + "=" + tt.policy, "JITR_ACCOUNT=123456789012",
			}
			if err := function.Start(); err != nil {
				t.Fatal(err)
			}
			var answer [2]string
			select {
			case answer = <-answers:
			case <-time.After(30 * time.Second):
				t.Error("the function does not answer")
			}
			cancel()
			_ = function.Wait() // it was killed
			if answer[0] != tt.kind {
				t.Errorf("the answer is %q; want %s", answer, tt.kind)
			}
			if !strings.Contains(log.String(), tt.log) || !strings.Contains(log.String(), `"certificateId":"`+g.ID+`"`) {
				t.Errorf("the log is %s", log.String())
			}
			got, err := activationtest.Look(t.Context(), c.Client(nil), g.ID)
			if err != nil || got.Activated(g.Name, tt.policy) != tt.active {
				t.Errorf("the registry says %+v, %v", got, err)
			}
		})
	}
}

func TestActivator_wrongConfiguration(t *testing.T) {
	bootstrap := program(t)
	for env, want := range map[string]string{
		"JITR_CA_POLICIES=":    "jitr-activator: wrong configuration: JITR_CA_POLICIES: it names no CA",
		"JITR_NAMEPATTERN=gw.": "jitr-activator: wrong configuration: JITR_NAMEPATTERN: there is no such variable",
	} {
		cmd := exec.CommandContext(t.Context(), bootstrap)
		cmd.Env = []string{env}
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 1 || !strings.HasPrefix(string(out), want) {
			t.Errorf("%s: %v, %q; want exit code 1 and %q", env, err, out, want)
		}
	}
}
