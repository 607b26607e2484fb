package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/jitr-agent/jitr-agent/internal/cli"
	"github.com/jitr-agent/jitr-agent/internal/cloud"
)

func newCloud() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cloud",
		Short: "Set up AWS IoT Core for just-in-time registration",
		Long: `Set up AWS IoT Core for just-in-time registration, and look after the device
certificates there.

Account and Region are found as the aws CLI finds them: --profile and --region,
AWS_PROFILE and AWS_REGION, ~/.aws/config. Every command can be given twice, and
again after an interruption. What it makes carries the tag jitr-agent.`,
	}
	o := &cloud.Options{}
	f := cmd.PersistentFlags()
	f.StringVar(&o.Region, "region", "", "AWS `REGION`")
	f.StringVar(&o.Profile, "profile", "", "`PROFILE` of ~/.aws/config")
	f.StringVar(&o.Endpoint, "endpoint-url", "", "`URL` of all services in the place of AWS, such as iotcore-sim's")
	cmd.AddCommand(newCloudRegisterCA(o), newCloudDeploy(o), newCloudStatus(o), newCloudList(o), newCloudPending(o),
		newCloudActivate(o), newCloudDeactivate(o), newCloudPrune(o), newCloudDestroy(o))
	return cmd
}

// connect finds the account that o says.
func connect(cmd *cobra.Command, o *cloud.Options) (*cloud.Account, error) {
	if o.Endpoint != "" {
		if u, err := url.Parse(o.Endpoint); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, cli.Usage(fmt.Errorf("--endpoint-url %q is no URL such as http://127.0.0.1:8080", o.Endpoint))
		}
	}
	return cloud.Connect(cmd.Context(), *o)
}

// planFlags are those of a command that changes something.
type planFlags struct {
	dryRun, json bool
	hint         string // behind what is said of a plan that was not carried out
}

func newPlanFlags(cmd *cobra.Command) *planFlags {
	p := &planFlags{}
	cmd.Flags().BoolVar(&p.dryRun, "dry-run", false, "print the plan and change nothing")
	cmd.Flags().BoolVar(&p.json, "json", false, "print JSON, for programs")
	return p
}

func caIDFlag(cmd *cobra.Command, help string) *string {
	return cmd.Flags().String("ca-id", "", "certificate `ID` of the CA"+help)
}

// carryOut applies a plan, and prints what it does: + made, ~ changed,
// - deleted, = as it should be. What was done is also printed where the rest
// fails.
func (p *planFlags) carryOut(cmd *cobra.Command, plan cloud.Plan) error {
	out := cmd.OutOrStdout()
	var done []cloud.Change
	var err error
	tell := func(c cloud.Change) {
		done = append(done, c)
		if !p.json {
			fmt.Fprintln(out, c)
		}
	}
	if p.dryRun {
		for _, c := range plan {
			tell(c)
		}
	} else {
		err = plan.Apply(cmd.Context(), cloud.Progress{Done: tell, Waiting: func(c cloud.Change, why error) {
			fmt.Fprintf(cmd.ErrOrStderr(), "waiting for AWS to %s the %s %s: %v\n", c.Action, c.Kind, c.Name, why)
		}})
	}
	if p.json {
		return errors.Join(err, writeIndented(out, struct {
			Schema  int            `json:"schema"`
			DryRun  bool           `json:"dry_run"`
			Changes []cloud.Change `json:"changes"`
		}{1, p.dryRun, append([]cloud.Change{}, done...)}))
	}
	if err != nil {
		return err
	}
	switch n := plan.Pending(); {
	case n == 0:
		fmt.Fprintln(out, "nothing to change")
	case p.dryRun:
		fmt.Fprintf(out, "%s to make; nothing was changed%s\n", count(n, "change"), p.hint)
	default:
		fmt.Fprintf(out, "%s made\n", count(n, "change"))
	}
	return nil
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func writeIndented(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// cloudFailed makes what was wrong on the command line wrong usage.
func cloudFailed(operation string, err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%s: %w", operation, err)
	if errors.Is(err, cloud.ErrBadID) || errors.Is(err, cloud.ErrBadChoice) {
		return cli.Usage(err)
	}
	return err
}
