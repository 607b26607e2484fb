package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/jitr-agent/jitr-agent/internal/certs"
	"github.com/jitr-agent/jitr-agent/internal/cli"
	"github.com/jitr-agent/jitr-agent/internal/clock"
	"github.com/jitr-agent/jitr-agent/internal/state"
	"github.com/jitr-agent/jitr-agent/internal/version"
	"github.com/jitr-agent/jitr-agent/pkg/identity"
)

func newImport(o *options) *cobra.Command {
	var files identity.ImportFiles
	cmd := &cobra.Command{
		Use:   "import --cert FILE",
		Short: "Check and install a device certificate and its CA chain",
		Long: `Check and install a device certificate and its CA chain. --cert may hold the
chain behind the certificate, as the deviceCertAndCA.crt that openssl users
make. With --key a whole existing key pair is installed; --into-tpm moves the
key into the TPM, and works again for one that is installed as a file. The file
named by --key is not touched: destroy it.

A certificate that was accepted by the cloud stays in place; the new one is
installed beside it as next.crt.`,
		Example: `  jitr-agent import --cert gateway.crt --chain ca.crt
  jitr-agent import --cert deviceCertAndCA.crt --key deviceCert.key
  jitr-agent import --cert deviceCertAndCA.crt --key deviceCert.key --into-tpm`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if files.Cert == "" {
				return cli.Usage(errors.New("required flag(s) \"cert\" not set"))
			}
			if files.IntoTPM && files.Key == "" {
				return cli.Usage(errors.New("--into-tpm needs the key that is to move; name it with --key"))
			}
			s, _, err := o.load(cmd, usual(cmd))
			if err != nil {
				return err
			}
			known, err := state.Read(filepath.Join(o.stateDir, "state.json"))
			if err != nil {
				known = state.File{} // the service sets a damaged file aside; here it only tells nothing
			}
			opts := o.identityOptions(s)
			floor := clock.Floor(version.BuildTime(), time.Time{}, known.ServerNotBefore)
			done, err := identity.Import(cmd.Context(), opts, files, accepted(known, opts), time.Now(), floor)
			if err != nil {
				return fmt.Errorf("cannot import the certificate: %w", err)
			}
			for _, w := range done.Warnings {
				fmt.Fprintln(cmd.ErrOrStderr(), "warning: "+w)
			}
			out := cmd.OutOrStdout()
			switch {
			case !done.Changed:
				fmt.Fprintln(out, "This certificate is installed already.")
			case done.InstalledAs == identity.InstalledNext:
				fmt.Fprintln(out, "Installed beside the certificate that is in use, as next.crt.")
			default:
				fmt.Fprintln(out, "Installed.")
			}
			_, err = fmt.Fprintf(out, "thing              %s\ncertificateId      %s\nCA certificateId   %s\n", done.ThingName, done.CertificateID, done.CACertificateID)
			return err
		},
	}
	cmd.Flags().StringVar(&files.Cert, "cert", "", "file with the device certificate, perhaps with its chain")
	cmd.Flags().StringVar(&files.Chain, "chain", "", "file with the CA certificate that signed it, and those above")
	cmd.Flags().StringVar(&files.Key, "key", "", "file with the private key, where it was not made by 'jitr-agent csr'")
	cmd.Flags().BoolVar(&files.IntoTPM, "into-tpm", false, "move the key of --key into the TPM")
	return cmd
}

// accepted says whether some endpoint has accepted the installed certificate.
func accepted(known state.File, opts identity.Options) bool {
	chain, err := identity.InstalledChain(opts)
	if err != nil {
		return false
	}
	for key, history := range known.Histories {
		if strings.HasPrefix(key, certs.ID(chain[0])+"@") && !history.AcceptedAt.IsZero() {
			return true
		}
	}
	return false
}
