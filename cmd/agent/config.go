package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newConfig(o *options) *cobra.Command {
	config := &cobra.Command{Use: "config", Short: "Work with agent.toml"}
	config.AddCommand(&cobra.Command{
		Use:   "check",
		Short: "Check agent.toml and the environment, and say everything that is wrong",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, _, err := o.load(cmd, false)
			if err != nil {
				return err
			}
			if _, err := endpointOf(s); err != nil {
				return err
			}
			for _, w := range s.Warnings(o.config) {
				fmt.Fprintln(cmd.ErrOrStderr(), "warning: "+w)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is valid\n", o.config)
			return err
		},
	})
	return config
}
