package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/jitr-agent/jitr-agent/internal/ca"
	"github.com/jitr-agent/jitr-agent/internal/ca/inventory"
)

func newCARevoke() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revoke --dir DIR NAME|SERIAL|ID",
		Short: "Mark a certificate as revoked",
		Long: `Mark as revoked the certificate with that serial number or certificate id, or all
of that name that have not expired. 'jitrctl ca crl' tells it to others. It does
not need the CA's key.

AWS IoT does not read CRLs: the certificate must be revoked there too, by the
command that this one prints.`,
		Example: "  jitrctl ca revoke --dir CA gw-1 --reason keyCompromise",
		Args:    oneFile("name, serial number or certificate id"),
	}
	dir := dirFlag(cmd)
	why := cmd.Flags().String("reason", "unspecified", "why: "+strings.Join(inventory.Reasons(), ", "))

	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		reason, err := inventory.ParseReason(*why)
		if err != nil {
			return failed("revoke", args[0], err)
		}
		authority, err := ca.Open(*dir, nil)
		if err != nil {
			return failed("revoke", args[0], err)
		}
		now := time.Now()
		revoked, err := authority.Revoke(cmd.Context(), args[0], reason, now)
		if err != nil {
			return failed("revoke", args[0], err)
		}
		for _, e := range revoked {
			earlier := ""
			if now.Sub(*e.RevokedAt) > time.Second {
				earlier = " (it was before)"
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: serial number %s, revoked at %s, %s%s\n", e.Name, e.Serial, e.RevokedAt.Format(time.RFC3339), e.Reason, earlier)
			if e.CertificateID != "" {
				fmt.Fprintf(cmd.OutOrStdout(), "  in AWS IoT: aws iot update-certificate --certificate-id %s --new-status REVOKED\n", e.CertificateID)
			}
		}
		return nil
	}
	return cmd
}
