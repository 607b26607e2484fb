package activation

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// The environment variables of the Lambda function. Lambda takes 4 KB of
// environment in all, which is room for some 30 CAs.
const (
	envPrefix         = "JITR_"
	envPolicies       = envPrefix + "CA_POLICIES"
	envAccount        = envPrefix + "ACCOUNT"
	envThingName      = envPrefix + "THING_NAME"
	envExclusiveThing = envPrefix + "EXCLUSIVE_THING"
	envNamePattern    = envPrefix + "NAME_PATTERN"
	envInventory      = envPrefix + "INVENTORY"
	envCRLs           = envPrefix + "CRLS"
	envQuotaPercent   = envPrefix + "QUOTA_PERCENT"
)

func variables() []string {
	return []string{envPolicies, envAccount, envThingName, envExclusiveThing, envNamePattern, envInventory, envCRLs, envQuotaPercent}
}

// Environment is c as FromEnvironment reads it; fields with their zero value
// are left out.
func (c Config) Environment() map[string]string {
	env := map[string]string{}
	set := func(name, value string) {
		if value != "" {
			env[name] = value
		}
	}
	var policies []string
	for _, id := range sortedKeys(c.Policies) {
		policies = append(policies, id+"="+c.Policies[id])
	}
	set(envPolicies, strings.Join(policies, " "))
	set(envAccount, c.Account)
	set(envThingName, string(c.ThingName))
	if c.ExclusiveThing {
		set(envExclusiveThing, "true")
	}
	set(envNamePattern, c.NamePattern)
	set(envInventory, c.Inventory)
	set(envCRLs, strings.Join(c.CRLs, " "))
	if c.QuotaPercent != 0 {
		set(envQuotaPercent, strconv.Itoa(c.QuotaPercent))
	}
	return env
}

// FromEnvironment reads a Config with getenv, which is os.Getenv. It says
// everything that is wrong, a line each; the error wraps ErrBadConfig.
func FromEnvironment(getenv func(string) string) (Config, error) {
	c := Config{
		Policies:    map[string]string{},
		Account:     getenv(envAccount),
		ThingName:   NameSource(getenv(envThingName)),
		NamePattern: getenv(envNamePattern),
		Inventory:   getenv(envInventory),
		CRLs:        strings.Fields(getenv(envCRLs)),
	}
	var errs []error
	wrong := func(variable, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: %s: %s", ErrBadConfig, variable, fmt.Sprintf(format, args...)))
	}
	for pair := range strings.FieldsSeq(getenv(envPolicies)) {
		id, policy, ok := strings.Cut(pair, "=")
		_, twice := c.Policies[id]
		switch {
		case !ok:
			wrong(envPolicies, "%q is not CAID=POLICY", pair)
		case twice:
			wrong(envPolicies, "the CA %s is there twice", id)
		default:
			c.Policies[id] = policy
		}
	}
	switch s := getenv(envExclusiveThing); s {
	case "", "false":
	case "true":
		c.ExclusiveThing = true
	default:
		wrong(envExclusiveThing, "%q is neither true nor false", s)
	}
	if s := getenv(envQuotaPercent); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			wrong(envQuotaPercent, "%q is not a number from 1 to %d", s, maxQuotaPercent)
		} else {
			c.QuotaPercent = n
		}
	}
	return c, errors.Join(append(errs, c.Validate())...)
}

// UnknownVariables names the JITR_ variables in environ (as os.Environ has it)
// that mean nothing to the activator: a typing error must not switch a check
// off. The error wraps ErrBadConfig.
func UnknownVariables(environ []string) error {
	var errs []error
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, envPrefix) && !slices.Contains(variables(), name) {
			errs = append(errs, fmt.Errorf("%w: %s: there is no such variable; there are %s", ErrBadConfig, name, strings.Join(variables(), ", ")))
		}
	}
	return errors.Join(errs...)
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
