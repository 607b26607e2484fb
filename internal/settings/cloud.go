package settings

import (
	"fmt"
	"regexp"
)

// DefaultPort is the port of MQTT over TLS, where cloud.endpoint has none.
const DefaultPort = 8883

// HostPort splits the endpoint. The port is DefaultPort where the endpoint has
// none. An empty endpoint is ErrNoEndpoint.
func (c Cloud) HostPort() (host string, port int, err error) {
	if c.Endpoint == "" {
		return "", 0, ErrNoEndpoint
	}
	host, port, err = splitEndpoint(c.Endpoint)
	if err != nil {
		return "", 0, fmt.Errorf("cloud.endpoint: %w", err)
	}
	return host, port, nil
}

// legacyEndpoint is the form of the retired iot:Data endpoint, whose
// certificate no current root store vouches for.
var legacyEndpoint = regexp.MustCompile(`^[a-z0-9]+\.iot\.[a-z0-9-]+\.amazonaws\.com(:[0-9]+)?$`)

// Warnings are sentences about settings that are allowed, and yet keep the
// agent from doing what their author wants. file is where s came from.
func (s *Settings) Warnings(file string) []string {
	var all []string
	if s.Cloud.Endpoint == "" {
		all = append(all, fmt.Sprintf("%s: cloud.endpoint is empty, so the agent waits; set it to the address that \"aws iot describe-endpoint --endpoint-type iot:Data-ATS\" prints", file))
	}
	if legacyEndpoint.MatchString(s.Cloud.Endpoint) {
		all = append(all, fmt.Sprintf("%s: cloud.endpoint %s is of the retired kind without -ats, whose certificate is not trusted any more; use the address that \"aws iot describe-endpoint --endpoint-type iot:Data-ATS\" prints", file, s.Cloud.Endpoint))
	}
	if len(s.Identity.PCRs) > 0 && s.Identity.Key != "tpm-sealed" {
		all = append(all, fmt.Sprintf("%s: identity.pcrs has no effect while identity.key is %s; set identity.key to tpm-sealed, or remove identity.pcrs", file, s.Identity.Key))
	}
	return all
}
