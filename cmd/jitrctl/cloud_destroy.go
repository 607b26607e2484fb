package main

import (
	"github.com/spf13/cobra"

	"github.com/jitr-agent/jitr-agent/internal/cloud"
)

func newCloudDestroy(o *cloud.Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "destroy",
		Short: "Delete what deploy made",
		Long: `Delete what 'jitrctl cloud deploy' made, of one CA or of all; the last CA takes
with it what all share, and the function's log group with them. It refuses while device certificates are ACTIVE: their
gateways would be cut off.

CAs, device certificates and things stay, unless --ca is given.`,
		Example: "  jitrctl cloud destroy --ca-id $ID --dry-run",
		Args:    cobra.NoArgs,
	}
	r := cloud.Removal{}
	cmd.Flags().StringVar(&r.CA, "ca-id", "", "only of the CA with this certificate `ID`")
	cmd.Flags().BoolVar(&r.Registered, "ca", false, "also the CA's registration, its device certificates, and the things made for them")
	plan := newPlanFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		account, err := connect(cmd, o)
		if err != nil {
			return cloudFailed("destroy", err)
		}
		changes, err := account.PlanDestroy(cmd.Context(), r)
		if err != nil {
			return cloudFailed("destroy", err)
		}
		return plan.carryOut(cmd, changes)
	}
	return cmd
}
