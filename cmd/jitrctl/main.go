// Command jitrctl is the operator's desk: it makes the CA that devices are
// registered under, signs their certificates, and sets up the AWS side.
package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/jitr-agent/jitr-agent/internal/cli"
)

//go:generate go test -run TestManualPages -update

func main() { os.Exit(cli.Main(newRoot(), os.Args[1:], os.Stdout, os.Stderr)) }

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "jitrctl",
		Short: "Make a device CA, sign device certificates, and set up AWS IoT just-in-time registration",
	}
	root.AddCommand(newCA(), newCloud(), newVersion())
	return root
}
