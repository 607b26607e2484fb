// Command iotcore-sim is a local stand-in for AWS IoT Core: for the demo, the
// tests, and evaluation without an account.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/jitr-agent/jitr-agent/internal/cli"
	"github.com/jitr-agent/jitr-agent/internal/iotcore"
	"github.com/jitr-agent/jitr-agent/internal/policy"
)

//go:generate go test -run TestManualPages -update

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := command()
	root.SetContext(ctx)
	code := cli.Main(root, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func command() *cobra.Command {
	var (
		cfg                     iotcore.Config
		cas                     []string
		activate, pending, file string
		verbose                 bool
	)
	cmd := &cobra.Command{
		Use:   "iotcore-sim",
		Short: "A local stand-in for AWS IoT Core",
		Long: `A local stand-in for AWS IoT Core: a TLS data plane with just-in-time
registration, policies and shadows, and the control plane for the AWS SDKs and
the aws CLI (--endpoint-url http://ADDRESS): AWS IoT with its rules, Lambda
functions that really run, IAM roles, SQS and CloudWatch Logs. It prints one
line, "ready mqtt=... api=...", when it listens. Devices trust
DIR/server-ca.pem.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if cfg.Activation, err = iotcore.ParseActivation(activate); err != nil {
				return cli.Usage(fmt.Errorf("--activate-after: %w", err))
			}
			if cfg.PendingClose, err = iotcore.ParsePendingClose(pending); err != nil {
				return cli.Usage(fmt.Errorf("--pending-close: %w", err))
			}
			if cfg.AsyncRetry <= 0 {
				return cli.Usage(fmt.Errorf("--async-retry: %v is not a wait; give a duration above 0, such as 1s", cfg.AsyncRetry))
			}
			if file != "" {
				if cfg.Policy, err = readPolicy(file); err != nil {
					return err
				}
			}
			cfg.Log = logger(verbose)
			return run(cmd, cfg, cas)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&cfg.MQTTAddr, "mqtt", "127.0.0.1:8883", "`HOST:PORT` of the TLS data plane; port 0 takes a free one")
	f.StringVar(&cfg.APIAddr, "api", "127.0.0.1:8080", "`HOST:PORT` of the control plane, plain HTTP")
	f.StringVar(&cfg.Dir, "dir", "", "`DIR` for the registry, the server's CA, and the code and logs of functions")
	f.StringArrayVar(&cas, "register-ca", nil, "PEM `FILE` of a CA to register: ACTIVE, with auto-registration; can be repeated")
	f.StringVar(&activate, "activate-after", "manual", "who activates a pending certificate: a `DURATION` (the emulator), manual (UpdateCertificate) or never")
	f.StringVar(&pending, "pending-close", "fin", "`HOW` the connection of a pending certificate ends: fin, rst, alert or connack-0x87")
	f.StringVar(&file, "policy", "", "policy document `FILE` that the emulator's own activation attaches (default: everything is allowed)")
	f.StringVar(&cfg.Region, "region", "us-east-1", "`REGION` in ARNs; requests that are signed for another are refused")
	f.StringVar(&cfg.Account, "account", "123456789012", "account `ID` in ARNs and events")
	f.DurationVar(&cfg.AsyncRetry, "async-retry", time.Minute, "`WAIT` before a Lambda function's first retry of an event; the second waits twice as long")
	f.StringArrayVar(&cfg.ServerNames, "server-name", nil, "further host `NAME` or IP address in the server certificate; can be repeated")
	f.BoolVarP(&verbose, "verbose", "v", false, "log each connection and each refusal to stderr")
	cobra.CheckErr(cmd.MarkFlagRequired("dir")) // it is defined above
	return cmd
}

func run(cmd *cobra.Command, cfg iotcore.Config, cas []string) error {
	srv, err := iotcore.New(cmd.Context(), cfg)
	if taken, ok := errors.AsType[*iotcore.ListenError](err); ok {
		flag := map[string]string{"MQTT": "--mqtt", "API": "--api"}[taken.Purpose]
		return fmt.Errorf("%w; choose another address with %s HOST:PORT", taken, flag)
	}
	if _, ok := errors.AsType[*fs.PathError](err); ok { // all the files of New are there
		return fmt.Errorf("cannot use --dir %s: %w; give a directory that you may read and write", cfg.Dir, err)
	}
	if err != nil {
		return err
	}
	for _, path := range cas {
		if err := registerCA(srv, path); err != nil {
			return err
		}
	}
	fmt.Fprintf(cmd.OutOrStdout(), "ready mqtt=%s api=%s\n", srv.MQTTAddr(), srv.APIAddr())
	return srv.Run(cmd.Context())
}

func registerCA(srv *iotcore.Server, path string) error {
	pem, err := os.ReadFile(path)
	if err == nil {
		_, err = srv.RegisterCA(pem)
	}
	if err != nil {
		return fmt.Errorf("register the CA %s: %w; give with --register-ca the PEM file of a CA that signs devices, as jitrctl ca init makes it (ca.crt)", path, err)
	}
	return nil
}

func readPolicy(path string) ([]byte, error) {
	document, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the policy: %w", err)
	}
	if _, err := policy.Parse(document); err != nil {
		return nil, fmt.Errorf("read the policy %s: %w", path, err)
	}
	return document, nil
}

func logger(verbose bool) *zap.Logger {
	level := zapcore.WarnLevel
	if verbose {
		level = zapcore.InfoLevel
	}
	c := zap.NewDevelopmentEncoderConfig()
	c.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
	return zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(c), zapcore.Lock(os.Stderr), level))
}
