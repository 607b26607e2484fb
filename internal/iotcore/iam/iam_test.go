package iam

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/iotcore/awsapi"
)

const (
	roleARN = "arn:aws:iam::123456789012:role/r"
	trust   = `{"Statement":{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}}`
)

func service(documents map[string]string) *Service {
	s := New(awsapi.Place{Region: "us-east-1", Account: "123456789012"}, func() {})
	s.roles["r"] = &role{Name: "r", Path: "/", Trust: trust, CreatedAt: time.Now(), Inline: documents}
	return s
}

func TestRoleIsEvaluated(t *testing.T) {
	const cert = "arn:aws:iot:us-east-1:123456789012:cert/"
	s := service(map[string]string{
		"a": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iot:Describe*","IOT:updatecertificate"],"Resource":"` + cert + `*"}]}`,
		"b": `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"` + cert + `bad"}]}`,
	})
	keys, err := s.Assume(roleARN, "f")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ action, resource, why string }{
		{"iot:DescribeCertificate", cert + "good", ""},
		{"iot:UpdateCertificate", cert + "good", ""},
		{"iot:UpdateCertificate", cert + "bad", "with an explicit deny"},
		{"iot:AttachPolicy", cert + "good", "because no identity-based policy allows the iot:AttachPolicy action"},
		{"iot:DescribeCertificate", "*", "because no identity-based policy allows"},
	} {
		err := s.May(keys.AccessKey, tt.action, tt.resource)
		denied, is := errors.AsType[*awsapi.Error](err)
		if (err == nil) != (tt.why == "") || is && !strings.Contains(denied.Message, tt.why) {
			t.Errorf("%s on %s: %v, want %q", tt.action, tt.resource, err, tt.why)
		}
		if again := s.RoleMay(roleARN, "f", tt.action, tt.resource); (again == nil) != (err == nil) {
			t.Errorf("%s on %s: the role says %v", tt.action, tt.resource, again)
		}
	}
	if err := s.May("AKIA", "iot:AttachPolicy", "*"); err != nil {
		t.Errorf("an administrator: %v", err)
	}
	s.Forget(keys.AccessKey)
	if err := s.May(keys.AccessKey, "iot:DescribeCertificate", cert+"good"); err == nil || !strings.Contains(err.Error(), "ExpiredTokenException") {
		t.Errorf("keys that were forgotten: %v", err)
	}
}

func TestTrust(t *testing.T) {
	const (
		rules = "arn:aws:iam::123456789012:role/rules"
		rule  = "arn:aws:iot:us-east-1:123456789012:rule/"
	)
	s := service(nil)
	// As the AWS IoT developer guide has it, "Granting an AWS IoT rule the
	// access it requires".
	s.roles["rules"] = &role{Name: "rules", Path: "/", CreatedAt: time.Now(), Trust: `{"Statement":{"Effect":"Allow","Principal":{"Service":"iot.amazonaws.com"},"Action":"sts:AssumeRole",
		"Condition":{"StringEquals":{"aws:SourceAccount":"123456789012"},"ArnLike":{"aws:SourceArn":"` + rule + `jitr_*"}}}}`}
	for _, tt := range []struct {
		role, service, source string
		settle                time.Duration
		want                  bool
	}{
		{roleARN, "lambda.amazonaws.com", "", 0, true},
		{roleARN, "lambda.amazonaws.com", "", time.Hour, false},
		{roleARN, "iot.amazonaws.com", "", 0, false},
		{rules, "iot.amazonaws.com", rule + "jitr_1", 0, true},
		{rules, "iot.amazonaws.com", rule + "other", 0, false},
		{"arn:aws:iam::123456789012:role/other", "lambda.amazonaws.com", "", 0, false},
		{"arn:aws:iam::999999999999:role/r", "lambda.amazonaws.com", "", 0, false},
		{"arn:aws:iam::123456789012:role/path/r", "lambda.amazonaws.com", "", 0, false},
	} {
		if got := s.CanAssume(tt.role, tt.service, tt.source, tt.settle); got != tt.want {
			t.Errorf("%s for %s %s after %v: %t", tt.role, tt.service, tt.source, tt.settle, got)
		}
	}
}
