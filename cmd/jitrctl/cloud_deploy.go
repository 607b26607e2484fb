package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/jitr-agent/jitr-agent/internal/activation"
	"github.com/jitr-agent/jitr-agent/internal/cloud"
	"github.com/jitr-agent/jitr-agent/internal/cloud/bundle"
)

// inventoryName is the file of --inventory in the function's zip.
const inventoryName = "inventory.txt"

func newCloudDeploy(o *cloud.Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "deploy --ca-id ID",
		Short: "Set up what activates a CA's gateways",
		Long: `Set up what activates the gateways of a registered CA: roles with the least
permissions, the function (jitr-activator in AWS Lambda), its log group, the
policy for the gateways, the rules that hand events to the function, and a queue
for what failed. What is there already and as it should be stays untouched.

Several CAs live side by side: give the command once for each. Each CA has a
policy of its own, unless they are given the same --tenant, as for a CA and its
successor. There is one function, so --name-pattern, --inventory and --crl hold
for the gateways of all CAs, whichever the command names.

What is not said stays as it is deployed, but for --unreserved, which has to be
given each time.`,
		Example: `  jitrctl cloud deploy --ca-id $ID --dry-run
  jitrctl cloud deploy --ca-id $ID --queue --topic-prefix acme`,
		Args: cobra.NoArgs,
	}
	ca := caIDFlag(cmd, ", which 'jitrctl cloud register-ca' prints")
	required(cmd, "ca-id")
	f := cmd.Flags()
	c := cloud.Choices{DefaultArch: cloud.ArchitectureFor(runtime.GOARCH)}
	f.StringVar(&c.Arch, "arch", "", "of the function: "+strings.Join(cloud.Architectures(), " or ")+" (default: as deployed, else that of this machine)")
	f.StringVar(&c.Tenant, "tenant", "", "`NAME` of the policy that CAs share (default: the CA's first 12 digits)")
	prefix := f.String("topic-prefix", "", "`PREFIX` before the gateways' topics, as in acme/dt/gw-1/system; agent.toml has to say the same")
	queue := f.Bool("queue", false, "put an SQS queue between rules and function: for many gateways that are switched on together")
	f.BoolVar(&c.Unreserved, "unreserved", false, "reserve no concurrency for the function: a new account has none to spare; give it each time")
	pattern := f.String("name-pattern", "", "activate only gateways whose whole name matches this regular `EXPRESSION`, of all CAs")
	inventory := f.String("inventory", "", "activate only gateways in this `FILE`, of all CAs: a thing name or certificate id a line")
	crls := f.StringSlice("crl", nil, "https `URL` of a revocation list; each deployed CA needs one; can be repeated")
	zip := f.String("zip", "", "`FILE` with the function's code (default: the one in jitrctl)")
	plan := newPlanFlags(cmd)

	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		const doing = "deploy"
		c.CA = *ca
		content, err := readInventory(*inventory)
		if err != nil {
			return cloudFailed(doing, err)
		}
		c.Zip = func(arch string) ([]byte, error) { return functionZip(*zip, arch, content) }
		for flag, set := range map[string]func(){
			"topic-prefix": func() { c.Prefix = prefix },
			"queue":        func() { c.Queue = queue },
			"name-pattern": func() { c.NamePattern = pattern },
			"crl":          func() { c.CRLs = crls },
			"inventory": func() {
				name := ""
				if content != nil {
					name = inventoryName
				}
				c.Inventory = &name
			},
		} {
			if f.Changed(flag) {
				set()
			}
		}
		account, err := connect(cmd, o)
		if err != nil {
			return cloudFailed(doing, err)
		}
		d, err := account.PlanDeploy(cmd.Context(), c)
		if err != nil {
			return cloudFailed(doing, err)
		}
		if err := plan.carryOut(cmd, d.Plan); err != nil {
			return err
		}
		for _, w := range d.Warnings {
			fmt.Fprintln(cmd.ErrOrStderr(), "warning:", w)
		}
		return nil
	}
	return cmd
}

// functionZip is the code for an architecture: from a file, or our own.
func functionZip(file, arch string, inventory []byte) ([]byte, error) {
	data, err := bundle.Zip(arch)
	if file != "" {
		if data, err = os.ReadFile(file); err == nil {
			err = bundle.Check(data)
		}
		if err != nil {
			err = fmt.Errorf("use --zip %s: %w", file, err)
		}
	}
	if err != nil || inventory == nil {
		return data, err
	}
	return bundle.Add(data, inventoryName, inventory)
}

// readInventory is nil for no file. What the function would not take is told
// here, before any call.
func readInventory(file string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	_, err = activation.ParseInventory(file, data)
	return data, err
}
