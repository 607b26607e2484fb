package ca

import (
	"fmt"
	"os"

	"github.com/jitr-agent/jitr-agent/internal/certs"
)

// OpenFiles is Open for a CA whose certificate and key are not in a directory
// of their own. It has no inventory, so it can only prove and bundle; whether
// its certificate is a CA's is for the caller to say. keyFile may be empty
// where nothing is signed.
func OpenFiles(certFile, keyFile string, ask Passphrase) (*CA, error) {
	data, err := os.ReadFile(certFile)
	if err != nil {
		return nil, err
	}
	chain, err := certs.ParseChain(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", certFile, err)
	}
	return &CA{keyFile: keyFile, ask: ask, chain: chain}, nil
}
