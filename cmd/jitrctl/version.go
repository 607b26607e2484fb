package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/jitr-agent/jitr-agent/internal/version"
)

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version on one line",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), version.String(cmd.Root().Name()))
			return err
		},
	}
}
