package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/jitr-agent/jitr-agent/internal/ca"
	"github.com/jitr-agent/jitr-agent/internal/certs"
)

func newCAAdopt() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "adopt --dir DIR [CERT|FOLDER]...",
		Short: "Take an openssl CA into use, with what it has signed",
		Long: `Take a CA into use that openssl made: CAroot.pem and CAroot.key, cacert.pem and
private/cakey.pem, or ca.crt and ca.key in DIR. It checks that key and
certificate fit, closes the key's file to others, and puts into the inventory
what 'openssl ca' left there (index.txt, crlnumber, newcerts, certs) and the
device certificates given, files or folders.

It is not needed for signing. It lets jitrctl list and revoke what openssl
signed. It can be given again; nothing that openssl needs is changed.`,
		Example: "  jitrctl ca adopt --dir openssl devices/",
	}
	dir, ask := dirFlag(cmd), passphraseFlag(cmd)

	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		authority, err := ca.Open(*dir, ask)
		if err != nil {
			return failed("adopt", *dir, err)
		}
		a, err := authority.Adopt(cmd.Context(), args, time.Now())
		if err != nil {
			return failed("adopt", *dir, err)
		}
		own, w := authority.Certificate(), cmd.OutOrStdout()
		fmt.Fprintf(w, "%s: CA certificate id %s, until %s\n", certs.Name(own), certs.ID(own), day(own.NotAfter))
		fmt.Fprintf(w, "inventory: %s taken in, %d more from index.txt alone, %d known already\n", plural(a.Certificates, "certificate"), a.Unseen, a.Known)
		if a.ClosedKey != "" {
			fmt.Fprintf(w, "%s: others could read it; it is 0600 now\n", a.ClosedKey)
		}
		for _, file := range a.Foreign {
			fmt.Fprintf(w, "%s: passed over, another CA signed it\n", file)
		}
		return nil
	}
	return cmd
}
