// Command jitr-agent takes a Linux gateway into AWS IoT Core by just-in-time
// registration and keeps it there: one static binary that is both the service
// (jitr-agent run) and the technician's command.
package main

import (
	"os"

	"github.com/jitr-agent/jitr-agent/internal/cli"
)

//go:generate go test -run TestManualPages -update

func main() {
	os.Exit(cli.Main(newRoot(), os.Args[1:], os.Stdout, os.Stderr))
}
