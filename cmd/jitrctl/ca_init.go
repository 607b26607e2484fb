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
		Use:     "init --dir DIR --cn NAME",
		Short:   "Make a new CA",
		Example: `  jitrctl ca init --dir CA --cn "Acme gateways"`,
		Args:    cobra.NoArgs,
	}
	dir := dirFlag(cmd)
	cn := cmd.Flags().String("cn", "", "`NAME` of the CA, its common name")
	required(cmd, "cn")
	key := cmd.Flags().String("key", ca.Algorithms()[0], "kind of key: "+strings.Join(ca.Algorithms(), ", "))
	days := daysFlag(cmd, ca.DefaultDays)

	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		made, err := ca.Init(cmd.Context(), *dir, ca.InitOptions{CommonName: *cn, Algorithm: *key, Days: *days, Now: time.Now()})
		if err != nil {
			return failed("make a CA in", *dir, err)
		}
		own := made.Certificate()
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: CA certificate id %s, until %s\n", certs.Name(own), certs.ID(own), day(own.NotAfter))
		return err
	}
	return cmd
}
