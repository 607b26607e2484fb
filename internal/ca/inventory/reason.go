package inventory

import (
	"fmt"
	"strings"
)

// Reason is why a certificate was revoked: the code of RFC 5280 §5.3.1 that
// stands in a CRL. It is written as openssl writes it.
type Reason int

// The reasons that this package treats in a way of their own.
const (
	Unspecified   Reason = 0
	KeyCompromise Reason = 1
	hold          Reason = 6
)

// reasonNames has the codes in their order. 7 is not used, and 8
// (removeFromCRL) is for delta CRLs, which AWS IoT's world does not have.
var reasonNames = [...]string{
	"unspecified", "keyCompromise", "CACompromise", "affiliationChanged", "superseded",
	"cessationOfOperation", "certificateHold", "", "", "privilegeWithdrawn", "AACompromise",
}

// Reasons are the words that ParseReason takes for a new revocation.
// certificateHold is not among them: a hold is made in AWS IoT, by INACTIVE.
func Reasons() []string {
	var names []string
	for code, name := range reasonNames {
		if name != "" && Reason(code) != hold {
			names = append(names, name)
		}
	}
	return names
}

// ParseReason reads one of Reasons, in upper or lower case; "" is unspecified.
// Errors wrap ErrBadReason.
func ParseReason(s string) (Reason, error) {
	reason, err := parseReason(s)
	if err != nil || reason == hold {
		return 0, fmt.Errorf("%w: %q; use one of %s", ErrBadReason, s, strings.Join(Reasons(), ", "))
	}
	return reason, nil
}

func parseReason(s string) (Reason, error) {
	if s == "" {
		return Unspecified, nil
	}
	for code, name := range reasonNames {
		if name != "" && strings.EqualFold(s, name) {
			return Reason(code), nil
		}
	}
	return 0, ErrBadReason
}

func (r Reason) String() string {
	if r < 0 || int(r) >= len(reasonNames) || reasonNames[r] == "" {
		return reasonNames[Unspecified]
	}
	return reasonNames[r]
}

// MarshalText writes the word.
func (r Reason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads the word.
func (r *Reason) UnmarshalText(text []byte) (err error) {
	*r, err = parseReason(string(text))
	return err
}
