package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/jitr-agent/jitr-agent/internal/ca"
	"github.com/jitr-agent/jitr-agent/internal/ca/inventory"
	"github.com/jitr-agent/jitr-agent/internal/cli"
)

func newCAList() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list --dir DIR",
		Short: "List the certificates that the CA has made",
		Long: `List the certificates that the CA has made, by name. It does not need the CA's
key.

--format openssl writes the index.txt of 'openssl ca', which can work with it.`,
		Example: `  jitrctl ca list --dir CA --expiring 90
  jitrctl ca list --dir CA --state revoked --format csv`,
		Args: cobra.NoArgs,
	}
	dir := dirFlag(cmd)
	states := cmd.Flags().StringSlice("state", nil, "only these `STATES`: "+join(inventory.States()))
	expiring := cmd.Flags().Int("expiring", 0, "only valid ones that end within `DAYS`")
	format := cmd.Flags().String("format", formats()[0], "one of "+strings.Join(formats(), ", "))

	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		now := time.Now()
		var f ca.Filter
		for _, s := range *states {
			if !slices.Contains(inventory.States(), inventory.State(s)) {
				return cli.Usage(fmt.Errorf("--state %q is unknown; use one of %s", s, join(inventory.States())))
			}
			f.States = append(f.States, inventory.State(s))
		}
		if cmd.Flags().Changed("expiring") {
			if *expiring < 1 {
				return cli.Usage(fmt.Errorf("--expiring %d is impossible; give 1 or more", *expiring))
			}
			f.EndsBefore = now.AddDate(0, 0, *expiring)
		}
		if !slices.Contains(formats(), *format) {
			return cli.Usage(fmt.Errorf("--format %q is unknown; use one of %s", *format, strings.Join(formats(), ", ")))
		}
		authority, err := ca.Open(*dir, nil)
		if err != nil {
			return failed("list the certificates of", *dir, err)
		}
		list, err := authority.List(cmd.Context(), f, now)
		if err != nil {
			return failed("list the certificates of", *dir, err)
		}
		return writeList(cmd.OutOrStdout(), *format, list, now)
	}
	return cmd
}

func formats() []string { return []string{"table", "csv", "json", "openssl"} }

func join(states []inventory.State) string {
	var s []string
	for _, state := range states {
		s = append(s, string(state))
	}
	return strings.Join(s, ", ")
}

func writeList(w io.Writer, format string, list []*inventory.Entry, now time.Time) error {
	switch format {
	case "csv":
		return writeCSV(w, list, now)
	case "json":
		return writeJSON(w, list, now)
	case "openssl":
		for _, e := range list {
			if err := inventory.WriteIndex(w, e, now); err != nil {
				return err
			}
		}
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tSTATE\tUNTIL\tSERIAL\tCERTIFICATE ID")
	for _, e := range list {
		state := string(e.State(now))
		if e.RevokedAt != nil {
			state = fmt.Sprintf("%s %s, %s", state, day(*e.RevokedAt), e.Reason)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", orDash(e.Name), state, day(e.NotAfter), e.Serial, orDash(e.CertificateID))
	}
	return t.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// listed is an entry as JSON shows it. Every key is always there; unknown is
// null.
type listed struct {
	Name          string            `json:"name"`
	State         inventory.State   `json:"state"`
	Serial        inventory.Serial  `json:"serial"`
	CertificateID *string           `json:"certificate_id"`
	Subject       string            `json:"subject"`
	NotBefore     *time.Time        `json:"not_before_at"`
	NotAfter      time.Time         `json:"not_after_at"`
	AddedAt       time.Time         `json:"added_at"`
	Origin        inventory.Origin  `json:"origin"`
	RevokedAt     *time.Time        `json:"revoked_at"`
	Reason        *inventory.Reason `json:"reason"`
}

func writeJSON(w io.Writer, list []*inventory.Entry, now time.Time) error {
	rows := make([]listed, len(list))
	for i, e := range list {
		rows[i] = listed{
			Name: e.Name, State: e.State(now), Serial: e.Serial, Subject: e.Subject,
			NotAfter: e.NotAfter, AddedAt: e.AddedAt, Origin: e.Origin, RevokedAt: e.RevokedAt,
		}
		if e.CertificateID != "" {
			rows[i].CertificateID, rows[i].NotBefore = &e.CertificateID, &e.NotBefore
		}
		if e.RevokedAt != nil {
			rows[i].Reason = &e.Reason
		}
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(struct {
		Schema       int      `json:"schema"`
		Certificates []listed `json:"certificates"`
	}{1, rows})
}

func writeCSV(w io.Writer, list []*inventory.Entry, now time.Time) error {
	out := csv.NewWriter(w)
	rows := [][]string{{"name", "state", "serial", "certificate_id", "subject", "not_before_at", "not_after_at", "added_at", "origin", "revoked_at", "reason"}}
	for _, e := range list {
		row := []string{e.Name, string(e.State(now)), string(e.Serial), e.CertificateID, e.Subject, stamp(e.NotBefore), stamp(e.NotAfter), stamp(e.AddedAt), string(e.Origin), "", ""}
		if e.RevokedAt != nil {
			row[9], row[10] = stamp(*e.RevokedAt), e.Reason.String()
		}
		rows = append(rows, row)
	}
	return out.WriteAll(rows)
}

// stamp is empty for a time that is not known.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
