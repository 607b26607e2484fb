package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/spf13/cobra"
)

// tool is a program with a group, required flags and every kind of failure.
func tool() *cobra.Command {
	root := &cobra.Command{Use: "tool"}
	run := &cobra.Command{Use: "run", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		fmt.Fprintln(cmd.OutOrStdout(), "result")
		return nil
	}}
	ca := &cobra.Command{Use: "ca"}
	sign := &cobra.Command{Use: "sign CSR", Args: cobra.ExactArgs(1), RunE: func(*cobra.Command, []string) error {
		return errors.New("sign gw-1.csr: two\nlines")
	}}
	sign.Flags().String("dir", "", "directory")
	if err := sign.MarkFlagRequired("dir"); err != nil {
		panic(err)
	}
	ca.AddCommand(sign)
	fail := &cobra.Command{Use: "config", RunE: func(*cobra.Command, []string) error {
		return fmt.Errorf("check: %w", &ExitError{Code: ExitConfig, Err: errors.New("agent.toml:1:1: no")})
	}}
	silent := &cobra.Command{Use: "doctor", RunE: func(*cobra.Command, []string) error { return &ExitError{Code: 2} }}
	pre := &cobra.Command{Use: "pre", PreRunE: func(*cobra.Command, []string) error { return errors.New("pre failed") },
		Run: func(*cobra.Command, []string) {}}
	odd := &cobra.Command{Use: "odd", RunE: func(*cobra.Command, []string) error { return Usage(errors.New("--days 0: must be 1 or more")) }}
	root.AddCommand(run, ca, fail, silent, pre, odd)
	return root
}

func TestMain_exitCodes(t *testing.T) {
	for name, tt := range map[string]struct {
		args   []string
		code   int
		stdout string
		stderr string
	}{
		"done":                  {[]string{"run"}, ExitOK, "result\n", ""},
		"failed, in one line":   {[]string{"ca", "sign", "--dir", "d", "x"}, ExitFailed, "", "tool: sign gw-1.csr: two lines\n"},
		"failed before RunE":    {[]string{"pre"}, ExitFailed, "", "tool: pre failed\n"},
		"wrapped exit code":     {[]string{"config"}, ExitConfig, "", "tool: check: agent.toml:1:1: no\n"},
		"silent exit code":      {[]string{"doctor"}, 2, "", ""},
		"marked as usage":       {[]string{"odd"}, ExitUsage, "", "tool: --days 0: must be 1 or more; see 'tool odd --help'\n"},
		"no command":            {nil, ExitUsage, "", "tool: 'tool' needs a command; see 'tool --help'\n"},
		"group alone":           {[]string{"ca"}, ExitUsage, "", "tool: 'tool ca' needs a command; see 'tool ca --help'\n"},
		"unknown command":       {[]string{"rum"}, ExitUsage, "", "tool: unknown command \"rum\" for 'tool'; did you mean \"run\"?; see 'tool --help'\n"},
		"unknown command below": {[]string{"ca", "xyzzy"}, ExitUsage, "", "tool: unknown command \"xyzzy\" for 'tool ca'; see 'tool ca --help'\n"},
		"unknown flag":          {[]string{"run", "--nope"}, ExitUsage, "", "tool: unknown flag: --nope; see 'tool run --help'\n"},
		"unknown root flag":     {[]string{"--nope"}, ExitUsage, "", "tool: unknown flag: --nope; see 'tool --help'\n"},
		"missing argument":      {[]string{"ca", "sign", "--dir", "d"}, ExitUsage, "", "tool: accepts 1 arg(s), received 0; see 'tool ca sign --help'\n"},
		"argument too many":     {[]string{"run", "x"}, ExitUsage, "", "tool: unknown command \"x\" for \"tool run\"; see 'tool run --help'\n"},
		"missing required flag": {[]string{"ca", "sign", "x"}, ExitUsage, "", "tool: required flag(s) \"dir\" not set; see 'tool ca sign --help'\n"},
		"unknown help topic":    {[]string{"help", "nope"}, ExitUsage, "", "tool: unknown command \"nope\" for 'tool'; see 'tool help --help'\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := Main(tool(), tt.args, &stdout, &stderr); code != tt.code {
				t.Errorf("exit code = %d, want %d", code, tt.code)
			}
			if stdout.String() != tt.stdout {
				t.Errorf("stdout = %q, want %q", &stdout, tt.stdout)
			}
			if stderr.String() != tt.stderr {
				t.Errorf("stderr = %q, want %q", &stderr, tt.stderr)
			}
		})
	}
}

func TestMain_helpGoesToStdout(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"help"}, {"help", "ca", "sign"}, {"ca", "--help"}} {
		var stdout, stderr bytes.Buffer
		if code := Main(tool(), args, &stdout, &stderr); code != ExitOK || !bytes.Contains(stdout.Bytes(), []byte("Usage:")) || stderr.Len() > 0 {
			t.Errorf("%q: code %d, stdout %q, stderr %q", args, code, &stdout, &stderr)
		}
	}
}

func TestMain_passesTheContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("SIGTERM")
	cancel(why)
	root := tool()
	root.SetContext(ctx)
	root.AddCommand(&cobra.Command{Use: "wait", RunE: func(cmd *cobra.Command, _ []string) error {
		<-cmd.Context().Done()
		return context.Cause(cmd.Context())
	}})
	var stdout, stderr bytes.Buffer
	if code := Main(root, []string{"wait"}, &stdout, &stderr); code != ExitFailed || stderr.String() != "tool: SIGTERM\n" {
		t.Errorf("code %d, stderr %q", code, &stderr)
	}
}
