// Command pack makes the activator's zip for AWS Lambda out of its program:
// pack PROGRAM ZIP. The Makefile runs it.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/jitr-agent/jitr-agent/internal/atomicfile"
	"github.com/jitr-agent/jitr-agent/internal/cloud/bundle"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: pack PROGRAM ZIP")
	}
	binary, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	zip, err := bundle.Pack(binary)
	if err != nil {
		return err
	}
	return atomicfile.Write(args[1], zip, 0o644)
}
