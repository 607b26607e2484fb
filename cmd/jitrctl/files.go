package main

import (
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/jitr-agent/jitr-agent/internal/atomicfile"
	"github.com/jitr-agent/jitr-agent/internal/certs"
)

// std is the file name that stands for stdin or stdout.
const std = "-"

// readFile reads file, or stdin for "-".
func readFile(cmd *cobra.Command, file string) ([]byte, error) {
	if file == std {
		return io.ReadAll(cmd.InOrStdin())
	}
	return os.ReadFile(file)
}

// writeChain writes certificates as PEM to file, or to stdout for "-".
func writeChain(cmd *cobra.Command, file string, chain []*x509.Certificate) error {
	return writeFile(cmd, "certificate", file, certs.EncodeChain(chain))
}

// writeFile writes a result to file, or to stdout for "-".
func writeFile(cmd *cobra.Command, what, file string, data []byte) error {
	if file == std {
		_, err := cmd.OutOrStdout().Write(data)
		return err
	}
	if err := atomicfile.Write(file, data, 0o644); err != nil {
		return fmt.Errorf("write the %s to %s: %w", what, file, err)
	}
	return nil
}

// notes is where a sentence about the result goes: stdout, unless the result
// itself is there.
func notes(cmd *cobra.Command, out string) io.Writer {
	if out == std {
		return cmd.ErrOrStderr()
	}
	return cmd.OutOrStdout()
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }
