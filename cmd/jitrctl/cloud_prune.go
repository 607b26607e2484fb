package main

import (
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/jitr-agent/jitr-agent/internal/cli"
	"github.com/jitr-agent/jitr-agent/internal/cloud"
)

func newCloudPrune(o *cloud.Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Delete what no gateway needs any more",
		Long: `Delete device certificates that have waited to be activated, or have been
expired, for longer than --older-than, and things that were made for gateways
and have no certificate. It prints the plan; --yes carries it out.

A certificate that you took out of service stays until it has expired: without
it the gateway would be registered again at its next connection.`,
		Args: cobra.NoArgs,
	}
	ca := caIDFlag(cmd, "; without it, all that are deployed")
	older := cmd.Flags().String("older-than", "30d", "`AGE` in days (30d) or hours (12h)")
	yes := cmd.Flags().Bool("yes", false, "do it")
	plan := newPlanFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		limit, err := parseAge(*older)
		if err != nil {
			return cli.Usage(err)
		}
		if !*yes {
			plan.dryRun, plan.hint = true, "; --yes makes them"
		}
		account, err := connect(cmd, o)
		if err != nil {
			return cloudFailed("prune", err)
		}
		changes, err := account.PlanPrune(cmd.Context(), cloud.Leftovers{CA: *ca, OlderThan: limit, Now: time.Now()})
		if err != nil {
			return cloudFailed("prune", err)
		}
		return plan.carryOut(cmd, changes)
	}
	return cmd
}

var ageSyntax = regexp.MustCompile(`^([0-9]{1,5})([dh])$`)

func parseAge(s string) (time.Duration, error) {
	parts := ageSyntax.FindStringSubmatch(s)
	if parts == nil {
		return 0, fmt.Errorf("--older-than %q is neither days (30d) nor hours (12h)", s)
	}
	n, err := strconv.Atoi(parts[1])
	if err != nil {
		return 0, err
	}
	unit := time.Hour
	if parts[2] == "d" {
		unit *= 24
	}
	return time.Duration(n) * unit, nil
}
