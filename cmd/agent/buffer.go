package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/jitr-agent/jitr-agent/internal/cli"
	"github.com/jitr-agent/jitr-agent/internal/filelock"
	"github.com/jitr-agent/jitr-agent/internal/report"
	"github.com/jitr-agent/jitr-agent/pkg/buffer"
)

func newBufferCommand(o *options) *cobra.Command {
	group := &cobra.Command{Use: "buffer", Short: "Look at the messages that wait to be sent"}
	group.AddCommand(newBufferStatus(o), newBufferExport(o), newBufferPurge(o))
	return group
}

func newBufferStatus(o *options) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "How many messages wait, and how the disk fares",
		Long: `Say how many messages wait to be sent, and how the disk fares. While the service
runs it is what the service knows, else what is on the disk.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, c, err := bufferStatus(o)
			if err != nil {
				return err
			}
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(struct {
					Schema int `json:"schema"`
					report.Buffer
					DeadLetters *int64 `json:"dead_letters"`
					Dropped     *int64 `json:"dropped"`
				}{1, b, c.DeadLetters, c.Dropped})
			}
			return writeBufferStatus(cmd.OutOrStdout(), b, c)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, for programs: the keys of buffer in status --json, dead_letters and dropped")
	return cmd
}

// bufferStatus is what the running service says, else what is on the disk.
func bufferStatus(o *options) (b report.Buffer, c report.Counters, err error) {
	if s, err := report.ReadStatus(runtimeDir()); err == nil && s.Running {
		return s.Buffer, s.Counters, nil
	}
	var n, bytes, dead int64
	var oldest time.Time
	lost, err := buffer.Stored(bufferDir(o.stateDir), func(l buffer.Letter) error {
		if n == 0 {
			oldest = l.At
		}
		n++
		bytes += int64(len(l.Payload) + len(l.Topic))
		return nil
	})
	if err == nil {
		err = buffer.Dead(bufferDir(o.stateDir), func(buffer.Letter) error { dead++; return nil })
	}
	if err != nil {
		return b, c, fmt.Errorf("cannot read the buffer in %s: %w; use sudo, or give --state-dir", bufferDir(o.stateDir), err)
	}
	state := buffer.StateOK
	if lost > 0 {
		state = buffer.StateDamaged
	}
	return report.Buffer{State: new(string(state)), Messages: &n, Bytes: &bytes, OldestAt: report.At(oldest)}, report.Counters{DeadLetters: &dead}, nil
}

func writeBufferStatus(out io.Writer, b report.Buffer, c report.Counters) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name string, value *int64, unit string) {
		if value != nil {
			fmt.Fprintf(w, "%s\t%d%s\n", name, *value, unit)
		}
	}
	if b.State != nil {
		fmt.Fprintf(w, "state\t%s\n", *b.State)
	}
	line("messages", b.Messages, "")
	line("bytes", b.Bytes, "")
	line("limit", b.MaxBytes, " bytes")
	if b.OldestAt != nil {
		fmt.Fprintf(w, "oldest\t%s\n", b.OldestAt)
	}
	line("in memory only", b.MemoryMessages, "")
	line("in flight", b.InFlight, "")
	if b.PausedForMS != nil && *b.PausedForMS > 0 {
		fmt.Fprintf(w, "paused\tfor %v more, because the server asked for it\n", time.Duration(*b.PausedForMS)*time.Millisecond)
	}
	line("dead letters", c.DeadLetters, "")
	line("dropped", c.Dropped, "")
	return w.Flush()
}

// exported is a line of buffer export.
type exported struct {
	Topic           string       `json:"topic"`
	Stream          string       `json:"stream"`
	Seq             uint64       `json:"seq"`
	At              *report.Time `json:"at"` // null where the clock was wrong
	ReasonCode      *byte        `json:"reason_code,omitempty"`
	RefusedAt       *report.Time `json:"refused_at,omitempty"`
	ContentType     string       `json:"content_type,omitempty"`
	ResponseTopic   string       `json:"response_topic,omitempty"`
	CorrelationData []byte       `json:"correlation_data,omitempty"`
	UserProperties  [][2]string  `json:"user_properties,omitempty"`
	Text            bool         `json:"text,omitempty"`
	Expiry          uint32       `json:"expiry,omitempty"`
	Payload         []byte       `json:"payload"` // base64
}

func newBufferExport(o *options) *cobra.Command {
	var dead bool
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Print the stored messages, or the dead letters",
		Long: `Print the messages that are on the disk and not acknowledged, oldest first: a
JSON object in a line for each, its payload in base64. With --dead: the
messages that the server refused for good, with the reason code of its PUBACK.

Nothing is changed. While the service runs it goes on with its work, and some of
the oldest and newest messages may be missing.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := json.NewEncoder(cmd.OutOrStdout())
			write := func(l buffer.Letter) error {
				e := exported{
					Topic: l.Topic, Stream: l.Stream, Seq: l.Seq, At: report.At(l.At), RefusedAt: report.At(l.DeadAt),
					ContentType: l.ContentType, ResponseTopic: l.ResponseTopic, CorrelationData: l.CorrelationData,
					UserProperties: l.UserProperties, Text: l.Text, Expiry: l.Expiry, Payload: l.Payload,
				}
				if dead {
					e.ReasonCode = &l.Code
				}
				return out.Encode(e)
			}
			dir := bufferDir(o.stateDir)
			if dead {
				if err := buffer.Dead(dir, write); err != nil {
					return fmt.Errorf("cannot export the dead letters in %s: %w; use sudo, or give --state-dir", dir, err)
				}
				return nil
			}
			lost, err := buffer.Stored(dir, write)
			if err != nil {
				return fmt.Errorf("cannot export the buffer in %s: %w; use sudo, or give --state-dir", dir, err)
			}
			if lost > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s could not be read\n", report.Count(int64(lost), "message"))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&dead, "dead", false, "the dead letters instead")
	return cmd
}

func newBufferPurge(o *options) *cobra.Command {
	var yes, dead bool
	cmd := &cobra.Command{
		Use:   "purge",
		Short: "Delete the stored messages, or the dead letters, for good",
		Long: `Delete all stored messages, dead letters and gap records of this gateway for
good; with --dead the dead letters only. The service must be stopped. Think of
jitr-agent buffer export first.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if !yes {
				return cli.Usage(errors.New("purge deletes messages that were promised to be delivered; say that you mean it: --yes"))
			}
			lock, err := filelock.Try(filepath.Join(o.stateDir, "lock"))
			var held *filelock.Held
			switch {
			case errors.As(err, &held):
				return fmt.Errorf("cannot purge the buffer in %s: the service runs (pid %d); stop it first: systemctl stop jitr-agent", o.stateDir, held.PID)
			case errors.Is(err, os.ErrNotExist):
				return fmt.Errorf("cannot purge the buffer in %s: there is no such directory; give --state-dir", o.stateDir)
			case err != nil:
				return fmt.Errorf("cannot lock %s: %w; use sudo", o.stateDir, err)
			}
			defer lock.Unlock()
			if dead {
				err = buffer.PurgeDead(bufferDir(o.stateDir))
			} else {
				err = buffer.Purge(bufferDir(o.stateDir))
			}
			if err != nil {
				return fmt.Errorf("cannot purge the buffer in %s: %w; use sudo", o.stateDir, err)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "really delete")
	cmd.Flags().BoolVar(&dead, "dead", false, "the dead letters only")
	return cmd
}
