package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/jitr-agent/jitr-agent/internal/ca"
	"github.com/jitr-agent/jitr-agent/internal/certs"
)

func newCABundle() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bundle --dir DIR CERT --out FILE",
		Short: "Put the CA's chain behind a certificate made elsewhere",
		Long: `Put the CA's chain behind a device certificate (PEM, - for stdin) that openssl or
another tool signed with this CA's key. AWS IoT registers a device just in time
only when it sees the CA's certificate behind the device's own. It needs ca.crt
alone, not the key.`,
		Example: "  jitrctl ca bundle --dir CA deviceCert.crt --out deviceCertAndCA.crt",
		Args:    oneFile("certificate"),
	}
	dir, out := dirFlag(cmd), outFlag(cmd)

	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		data, err := readFile(cmd, args[0])
		if err != nil {
			return fmt.Errorf("read the certificate: %w", err)
		}
		leaf, err := certs.ParseChain(data)
		if err != nil {
			return failed("bundle", args[0], fmt.Errorf("%w; give the file that 'openssl x509 -req' wrote", err))
		}
		authority, err := ca.Open(*dir, nil)
		if err != nil {
			return failed("bundle", args[0], err)
		}
		chain, err := authority.Bundle(leaf)
		if err != nil {
			return failed("bundle", args[0], err)
		}
		return writeChain(cmd, *out, chain)
	}
	return cmd
}
