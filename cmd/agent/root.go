package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/jitr-agent/jitr-agent/internal/cli"
	"github.com/jitr-agent/jitr-agent/internal/settings"
	"github.com/jitr-agent/jitr-agent/internal/version"
	"github.com/jitr-agent/jitr-agent/pkg/identity"
	"github.com/jitr-agent/jitr-agent/pkg/tpm"
)

const defaultConfig = "/etc/jitr-agent/agent.toml"

// options are the flags that every command has.
type options struct {
	config   string
	stateDir string
}

func newRoot() *cobra.Command {
	var o options
	root := &cobra.Command{
		Use:   "jitr-agent",
		Short: "Takes this gateway into AWS IoT Core by just-in-time registration",
		Long: `jitr-agent takes this gateway into AWS IoT Core by just-in-time registration
and keeps it there.

A new gateway needs three steps:
  jitr-agent csr --out gateway.csr         makes the device key and a request
  jitr-agent import --cert FILE --chain FILE   installs what the operator signed
  systemctl start jitr-agent               (or: jitr-agent run)
Then: jitr-agent status`,
	}
	root.PersistentFlags().StringVar(&o.config, "config", defaultConfig, "configuration file")
	root.PersistentFlags().StringVar(&o.stateDir, "state-dir", directory("STATE_DIRECTORY", "/var/lib/jitr-agent"), "directory of key, certificate and state")
	root.AddCommand(newRun(&o), newCSR(&o), newImport(&o), newStatus(), newPublish(&o), newBufferCommand(&o), newConfig(&o), newVersion())
	return root
}

// directory is what systemd gave the service, the first where it gave several,
// else the usual one.
func directory(variable, usual string) string {
	if dir, _, _ := strings.Cut(os.Getenv(variable), ":"); dir != "" {
		return dir
	}
	return usual
}

func runtimeDir() string { return directory("RUNTIME_DIRECTORY", "/run/jitr-agent") }

// load reads the configuration. A file that does not exist is no error where
// missingOK says so: defaults and environment count then.
func (o *options) load(cmd *cobra.Command, missingOK bool) (*settings.Settings, []settings.Override, error) {
	s, overrides, err := settings.Load(o.config, os.Environ())
	if err != nil && missingOK && s != nil && errors.Is(err, fs.ErrNotExist) {
		return s, overrides, nil
	}
	if err != nil {
		// Each problem is a line of its own, in the form that editors know.
		fmt.Fprintln(cmd.ErrOrStderr(), err)
		return nil, nil, &cli.ExitError{Code: cli.ExitConfig}
	}
	return s, overrides, nil
}

// usual says that --config was not given: commands that need no setting then
// do without the file.
func usual(cmd *cobra.Command) bool { return !cmd.Flags().Changed("config") }

// identityOptions are what package identity needs of the settings.
func (o *options) identityOptions(s *settings.Settings) identity.Options {
	return identity.Options{
		StateDir:  o.stateDir,
		Key:       s.Identity.Key,
		Algorithm: s.Identity.Algorithm,
		TPMDevice: s.Identity.TPMDevice,
		PCRs:      s.Identity.PCRs,
		OwnerAuth: tpm.NewSecret(credential("tpm-owner-auth")),
		ThingName: s.Cloud.ThingName,
	}
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), version.String("jitr-agent"))
			return err
		},
	}
}
