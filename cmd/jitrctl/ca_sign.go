package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/jitr-agent/jitr-agent/internal/ca"
	"github.com/jitr-agent/jitr-agent/internal/certs"
	"github.com/jitr-agent/jitr-agent/internal/cli"
)

func newCASign() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sign --dir DIR CSR --out FILE",
		Short: "Sign devices' certificate requests",
		Long: `Sign a device's certificate request (PEM, - for stdin) and write the device
certificate with the CA's chain behind it, as 'jitr-agent import --cert' takes it.

The same request gives the same certificate again; --renew makes a new one.

Many at once: CSR is a folder, whose files *.csr are signed, or a CSV manifest
(FILE.csv) with the columns csr, name and days; the last two may be missing or
empty. Then --out is a directory, and each certificate goes to NAME.crt in it. A
request that is refused is named, and the others are signed. A batch that was
interrupted, however it was, is completed by the same command.`,
		Example: `  jitrctl ca sign --dir CA gw-1.csr --out gw-1.crt
  jitrctl ca sign --dir CA requests/ --out certificates/
  jitrctl ca sign --dir CA gateways.csv --out certificates/ --renew-expiring 90`,
		Args: oneFile("certificate request"),
	}
	dir, ask := dirFlag(cmd), passphraseFlag(cmd)
	out := cmd.Flags().String("out", "", "`FILE` to write the certificates to, - for stdout; for many requests a directory")
	required(cmd, "out")
	days := daysFlag(cmd, ca.DefaultDeviceDays)
	name := cmd.Flags().String("name", "", "common `NAME` for the certificate, in place of the request's")
	renew := cmd.Flags().Bool("renew", false, "make a new certificate though the request has one")
	expiring := cmd.Flags().Int("renew-expiring", 0, "make a new certificate where the request's ends within `DAYS`, or has ended")

	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		now := time.Now()
		var before time.Time
		if cmd.Flags().Changed("renew-expiring") {
			before = now.AddDate(0, 0, *expiring)
		}
		authority, err := ca.Open(*dir, ask)
		if many(args[0]) {
			if *name != "" || *renew {
				return cli.Usage(fmt.Errorf("--name and --renew are for one request, and %s is many; use a manifest's column name, and --renew-expiring DAYS, which an interrupted run can repeat", args[0]))
			}
			if err != nil {
				return failed("sign", args[0], err)
			}
			return signMany(cmd, authority, args[0], ca.Batch{Out: *out, Days: *days, RenewBefore: before, Now: now})
		}
		data, readErr := readFile(cmd, args[0])
		if readErr != nil {
			return fmt.Errorf("read the certificate request: %w", readErr)
		}
		csr, parseErr := ca.ParseRequest(data)
		if parseErr != nil {
			return failed("sign", args[0], parseErr)
		}
		if err != nil {
			return failed("sign", args[0], err)
		}
		issued, err := authority.Sign(cmd.Context(), csr, ca.SignOptions{Name: *name, Days: *days, Renew: *renew, RenewBefore: before, Now: now})
		if err != nil {
			return failed("sign", args[0], err)
		}
		if err := writeChain(cmd, *out, issued.Chain); err != nil {
			return err
		}
		return summary(cmd, *out, issued)
	}
	return cmd
}

// many says whether arg is a folder or a manifest.
func many(arg string) bool {
	if strings.EqualFold(filepath.Ext(arg), ".csv") {
		return true
	}
	info, err := os.Stat(arg)
	return err == nil && info.IsDir()
}

// signMany signs a folder or a manifest.
func signMany(cmd *cobra.Command, authority *ca.CA, from string, b ca.Batch) error {
	var err error
	if strings.EqualFold(filepath.Ext(from), ".csv") {
		b.Items, err = readManifest(from)
	} else {
		b.Items, err = ca.Folder(from)
	}
	if err != nil {
		return failed("sign", from, err)
	}
	stderr := cmd.ErrOrStderr()
	step, clear := progress(stderr, len(b.Items))
	b.Progress = step
	b.Refused = func(i ca.Item, err error) {
		clear()
		fmt.Fprintf(stderr, "%s: sign %s: %v\n", cmd.Root().Name(), i.File, err)
	}
	o, err := authority.SignBatch(cmd.Context(), b)
	clear()
	if err != nil {
		return failed("sign", from, err)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s: %s signed, %d made before%s; %d refused\n", from, plural(o.Signed, "request"), o.Again, capped(o), o.Refused)
	if o.Refused > 0 {
		return failed("sign", from, fmt.Errorf("%d of %s refused, named above; put them right and run the same command again: what is signed stays as it is", o.Refused, plural(len(b.Items), "request")))
	}
	return nil
}

func readManifest(file string) ([]ca.Item, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return ca.ParseManifest(data, filepath.Dir(file))
}

func capped(o ca.Outcome) string {
	if o.Capped == 0 {
		return ""
	}
	return fmt.Sprintf(" (%d no longer than the CA, which ends first)", o.Capped)
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// summary says what the file holds now.
func summary(cmd *cobra.Command, out string, issued *ca.Issued) error {
	leaf := issued.Chain[0]
	note := ""
	switch {
	case issued.Again:
		note = " (made before; --renew makes a new one)"
	case issued.Capped:
		note = " (no longer, because the CA ends then)"
	}
	_, err := fmt.Fprintf(notes(cmd, out), "%s: certificate id %s, until %s%s\n", certs.Name(leaf), certs.ID(leaf), day(leaf.NotAfter), note)
	return err
}
