package cloud

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/jitr-agent/jitr-agent/test/rig"
	"github.com/jitr-agent/jitr-agent/test/rig/lambda"
)

// block is a fenced block of docs/operator.md that a shell can run, inside a
// list or not; roleBlock is the one with the function's permissions.
var (
	block     = regexp.MustCompile("(?ms)^ *```(?:sh|bash)\n(.*?)^ *```$")
	roleBlock = regexp.MustCompile("(?s)which a test compares -->\n\n```json\n(.*?)```")
)

// wrapper makes a program of that name that is another one with more
// arguments: last ones win.
func wrapper(t *testing.T, dir, name, script string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/bash\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
}

// TestOperatorPage runs docs/operator.md, all its blocks in their order, as one
// script. In AWS's place there is the emulator; the programs find it because
// they are told behind the operator's back.
func TestOperatorPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/operator.md")
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	for _, b := range block.FindAllSubmatch(page, -1) {
		script.Write(b[1])
	}
	for _, command := range []string{"register-ca", "deploy", "status", "list", "pending", "activate", "deactivate", "prune", "destroy"} {
		if !strings.Contains(script.String(), "jitrctl cloud "+command) {
			t.Errorf("the page has no block that runs jitrctl cloud %s", command)
		}
	}
	sim, bin, dir := rig.StartSim(t), rig.TempDir(t), rig.TempDir(t)
	aws := awsCLI{awsCLIs(t)[0], sim}
	host, port, _ := strings.Cut(sim.MQTT, ":")
	wrapper(t, bin, "aws", fmt.Sprintf(`exec %s "$@" --endpoint-url %s`, aws.program, sim.URL()))
	wrapper(t, bin, "mosquitto_pub", fmt.Sprintf(`exec $(PATH=${PATH#*:}; command -v mosquitto_pub) "$@" -h %s -p %s --cafile %s`, host, port, sim.ServerCA))
	wrapper(t, bin, "jitrctl", fmt.Sprintf(`more=(); [[ "$1 $2" != "cloud deploy" ]] || more=(--zip %s)
exec %s "$@" "${more[@]}"`, lambda.Zip(t), rig.Bin(t, "jitrctl")))
	r := rig.RunEnv(t, append(sim.AWS(), "PATH="+bin+":"+os.Getenv("PATH")),
		"timeout", "100", "bash", "-euxo", "pipefail", "-c", "cd "+dir+"\n"+script.String())
	if r.Code != 0 {
		t.Fatalf("exit code %d\n%s\n%s", r.Code, r.Stdout, r.Stderr)
	}
	for _, want := range []string{"Error: The connection was lost.", "ACTIVE\n", "15 changes made", "tenant globex"} {
		if !strings.Contains(r.Stdout+r.Stderr, want) {
			t.Errorf("the page's output has no %q", want)
		}
	}

	// The permissions that the page shows are those that were given.
	shown := roleBlock.FindSubmatch(page)
	if shown == nil {
		t.Fatal("the page does not show the function's role")
	}
	given := rig.RunEnv(t, sim.AWS(), aws.program, "iam", "get-role-policy", "--role-name", "jitr-activator-us-east-1", "--policy-name", "jitr-agent",
		"--query", "PolicyDocument", "--output", "json", "--endpoint-url", sim.URL())
	var a, b any
	if err := json.Unmarshal([]byte(strings.ReplaceAll(string(shown[1]), "us-west-2", "us-east-1")), &a); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(given.Stdout), &b); err != nil {
		t.Fatalf("%v: %s", err, given)
	}
	if !reflect.DeepEqual(a, b) {
		t.Errorf("the page shows other permissions than\n%s", given.Stdout)
	}
}
