package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/jitr-agent/jitr-agent/internal/ca"
	"github.com/jitr-agent/jitr-agent/internal/certs"
)

func newCAInit() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "init --dir DIR --cn NAME",
		Short: "Make a new CA",
		Long: `Make a new CA: its key and its certificate, self-signed, or signed by the CA in
--parent as an intermediate one. It never overwrites a CA.

--encrypt protects the key by a passphrase, as openssl does it: every command
that signs needs it then.`,
		Example: `  jitrctl ca init --dir CA --cn "Acme gateways"
  jitrctl ca init --dir plant7 --cn "Acme plant 7" --parent CA --encrypt`,
		Args: cobra.NoArgs,
	}
	dir := dirFlag(cmd)
	cn := cmd.Flags().String("cn", "", "`NAME` of the CA, its common name")
	required(cmd, "cn")
	key := cmd.Flags().String("key", ca.Algorithms()[0], "kind of key: "+strings.Join(ca.Algorithms(), ", "))
	days := daysFlag(cmd, ca.DefaultDays)
	parent := cmd.Flags().String("parent", "", "`DIR` of the CA that signs this one; none: it is a root")
	encrypt := cmd.Flags().Bool("encrypt", false, "encrypt the key with a passphrase")
	file := passphraseFileFlag(cmd)
	parentFile := cmd.Flags().String("parent-passphrase-file", "", "`FILE` whose first line is the passphrase of the parent's key")

	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o := ca.InitOptions{CommonName: *cn, Algorithm: *key, Days: *days, Now: time.Now()}
		var err error
		if *parent != "" {
			if o.Parent, err = ca.Open(*parent, parentPassphrase(parentFile)); err != nil {
				return failed("make a CA in", *dir, err)
			}
		}
		if *encrypt || *file != "" {
			if o.Passphrase, err = newPassphrase(*file); err != nil {
				return failed("make a CA in", *dir, err)
			}
		}
		made, err := ca.Init(cmd.Context(), *dir, o)
		if err != nil {
			return failed("make a CA in", *dir, err)
		}
		own := made.Certificate()
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: CA certificate id %s, until %s\n", certs.Name(own), certs.ID(own), day(own.NotAfter))
		return err
	}
	return cmd
}

// parentPassphrase asks for the parent's passphrase. The environment's is the
// new CA's.
func parentPassphrase(file *string) ca.Passphrase {
	return func(key string) ([]byte, error) {
		if *file != "" {
			return givenPassphrase(*file)
		}
		return promptPassphrase("Passphrase of " + key + ": ")
	}
}
