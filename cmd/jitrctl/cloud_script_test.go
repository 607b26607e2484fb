package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/jitr-agent/jitr-agent/internal/cloud/bundle"
	"github.com/jitr-agent/jitr-agent/internal/iotcore"
)

// TestCloudScripts runs testdata/cloud, each script with an account of its
// own: an emulator at $API. $ZIP is a function's zip that needs no build.
func TestCloudScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/cloud",
		UpdateScripts:       os.Getenv("UPDATE") != "",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"code": code},
		Setup: func(env *testscript.Env) error {
			ctx, cancel := context.WithCancel(context.Background())
			srv, err := iotcore.New(ctx, iotcore.Config{Region: "us-west-2"})
			if err != nil {
				cancel()
				return err
			}
			ended := make(chan error, 1)
			go func() { ended <- srv.Run(ctx) }()
			env.Defer(func() {
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			})
			zip, err := bundle.Pack([]byte("#!/bin/sh\nexit 1\n"))
			if err != nil {
				return err
			}
			file := filepath.Join(env.WorkDir, "function.zip")
			for name, value := range map[string]string{
				"API": "http://" + srv.APIAddr(), "ZIP": file, "AWS_REGION": "us-west-2",
				"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true",
			} {
				env.Setenv(name, value)
			}
			return os.WriteFile(file, zip, 0o600)
		},
	})
}
