package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/jitr-agent/jitr-agent/internal/ca"
	"github.com/jitr-agent/jitr-agent/internal/certs"
	"github.com/jitr-agent/jitr-agent/internal/cli"
	"github.com/jitr-agent/jitr-agent/internal/cloud"
)

func newCloudRegisterCA(o *cloud.Options) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "register-ca {--dir DIR | --ca FILE [--key FILE | --verification-cert FILE]}",
		Short: "Register a CA: ACTIVE, with auto-registration",
		Long: `Register a CA with AWS IoT: get the registration code, prove with the CA's key
that you hold it, and register the CA as ACTIVE with auto-registration. A CA
that is registered already is only brought to that.

In the mode DEFAULT one account for each Region can have the CA, and AWS wants
the proof. In the mode SNI_ONLY several accounts can have it, there is no proof,
and devices must send the server name (jitr-agent does). Without --mode it is
DEFAULT where the key is at hand, and an error where it is not.

Where the CA's key is on another machine, make the proof there with
'jitrctl ca verification-cert' and bring it with --verification-cert.`,
		Example: `  jitrctl cloud register-ca --dir CA
  jitrctl cloud register-ca --ca CAroot.pem --key CAroot.key --region eu-central-1`,
		Args: cobra.NoArgs,
	}
	files := caFiles{ask: passphraseFlag(cmd)}
	cmd.Flags().StringVar(&files.cert, "ca", "", "PEM `FILE` with the CA's certificate")
	cmd.Flags().StringVar(&files.key, "key", "", "PEM `FILE` with its private key")
	cmd.Flags().StringVar(&files.dir, "dir", "", "directory of the CA, in the place of --ca and --key")
	cmd.Flags().StringVar(&files.proof, "verification-cert", "", "PEM `FILE` of 'jitrctl ca verification-cert', in the place of --key")
	mode := cmd.Flags().String("mode", "", "DEFAULT or SNI_ONLY")
	plan := newPlanFlags(cmd)
	cmd.MarkFlagsOneRequired("ca", "dir")
	cmd.MarkFlagsMutuallyExclusive("key", "dir", "verification-cert")

	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if m := cloud.Mode(*mode); m != "" && m != cloud.ModeDefault && m != cloud.ModeSNIOnly {
			return cli.Usage(fmt.Errorf("--mode %q is unknown; use %s or %s", *mode, cloud.ModeDefault, cloud.ModeSNIOnly))
		}
		r := cloud.Registration{Mode: cloud.Mode(*mode), Now: time.Now()}
		if err := files.open(&r); err != nil {
			return cloudFailed("register the CA", err)
		}
		account, err := connect(cmd, o)
		if err != nil {
			return cloudFailed("register the CA", err)
		}
		changes, err := account.PlanRegisterCA(cmd.Context(), r)
		if err != nil {
			return cloudFailed("register the CA", err)
		}
		return plan.carryOut(cmd, changes)
	}
	return cmd
}

// caFiles is where a CA and the proof of its key are.
type caFiles struct {
	cert, key, dir, proof string
	ask                   ca.Passphrase
}

// open reads them. That the key is the CA's is seen here, before any call.
func (f caFiles) open(r *cloud.Registration) error {
	authority, err := ca.OpenFiles(f.cert, f.key, f.ask)
	if f.dir != "" {
		authority, err = ca.Open(f.dir, f.ask)
	}
	if err != nil {
		return err
	}
	r.CA = authority.Certificate()
	if f.dir != "" && f.cert != "" {
		named, err := ca.OpenFiles(f.cert, "", nil)
		if err != nil {
			return err
		}
		if !named.Certificate().Equal(r.CA) {
			return cli.Usage(fmt.Errorf("%s and %s hold different CAs; give one of them", f.cert, f.dir))
		}
	}
	switch {
	case f.proof != "":
		r.Prove, err = readProof(f.proof)
		return err
	case f.key == "" && f.dir == "", r.Mode == cloud.ModeSNIOnly, !r.CA.IsCA: // no proof is needed, or none helps
		return nil
	}
	prove, err := authority.Prover(r.Now)
	if f.dir != "" && r.Mode == "" && errors.Is(err, os.ErrNotExist) {
		return nil // a copy without the key; whether it is needed is seen later
	}
	if err != nil {
		return err
	}
	r.Prove = func(code string) ([]byte, error) {
		cert, err := prove(code)
		if err != nil {
			return nil, err
		}
		return certs.EncodeChain([]*x509.Certificate{cert}), nil
	}
	return nil
}

// readProof gives a proof that was made elsewhere, whatever the code: whether
// it is the right one, AWS says.
func readProof(file string) (func(string) ([]byte, error), error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	chain, err := certs.ParseChain(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return func(string) ([]byte, error) { return certs.EncodeChain(chain[:1]), nil }, nil
}
