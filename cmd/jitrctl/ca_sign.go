package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/jitr-agent/jitr-agent/internal/ca"
	"github.com/jitr-agent/jitr-agent/internal/certs"
)

func newCASign() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sign --dir DIR CSR --out FILE",
		Short: "Sign a device's certificate request",
		Long: `Sign a device's certificate request (PEM, - for stdin) and write the device
certificate with the CA's chain behind it, as 'jitr-agent import --cert' takes it.

The same request gives the same certificate again; --renew makes a new one.`,
		Example: "  jitrctl ca sign --dir CA gw-1.csr --out gw-1.crt",
		Args:    oneFile("certificate request"),
	}
	dir, out := dirFlag(cmd), outFlag(cmd)
	days := daysFlag(cmd, ca.DefaultDeviceDays)
	name := cmd.Flags().String("name", "", "common `NAME` for the certificate, in place of the request's")
	renew := cmd.Flags().Bool("renew", false, "make a new certificate though the request has one")

	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		data, err := readFile(cmd, args[0])
		if err != nil {
			return fmt.Errorf("read the certificate request: %w", err)
		}
		csr, err := ca.ParseRequest(data)
		if err != nil {
			return failed("sign", args[0], err)
		}
		authority, err := ca.Open(*dir)
		if err != nil {
			return failed("sign", args[0], err)
		}
		issued, err := authority.Sign(cmd.Context(), csr, ca.SignOptions{Name: *name, Days: *days, Renew: *renew, Now: time.Now()})
		if err != nil {
			return failed("sign", args[0], err)
		}
		if err := writeChain(cmd, *out, issued.Chain); err != nil {
			return err
		}
		return summary(cmd, *out, issued)
	}
	return cmd
}

// summary says what the file holds now.
func summary(cmd *cobra.Command, out string, issued *ca.Issued) error {
	leaf := issued.Chain[0]
	note := ""
	switch {
	case issued.Again:
		note = " (made before; --renew makes a new one)"
	case issued.Capped:
		note = " (no longer, because the CA ends then)"
	}
	_, err := fmt.Fprintf(notes(cmd, out), "%s: certificate id %s, until %s%s\n", certs.Name(leaf), certs.ID(leaf), day(leaf.NotAfter), note)
	return err
}
