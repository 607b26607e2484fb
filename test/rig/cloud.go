package rig

import "testing"

// AWS is the environment in which the aws CLI, the AWS SDKs and jitrctl work
// with this emulator, whatever else is configured here. aws CLIs before 2.13
// do not read AWS_ENDPOINT_URL; they need --endpoint-url as well.
func (s *Sim) AWS() []string {
	return []string{
		"AWS_ENDPOINT_URL=" + s.URL(), "AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1",
		"AWS_ACCESS_KEY_ID=rig", "AWS_SECRET_ACCESS_KEY=rig", "AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER=",
		"AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null",
	}
}

// URL is the control plane's, for --endpoint-url.
func (s *Sim) URL() string { return "http://" + s.API }

// Cloud runs a command of 'jitrctl cloud', which must succeed, and gives its
// stdout.
func (s *Sim) Cloud(t testing.TB, args ...string) string {
	t.Helper()
	r := RunEnv(t, s.AWS(), Bin(t, "jitrctl"), append([]string{"cloud"}, args...)...)
	if r.Code != 0 {
		t.Fatal(r)
	}
	return r.Stdout
}
