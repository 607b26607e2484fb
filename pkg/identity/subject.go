package identity

import (
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"strings"
)

// ParseSubject reads a distinguished name as people write it: "CN=gw-1,O=Acme"
// or, as openssl takes it, "/CN=gw-1/O=Acme". A backslash takes the meaning
// off the character after it. The attributes are CN, O, OU, L, ST, C, STREET,
// POSTALCODE and SERIALNUMBER; CN and SERIALNUMBER stand once at most.
func ParseSubject(s string) (pkix.Name, error) {
	name, err := parseSubject(s)
	if err != nil {
		return pkix.Name{}, fmt.Errorf("the subject %q: %w; write it like CN=gw-1,O=Acme", s, err)
	}
	return name, nil
}

func parseSubject(s string) (name pkix.Name, err error) {
	separator := byte(',')
	if strings.HasPrefix(s, "/") {
		separator, s = '/', s[1:]
	}
	parts, err := split(s, separator)
	if err != nil {
		return name, err
	}
	for _, part := range parts {
		key, value, ok := strings.Cut(part, "=")
		key, value = strings.ToUpper(strings.TrimSpace(key)), strings.TrimSpace(value)
		if !ok {
			return name, fmt.Errorf("%q has no =", part)
		}
		if value == "" {
			return name, fmt.Errorf("%s is empty", key)
		}
		if err := set(&name, key, value); err != nil {
			return name, err
		}
	}
	return name, nil
}

func set(name *pkix.Name, key, value string) error {
	once := func(field *string) error {
		if *field != "" {
			return fmt.Errorf("%s stands twice", key)
		}
		*field = value
		return nil
	}
	switch key {
	case "CN":
		return once(&name.CommonName)
	case "SERIALNUMBER":
		return once(&name.SerialNumber)
	case "O":
		name.Organization = append(name.Organization, value)
	case "OU":
		name.OrganizationalUnit = append(name.OrganizationalUnit, value)
	case "L":
		name.Locality = append(name.Locality, value)
	case "ST", "S":
		name.Province = append(name.Province, value)
	case "C":
		if len(value) != 2 { // X.520: an ISO 3166 code
			return fmt.Errorf("the country %q does not have two letters", value)
		}
		name.Country = append(name.Country, value)
	case "STREET":
		name.StreetAddress = append(name.StreetAddress, value)
	case "POSTALCODE":
		name.PostalCode = append(name.PostalCode, value)
	default:
		return fmt.Errorf("the attribute %q is not known", key)
	}
	return nil
}

// split cuts s at the separator and takes the backslashes away.
func split(s string, separator byte) (parts []string, err error) {
	var part strings.Builder
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
			if i == len(s) {
				return nil, errors.New("it ends with a backslash")
			}
			part.WriteByte(s[i])
		case separator:
			parts = append(parts, part.String())
			part.Reset()
		default:
			part.WriteByte(s[i])
		}
	}
	return append(parts, part.String()), nil
}
