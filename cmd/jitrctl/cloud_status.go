package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/jitr-agent/jitr-agent/internal/cloud"
	"github.com/jitr-agent/jitr-agent/internal/cloud/bundle"
)

func newCloudStatus(o *cloud.Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say what is registered and deployed, and what waits or failed",
		Long: `Say which CAs are registered and deployed, how many device certificates they
have, whether what is deployed is still as it should be, and how many events
could not be dealt with.`,
		Args: cobra.NoArgs,
	}
	asJSON := cmd.Flags().Bool("json", false, "print JSON, for programs")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		account, err := connect(cmd, o)
		if err != nil {
			return cloudFailed("status", err)
		}
		st, err := account.Status(cmd.Context(), bundle.Zip)
		if err != nil {
			return cloudFailed("status", err)
		}
		if *asJSON {
			return writeIndented(cmd.OutOrStdout(), st)
		}
		return printCloudStatus(cmd.OutOrStdout(), st, time.Now())
	}
	return cmd
}

func printCloudStatus(out io.Writer, st *cloud.Status, now time.Time) error {
	fmt.Fprintf(out, "account %s, Region %s\n", st.Account, st.Region)
	for _, ca := range st.CAs {
		fmt.Fprintf(out, "\nCA %s\n", ca.ID)
		t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintf(t, "  registered\t%s, %s\n", registration(ca), ca.Mode)
		if ca.NotAfter != nil {
			fmt.Fprintf(t, "  valid until\t%s\n", until(*ca.NotAfter, now))
		}
		deployed := "no; run 'jitrctl cloud deploy --ca-id " + ca.ID + "'"
		if ca.Tenant != nil {
			deployed = "as tenant " + *ca.Tenant
			if ca.Prefix != "" {
				deployed += ", topics under " + ca.Prefix + "/"
			}
		}
		fmt.Fprintf(t, "  deployed\t%s\n", deployed)
		fmt.Fprintf(t, "  certificates\t%s\n", byStatus(ca.Certificates))
		if err := t.Flush(); err != nil {
			return err
		}
	}
	if len(st.CAs) == 0 {
		fmt.Fprintln(out, "\nno CA is registered; run 'jitrctl cloud register-ca'")
	}
	fmt.Fprintln(out)
	switch {
	case !st.Deployed && len(st.Drift) == 0:
		fmt.Fprintln(out, "the function is not deployed")
	case len(st.Drift) == 0:
		fmt.Fprintln(out, "what is deployed is as it should be")
	default:
		fmt.Fprintln(out, "what is deployed differs from what should be; 'jitrctl cloud deploy' would change:")
		for _, c := range st.Drift {
			fmt.Fprintln(out, "  "+c.String())
		}
	}
	if st.Queue != nil {
		fmt.Fprintf(out, "events that wait: %d\n", *st.Queue)
	}
	if st.Failed != nil {
		fmt.Fprintf(out, "events that failed: %d", *st.Failed)
		if *st.Failed > 0 {
			fmt.Fprint(out, "; 'aws logs tail /aws/lambda/jitr-activator' shows why, and the queue jitr-activator-failed has them")
		}
		fmt.Fprintln(out)
	}
	return nil
}

func registration(ca cloud.CAStatus) string {
	if ca.AutoRegistration {
		return ca.Status + ", auto-registration on"
	}
	return ca.Status + ", auto-registration off"
}

func until(end, now time.Time) string {
	if end.Before(now) {
		return day(end) + ": it has expired, and none of its gateways is registered any more"
	}
	return day(end)
}

func byStatus(n map[string]int) string {
	if len(n) == 0 {
		return "none"
	}
	var parts []string
	for _, status := range slices.Sorted(maps.Keys(n)) {
		parts = append(parts, strconv.Itoa(n[status])+" "+status)
	}
	return strings.Join(parts, ", ")
}
