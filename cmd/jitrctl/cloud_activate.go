package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/jitr-agent/jitr-agent/internal/cloud"
)

func newCloudActivate(o *cloud.Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "activate ID...",
		Short: "Activate device certificates by hand",
		Long: `Do for a device certificate what the deployed function does: the thing, the
certificate attached to it, the policy of its CA, and ACTIVE last. It is your
word: name pattern, inventory and revocation lists are not asked, and a
certificate that is INACTIVE is activated too.`,
		Args: someIDs,
	}
	plan := newPlanFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, ids []string) error {
		account, err := connect(cmd, o)
		if err != nil {
			return cloudFailed("activate", err)
		}
		changes, err := account.PlanActivate(cmd.Context(), ids)
		if err != nil {
			return cloudFailed("activate", err)
		}
		return plan.carryOut(cmd, changes)
	}
	return cmd
}

func newCloudDeactivate(o *cloud.Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "deactivate ID...",
		Short: "Take device certificates out of service",
		Long: `Set device certificates to INACTIVE. AWS IoT ends their connections within a
few minutes, and lets them in no more. 'jitrctl cloud activate' is the way back.`,
		Args: someIDs,
	}
	plan := newPlanFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, ids []string) error {
		account, err := connect(cmd, o)
		if err != nil {
			return cloudFailed("deactivate", err)
		}
		changes, err := account.PlanDeactivate(cmd.Context(), ids)
		if err != nil {
			return cloudFailed("deactivate", err)
		}
		return plan.carryOut(cmd, changes)
	}
	return cmd
}

// someIDs is the argument check of a command that takes certificate ids.
func someIDs(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return errors.New("a certificate id is needed; 'jitrctl cloud pending' and 'jitrctl cloud list' show them")
	}
	return nil
}
