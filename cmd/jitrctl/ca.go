package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/jitr-agent/jitr-agent/internal/ca"
	"github.com/jitr-agent/jitr-agent/internal/ca/inventory"
	"github.com/jitr-agent/jitr-agent/internal/cli"
)

func newCA() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ca",
		Short: "Make a device CA and sign with it",
	}
	cmd.AddCommand(newCAInit(), newCAAdopt(), newCASign(), newCABundle(), newCAVerificationCert(),
		newCAList(), newCARevoke(), newCACRL())
	return cmd
}

// dirFlag is the one flag that all ca commands share.
func dirFlag(cmd *cobra.Command) *string {
	dir := cmd.Flags().String("dir", "", "directory of the CA: ca.crt and ca.key, or as openssl users call them")
	required(cmd, "dir")
	return dir
}

func outFlag(cmd *cobra.Command) *string {
	out := cmd.Flags().String("out", "", "`FILE` to write the certificates to, - for stdout")
	required(cmd, "out")
	return out
}

func daysFlag(cmd *cobra.Command, usual int) *int {
	return cmd.Flags().Int("days", usual, "validity in `DAYS`")
}

// required marks a flag that was defined the line before, so it exists.
func required(cmd *cobra.Command, flag string) {
	if err := cmd.MarkFlagRequired(flag); err != nil {
		panic(err)
	}
}

// oneFile is the argument check of a command that takes one file.
func oneFile(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("one %s is needed, and %d were given", what, len(args))
		}
		return nil
	}
}

// failed says which operation failed on which object. A number or word that
// was wrong on the command line is wrong usage.
func failed(operation, object string, err error) error {
	err = fmt.Errorf("%s %s: %w", operation, object, err)
	if !errors.Is(err, ca.ErrBadManifest) && (errors.Is(err, ca.ErrBadValidity) || errors.Is(err, ca.ErrBadAlgorithm) || errors.Is(err, inventory.ErrBadReason)) {
		return cli.Usage(err)
	}
	return err
}
