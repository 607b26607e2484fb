package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/jitr-agent/jitr-agent/internal/cli"
	"github.com/jitr-agent/jitr-agent/internal/cloud"
)

func newCloudList(o *cloud.Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the device certificates in AWS IoT",
		Long: `List the device certificates in AWS IoT, with the thing that each is attached
to. Two calls are made for each, and AWS takes some 10 a second; --ids needs
only the list.`,
		Example: "  jitrctl cloud list --ca-id $ID --status ACTIVE --ids | xargs -r jitrctl cloud deactivate",
		Args:    cobra.NoArgs,
	}
	f := cloud.Filter{}
	cmd.Flags().StringVar(&f.CA, "ca-id", "", "only of the CA with this certificate `ID`")
	cmd.Flags().StringVar(&f.Status, "status", "", "only with this `STATUS`: "+strings.Join(statuses(), ", "))
	cmd.Flags().BoolVar(&f.Brief, "ids", false, "print the certificate ids only")
	asJSON := cmd.Flags().Bool("json", false, "print JSON, for programs")

	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if f.Status != "" && !slices.Contains(statuses(), f.Status) {
			return cli.Usage(fmt.Errorf("--status %q is unknown; use one of %s", f.Status, strings.Join(statuses(), ", ")))
		}
		rows := certificateRows{format: "%-64s  %-18s  %-20s  %s\n", head: []any{"CERTIFICATE ID", "STATUS", "UNTIL", "THING"}, cell: func(c cloud.Certificate) []any {
			end := "-"
			if c.NotAfter != nil {
				end = c.NotAfter.Format(time.RFC3339)
			}
			return []any{c.ID, c.Status, end, orDash(strings.Join(c.Things, " "))}
		}}
		return cloudFailed("list the certificates", rows.print(cmd, o, f, *asJSON))
	}
	return cmd
}

func newCloudPending(o *cloud.Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pending",
		Short: "List the device certificates that wait to be activated",
		Long: `List the device certificates that wait to be activated, and for how long: each
is a gateway that has connected and is not let in.`,
		Args: cobra.NoArgs,
	}
	f := cloud.Filter{Status: string(types.CertificateStatusPendingActivation)}
	cmd.Flags().StringVar(&f.CA, "ca-id", "", "only of the CA with this certificate `ID`")
	asJSON := cmd.Flags().Bool("json", false, "print JSON, for programs")

	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		now := time.Now()
		rows := certificateRows{format: "%-64s  %-10s  %s\n", head: []any{"CERTIFICATE ID", "FOR", "NAME"}, cell: func(c cloud.Certificate) []any {
			name := "-"
			if c.Name != nil {
				name = *c.Name
			}
			return []any{c.ID, age(now.Sub(c.CreatedAt)), name}
		}}
		return cloudFailed("list the pending certificates", rows.print(cmd, o, f, *asJSON))
	}
	return cmd
}

// statuses are those of a certificate in the AWS IoT API.
func statuses() []string {
	var s []string
	for _, v := range types.CertificateStatus("").Values() {
		s = append(s, string(v))
	}
	return s
}

// certificateRows prints certificates as they come: a large fleet's take
// minutes.
type certificateRows struct {
	format string
	head   []any
	cell   func(cloud.Certificate) []any
}

func (r certificateRows) print(cmd *cobra.Command, o *cloud.Options, f cloud.Filter, asJSON bool) error {
	account, err := connect(cmd, o)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	all := []cloud.Certificate{}
	err = account.Certificates(cmd.Context(), f, func(c cloud.Certificate) error {
		switch {
		case asJSON:
			all = append(all, c)
		case f.Brief:
			fmt.Fprintln(out, c.ID)
		default:
			if len(all) == 0 {
				fmt.Fprintf(out, r.format, r.head...)
			}
			all = append(all, c)
			fmt.Fprintf(out, r.format, r.cell(c)...)
		}
		return nil
	})
	if err != nil {
		return err
	}
	switch {
	case asJSON:
		return writeIndented(out, struct {
			Schema       int                 `json:"schema"`
			Certificates []cloud.Certificate `json:"certificates"`
		}{1, all})
	case len(all) == 0 && !f.Brief:
		fmt.Fprintln(out, "none")
	}
	return nil
}

// age is a duration in its two largest units.
func age(d time.Duration) string {
	minutes := int64(max(d, 0) / time.Minute)
	switch {
	case minutes < 60:
		return fmt.Sprintf("%dm", minutes)
	case minutes < 48*60:
		return fmt.Sprintf("%dh%dm", minutes/60, minutes%60)
	}
	return fmt.Sprintf("%dd%dh", minutes/60/24, minutes/60%24)
}
