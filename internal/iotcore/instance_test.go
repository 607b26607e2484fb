package iotcore

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// What an instance started ends with it, also where the instance ends by
// itself.
func TestInstanceEndsWithItsChildren(t *testing.T) {
	a := start(t, Config{}).account("admin", "us-east-1")
	file := filepath.Join(t.TempDir(), "pid")
	a.function(a.role(logActions), func(in *lambda.CreateFunctionInput) {
		in.Code.ZipFile = must[[]byte](t)(zipOf("bootstrap", []byte("#!/bin/sh\nsleep 600 &\necho $! > \"$PIDFILE\"\nexit 3\n"), 0o755))
		in.Environment = &lambdatypes.Environment{Variables: map[string]string{"PIDFILE": file}}
	})
	if out := a.invoke(`{}`); !strings.Contains(string(out.Payload), "exit status 3") {
		t.Errorf("got %s", out.Payload)
	}
	pid, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	a.until("the child has ended", func() bool {
		stat, err := os.ReadFile("/proc/" + strings.TrimSpace(string(pid)) + "/stat")
		return err != nil || bytes.Contains(stat, []byte(") Z")) // nobody may wait for it
	})
}
