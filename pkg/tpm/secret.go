package tpm

import (
	"errors"
	"fmt"
)

// Secret is a password. It refuses to be printed, logged or marshalled. The
// zero Secret is none.
type Secret struct{ value []byte }

// NewSecret takes the bytes as they are.
func NewSecret(value []byte) Secret { return Secret{value: value} }

func (s Secret) isSet() bool { return len(s.value) > 0 }

// Format writes "(secret)", whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, "(secret)") }

// MarshalText is always an error.
func (Secret) MarshalText() ([]byte, error) { return nil, errors.New("a secret is not marshalled") }
