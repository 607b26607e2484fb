package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/jitr-agent/jitr-agent/internal/cli"
	"github.com/jitr-agent/jitr-agent/internal/report"
)

// exitNotRunning is status's code for a service that does not run, as in the
// LSB's table for init scripts.
const exitNotRunning = 3

func newStatus() *cobra.Command {
	var asJSON, watch bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say what the service is doing, why, since when, and what comes next",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			show := func() error { return showStatus(cmd.OutOrStdout(), asJSON) }
			if !watch {
				return show()
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return watchStatus(ctx, cmd.OutOrStdout(), show)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the status as JSON")
	cmd.Flags().BoolVar(&watch, "watch", false, "print it again every second")
	return cmd
}

func showStatus(out io.Writer, asJSON bool) error {
	s, err := report.ReadStatus(runtimeDir())
	if err != nil {
		return fmt.Errorf("cannot tell the status: %w", err)
	}
	if asJSON {
		if err := s.Encode(out); err != nil {
			return err
		}
	} else if _, err := io.WriteString(out, statusText(s)); err != nil {
		return err
	}
	if !s.Running {
		return &cli.ExitError{Code: exitNotRunning}
	}
	return nil
}

// watchStatus shows until the user has seen enough, and returns the last
// outcome.
func watchStatus(ctx context.Context, out io.Writer, show func() error) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		fmt.Fprint(out, "\x1b[H\x1b[2J") // home, and clear
		err := show()
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// statusText is the status for a person: the sentence first, then the facts.
func statusText(s report.Status) string {
	var b strings.Builder
	if !s.Running {
		why := "it was never started since the gateway booted"
		if s.Stopped != nil && s.Stopped.Message != nil {
			why = *s.Stopped.Message
		}
		fmt.Fprintf(&b, "The service does not run: %s.\nStart it: systemctl start jitr-agent\n", why)
		if s.State == nil {
			return b.String()
		}
		b.WriteString("\nWhen it ended:\n")
	}
	fmt.Fprintf(&b, "%s.\n", or(s.Message, "-"))
	if s.Remedy != nil {
		fmt.Fprintf(&b, "What to do: %s.\n", *s.Remedy)
	}
	b.WriteByte('\n')
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s\t%s\n", name, value)
		}
	}
	state := or(s.State, "")
	if s.Cause != nil {
		state += " (" + *s.Cause + ")"
	}
	if s.StateForMS != nil && s.Running {
		state += " for " + ms(*s.StateForMS)
	}
	row("State", state)
	if s.Next != nil {
		row("Next try", "in "+ms(s.Next.InMS))
	}
	if s.Attempts.Count > 0 {
		row("Attempts", fmt.Sprintf("%d since the last success, the last one ended in phase %s", s.Attempts.Count, or(s.Attempts.LastPhase, "-")))
	}
	row("Thing", or(s.Identity.ThingName, ""))
	row("Certificate", or(s.Identity.CertificateID, ""))
	row("CA", or(s.Identity.CACertificateID, ""))
	if s.Identity.NotAfterAt != nil {
		row("Valid until", time.Time(*s.Identity.NotAfterAt).UTC().Format(time.DateTime)+" UTC")
	}
	if s.Identity.Provider != nil {
		row("Key", or(s.Identity.Algorithm, "unknown")+" in "+*s.Identity.Provider)
	}
	if s.Cloud.Endpoint != nil {
		endpoint := *s.Cloud.Endpoint
		if s.Cloud.Port != nil {
			endpoint += fmt.Sprintf(":%d", *s.Cloud.Port)
		}
		if s.Cloud.TLSVersion != nil {
			endpoint += ", TLS " + *s.Cloud.TLSVersion
		}
		row("Endpoint", endpoint)
	}
	if s.Buffer.Messages != nil {
		row("Buffer", fmt.Sprintf("%d messages, %d bytes", *s.Buffer.Messages, or64(s.Buffer.Bytes)))
	}
	if s.Counters.Acked != nil {
		row("Sent", fmt.Sprintf("%d messages acknowledged", *s.Counters.Acked))
	}
	if s.Shadow.State != nil {
		shadow := *s.Shadow.State
		if s.Shadow.Version != nil {
			shadow += fmt.Sprintf(", version %d", *s.Shadow.Version)
		}
		row("Shadow", shadow)
	}
	for _, o := range s.Overrides {
		row("Overridden", fmt.Sprintf("%s = %s (%s)", o.Key, o.Value, o.From))
	}
	w.Flush() // into memory, so it cannot fail
	return b.String()
}

func or(s *string, none string) string {
	if s == nil {
		return none
	}
	return *s
}

func or64(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}

func ms(n int64) string { return report.Span(time.Duration(n) * time.Millisecond) }
