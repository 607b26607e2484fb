package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/jitr-agent/jitr-agent/internal/atomicfile"
	"github.com/jitr-agent/jitr-agent/pkg/identity"
)

func newCSR(o *options) *cobra.Command {
	var (
		out, subject string
		force, renew bool
	)
	cmd := &cobra.Command{
		Use:   "csr",
		Short: "Make the device key if there is none, and a certificate request",
		Long: `Make the device key if there is none, and print a certificate request (PKCS#10,
PEM) that it signs. The operator's CA turns the request into a certificate, for
'jitr-agent import'. An existing key is never replaced.

Where the state directory is in memory (tmpfs, or the overlay file system of
raspi-config) no key is made, because it would be lost; --force makes it.`,
		Example: `  jitr-agent csr --out gateway.csr
  jitr-agent csr --subject CN=gw-1,O=Acme
  jitr-agent csr --renew --out gateway.csr`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, _, err := o.load(cmd, usual(cmd))
			if err != nil {
				return err
			}
			opts := o.identityOptions(s)
			opts.AllowVolatile = force
			if renew {
				if subject, err = installedSubject(opts); err != nil {
					return err
				}
			}
			request, err := identity.MakeCSR(cmd.Context(), opts, subject)
			if err != nil {
				return fmt.Errorf("cannot make a certificate request: %w", err)
			}
			tell := cmd.ErrOrStderr()
			for _, w := range request.Warnings {
				fmt.Fprintln(tell, "warning: "+w)
			}
			key := "the key that was there"
			if request.KeyCreated {
				key = "a new key"
			}
			fmt.Fprintf(tell, "A request for %s (from %s), signed by %s (%s).\n", request.Subject, request.SubjectSource, key, request.Provider)
			if out == "" || out == "-" {
				_, err = cmd.OutOrStdout().Write(request.PEM)
				return err
			}
			if err := atomicfile.Write(out, request.PEM, 0o644); err != nil {
				return fmt.Errorf("cannot write the request: %w; name another file with --out", err)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "file for the request; empty or -: standard output")
	cmd.Flags().StringVar(&subject, "subject", "", "subject, such as CN=gw-1,O=Acme or /CN=gw-1/O=Acme")
	cmd.Flags().BoolVar(&renew, "renew", false, "take the subject of the installed certificate")
	cmd.MarkFlagsMutuallyExclusive("renew", "subject")
	cmd.Flags().BoolVar(&force, "force", false, "make the key even where a restart takes it away")
	return cmd
}

// installedSubject is what a certificate that is to replace the installed one
// is made out to.
func installedSubject(opts identity.Options) (string, error) {
	chain, err := identity.InstalledChain(opts)
	if err != nil {
		return "", fmt.Errorf("cannot renew: %w", err)
	}
	return chain[0].Subject.String(), nil
}
