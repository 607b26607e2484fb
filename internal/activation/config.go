package activation

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// Config says which certificates are activated, and how. The Lambda function
// has it from its environment; see FromEnvironment.
type Config struct {
	// Policies are the CAs whose certificates are activated: from the CA's
	// certificateId to the name of the AWS IoT policy that its gateways get.
	// Certificates of other CAs are left alone. CAs with the same policy are
	// one tenant and can sign for each other's things. At least one.
	//
	// JITR_CA_POLICIES: CAID=POLICY, several with blanks between them.
	Policies map[string]string

	// Account is the id of the AWS account; events of another one are left
	// alone. Empty: not looked at.
	//
	// JITR_ACCOUNT
	Account string

	// ThingName is what names the thing: the certificate's common name (the
	// zero value), the serialNumber of its subject, or its certificateId. The
	// gateway's cloud.thing_name has to say the same.
	//
	// JITR_THING_NAME: common-name, serial-number or certificate-id.
	ThingName NameSource

	// ExclusiveThing attaches the certificate as EXCLUSIVE_THING: then it can
	// belong to no other thing. Two certificates of one thing work either way.
	//
	// JITR_EXCLUSIVE_THING: true or false.
	ExclusiveThing bool

	// NamePattern is a regular expression that the whole thing name must
	// match. Empty: every name.
	//
	// JITR_NAME_PATTERN
	NamePattern string

	// Inventory is a text file with the only gateways that are let in: a
	// thing name or certificateId a line; # begins a comment. It lies in the
	// function's zip. Empty: all.
	//
	// JITR_INVENTORY
	Inventory string

	// CRLs are certificate revocation lists, PEM or DER: files in the
	// function's zip, or https URLs that are read again as they age. Where
	// there is one, each CA in Policies needs a current one of its own.
	//
	// JITR_CRLS: several with blanks between them.
	CRLs []string

	// QuotaPercent is how much of AWS IoT's default API quotas one instance
	// uses. More than 100 is for an account whose quotas were raised. 0: 100.
	//
	// JITR_QUOTA_PERCENT: 1 to 10000.
	QuotaPercent int
}

// NameSource is the field of a certificate that names its thing.
type NameSource string

// The name sources. The zero value is FromCommonName.
const (
	FromCommonName    NameSource = "common-name"
	FromSerialNumber  NameSource = "serial-number"
	FromCertificateID NameSource = "certificate-id"
)

const maxQuotaPercent = 10_000

var (
	hexID      = regexp.MustCompile(`^[0-9a-f]{64}$`)              // certificateId in the AWS IoT API reference, as AWS writes it
	policyName = regexp.MustCompile(`^[a-zA-Z0-9_+=,.@-]{1,128}$`) // policyName in the same
	accountID  = regexp.MustCompile(`^[0-9]{12}$`)
)

// IsCertificateID says whether s is a certificateId as AWS IoT writes it: of a
// device certificate or of a CA.
func IsCertificateID(s string) bool { return hexID.MatchString(s) }

// Validate says everything that is wrong, a line each. It does not open files.
// The error wraps ErrBadConfig.
func (c Config) Validate() error {
	var errs []error
	wrong := func(variable, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: %s: %s", ErrBadConfig, variable, fmt.Sprintf(format, args...)))
	}
	if len(c.Policies) == 0 {
		wrong(envPolicies, "it names no CA, so nothing would be activated; say CAID=POLICY")
	}
	for _, id := range sortedKeys(c.Policies) {
		if !IsCertificateID(id) {
			wrong(envPolicies, "%q is not the certificateId of a CA, 64 digits 0-9 a-f", id)
		}
		if !policyName.MatchString(c.Policies[id]) {
			wrong(envPolicies, "%q is not the name of a policy, 1 to 128 of a-z A-Z 0-9 _ + = , . @ -", c.Policies[id])
		}
	}
	if c.Account != "" && !accountID.MatchString(c.Account) {
		wrong(envAccount, "%q is not an AWS account id, 12 digits", c.Account)
	}
	switch c.ThingName {
	case "", FromCommonName, FromSerialNumber, FromCertificateID:
	default:
		wrong(envThingName, "%q is none of %s, %s and %s", c.ThingName, FromCommonName, FromSerialNumber, FromCertificateID)
	}
	if _, err := regexp.Compile(c.NamePattern); err != nil {
		wrong(envNamePattern, "%v", err)
	}
	for _, s := range c.CRLs {
		if s == "" || strings.ContainsAny(s, " \t\n") {
			wrong(envCRLs, "%q has blanks in it", s)
		} else if err := checkCRLSource(s); err != nil {
			wrong(envCRLs, "%v", err)
		}
	}
	if c.QuotaPercent < 0 || c.QuotaPercent > maxQuotaPercent {
		wrong(envQuotaPercent, "%d is not between 1 and %d", c.QuotaPercent, maxQuotaPercent)
	}
	return errors.Join(errs...)
}

// checkCRLSource takes a path or an https URL: a list that anybody on the way
// could replace by an older one would be no check.
func checkCRLSource(s string) error {
	if !isURL(s) {
		return nil
	}
	u, err := url.Parse(s)
	if err != nil {
		return err
	}
	if u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("%q is neither a file nor an https URL", s)
	}
	return nil
}

func isURL(s string) bool { return strings.Contains(s, "://") }

func (c Config) quotaPercent() int {
	if c.QuotaPercent == 0 {
		return 100
	}
	return c.QuotaPercent
}
