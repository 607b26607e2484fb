package main

import (
	"crypto/x509"
	"time"

	"github.com/spf13/cobra"

	"github.com/jitr-agent/jitr-agent/internal/ca"
)

func newCAVerificationCert() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verification-cert --dir DIR --registration-code CODE --out FILE",
		Short: "Prove to AWS IoT that you hold the CA's key",
		Long: `Make the certificate that 'aws iot register-ca-certificate' wants as proof that
you hold the CA's private key: signed by the CA, with the registration code as
its common name. It is needed once, within 7 days.`,
		Example: "  jitrctl ca verification-cert --dir CA --registration-code $(aws iot get-registration-code --output text) --out Verify.crt",
		Args:    cobra.NoArgs,
	}
	dir, out, ask := dirFlag(cmd), outFlag(cmd), passphraseFlag(cmd)
	code := cmd.Flags().String("registration-code", "", "`CODE` from 'aws iot get-registration-code'")
	required(cmd, "registration-code")

	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		authority, err := ca.Open(*dir, ask)
		if err != nil {
			return failed("make a verification certificate with", *dir, err)
		}
		cert, err := authority.VerificationCertificate(*code, time.Now())
		if err != nil {
			return failed("make a verification certificate with", *dir, err)
		}
		return writeChain(cmd, *out, []*x509.Certificate{cert})
	}
	return cmd
}
