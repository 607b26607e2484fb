package main

import (
	"encoding/pem"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/jitr-agent/jitr-agent/internal/ca"
)

func newCACRL() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "crl --dir DIR --out FILE",
		Short: "Sign the list of revoked certificates",
		Long: `Sign the certificate revocation list (CRL): what the CA has revoked, for servers
of your own that read it. Each list has a higher number than the one before. AWS
IoT does not read it.`,
		Example: `  jitrctl ca crl --dir CA --out CA.crl
  openssl crl -in CA.crl -CAfile CA/ca.crt -noout -text`,
		Args: cobra.NoArgs,
	}
	dir, out, ask := dirFlag(cmd), outFlag(cmd), passphraseFlag(cmd)
	days := cmd.Flags().Int("days", ca.DefaultCRLDays, "the next one comes within `DAYS`")
	der := cmd.Flags().Bool("der", false, "write DER, not PEM")

	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		authority, err := ca.Open(*dir, ask)
		if err != nil {
			return failed("make a CRL of", *dir, err)
		}
		list, err := authority.MakeCRL(cmd.Context(), *days, time.Now())
		if err != nil {
			return failed("make a CRL of", *dir, err)
		}
		data := list.DER
		if !*der {
			data = pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: data})
		}
		if err := writeFile(cmd, "CRL", *out, data); err != nil {
			return err
		}
		_, err = fmt.Fprintf(notes(cmd, *out), "CRL number %d: %s, next by %s\n", list.Number, plural(list.Entries, "certificate"), day(list.NextUpdate))
		return err
	}
	return cmd
}
