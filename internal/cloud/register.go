package cloud

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/jitr-agent/jitr-agent/internal/certs"
)

const kindCA = "CA"

// Mode is the certificate mode of a CA (RegisterCACertificate in the AWS IoT
// API reference).
type Mode string

// The modes. The empty one leaves the choice to RegisterCA.
const (
	ModeDefault Mode = "DEFAULT"  // the CA's key is proved; one account per Region can have the CA
	ModeSNIOnly Mode = "SNI_ONLY" // no proof; many accounts can have it, and devices must send SNI
)

// Registration says which CA to register.
type Registration struct {
	CA   *x509.Certificate
	Mode Mode

	// Prove makes the verification certificate for a registration code, in
	// PEM. nil: the key is not at hand.
	Prove func(code string) ([]byte, error)

	Now time.Time
}

// PlanRegisterCA brings the CA to ACTIVE with auto-registration. A CA that is
// registered keeps its mode; another one being asked for is ErrOtherMode.
// Where nothing says the mode it is DEFAULT with the key at hand, and else
// ErrNoMode. What AWS would refuse for the certificate's sake is refused
// before any call: ErrUnsuitable.
func (a *Account) PlanRegisterCA(ctx context.Context, r Registration) (Plan, error) {
	plan, err := a.planRegisterCA(ctx, r)
	return plan, explain(err)
}

func (a *Account) planRegisterCA(ctx context.Context, r Registration) (Plan, error) {
	if err := suitable(r.CA, r.Now); err != nil {
		return nil, err
	}
	id := certs.ID(r.CA)
	have, err := a.ca(ctx, id)
	if errors.Is(err, ErrNotRegistered) {
		return a.planNewCA(r, id)
	}
	if err != nil {
		return nil, err
	}
	if mode := Mode(have.CertificateMode); r.Mode != "" && mode != "" && mode != r.Mode {
		return nil, fmt.Errorf("%s: %w, %s, and AWS IoT has no call to change it; leave out --mode, or delete the registration first with 'jitrctl cloud destroy --ca-id %s --ca'",
			certs.Name(r.CA), ErrOtherMode, mode, id)
	}
	var details []string
	in := &iot.UpdateCACertificateInput{CertificateId: &id}
	if have.Status != iottypes.CACertificateStatusActive {
		in.NewStatus = iottypes.CACertificateStatusActive
		details = append(details, differs("status", have.Status, in.NewStatus))
	}
	if have.AutoRegistrationStatus != iottypes.AutoRegistrationStatusEnable {
		in.NewAutoRegistrationStatus = iottypes.AutoRegistrationStatusEnable
		details = append(details, differs("auto-registration", have.AutoRegistrationStatus, in.NewAutoRegistrationStatus))
	}
	if len(details) == 0 {
		return keep(kindCA, id, string(have.CertificateMode)), nil
	}
	return Plan{change(Update, kindCA, id, func(ctx context.Context) error {
		_, err := a.iot.UpdateCACertificate(ctx, in)
		return err
	}, details...)}, nil
}

func (a *Account) planNewCA(r Registration, id string) (Plan, error) {
	mode := r.Mode
	switch {
	case mode == "" && r.Prove == nil:
		return nil, fmt.Errorf("%s: %w; give it with --key FILE or --dir DIR, or say --mode %s, which needs none and lets other accounts register the same CA", certs.Name(r.CA), ErrNoMode, ModeSNIOnly)
	case mode == ModeDefault && r.Prove == nil:
		return nil, fmt.Errorf("%s: %w, and the mode %s wants one; give the key with --key FILE or --dir DIR", certs.Name(r.CA), ErrNoMode, ModeDefault)
	case mode == "":
		mode = ModeDefault
	}
	return Plan{change(Create, kindCA, id, func(ctx context.Context) error {
		return a.registerCA(ctx, r, mode)
	}, string(mode))}, nil
}

func (a *Account) registerCA(ctx context.Context, r Registration, mode Mode) error {
	in := &iot.RegisterCACertificateInput{
		CaCertificate:   aws.String(string(certs.EncodeChain([]*x509.Certificate{r.CA}))),
		CertificateMode: iottypes.CertificateMode(mode),
		SetAsActive:     true, AllowAutoRegistration: true, Tags: iotTags(tags()),
	}
	if mode == ModeDefault {
		code, err := a.iot.GetRegistrationCode(ctx, &iot.GetRegistrationCodeInput{})
		if err != nil {
			return fmt.Errorf("get the registration code: %w", err)
		}
		proof, err := r.Prove(aws.ToString(code.RegistrationCode))
		if err != nil {
			return err
		}
		in.VerificationCertificate = aws.String(string(proof))
	}
	_, err := a.iot.RegisterCACertificate(ctx, in)
	if there, ok := errors.AsType[*iottypes.ResourceAlreadyExistsException](err); ok {
		return fmt.Errorf("%w; it is registered already as %s, perhaps by another account of this Region: take it out there, or register it here and there with --mode %s",
			refusal(there), orUnknown(aws.ToString(there.ResourceArn)), ModeSNIOnly)
	}
	switch code(err) {
	case "RegistrationCodeValidationException":
		return fmt.Errorf("%w; the verification certificate has the code of another account or Region, or it was made before the code was deleted: make a new one", refusal(err))
	case "CertificateValidationException":
		return fmt.Errorf("%w; look at the CA with 'openssl x509 -noout -text'", refusal(err))
	case "LimitExceededException":
		return fmt.Errorf("%w; AWS IoT takes 10 CAs with the same subject: delete those that no gateway needs", refusal(err))
	}
	return err
}

// refusal is an error of AWS by its name and its words, without the SDK's.
func refusal(err error) error {
	return &explainedError{err, code(err) + ": " + message(err)}
}

func orUnknown(s string) string {
	if s == "" {
		return "something that AWS does not name"
	}
	return s
}

// suitable is what AWS IoT looks at in a CA (AWS IoT developer guide, "Manage
// your CA certificates").
func suitable(ca *x509.Certificate, now time.Time) error {
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("%s: %w: %w", certs.Name(ca), ErrUnsuitable, fmt.Errorf(format, args...))
	}
	if !ca.IsCA {
		return wrong("%w (basicConstraints CA:TRUE is missing), and AWS IoT answers CertificateValidationException; make a CA with 'jitrctl ca init'", certs.ErrNotCA)
	}
	if err := certs.CheckValidity(ca, now); err != nil {
		return wrong("%w; make a new CA with 'jitrctl ca init', or check this machine's clock", err)
	}
	if err := certs.CheckKey(ca.PublicKey); err != nil {
		return wrong("%w; make a CA with 'jitrctl ca init'", err)
	}
	weak := []x509.SignatureAlgorithm{x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1}
	if slices.Contains(weak, ca.SignatureAlgorithm) {
		return wrong("it is signed with %s, which AWS IoT does not take; make it again with SHA-256", ca.SignatureAlgorithm)
	}
	return nil
}
