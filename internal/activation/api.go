package activation

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/iot"
)

// API is what the activator needs of AWS IoT; *iot.Client has it.
type API interface {
	DescribeCertificate(context.Context, *iot.DescribeCertificateInput, ...func(*iot.Options)) (*iot.DescribeCertificateOutput, error)
	CreateThing(context.Context, *iot.CreateThingInput, ...func(*iot.Options)) (*iot.CreateThingOutput, error)
	DescribeThing(context.Context, *iot.DescribeThingInput, ...func(*iot.Options)) (*iot.DescribeThingOutput, error)
	AttachThingPrincipal(context.Context, *iot.AttachThingPrincipalInput, ...func(*iot.Options)) (*iot.AttachThingPrincipalOutput, error)
	AttachPolicy(context.Context, *iot.AttachPolicyInput, ...func(*iot.Options)) (*iot.AttachPolicyOutput, error)
	UpdateCertificate(context.Context, *iot.UpdateCertificateInput, ...func(*iot.Options)) (*iot.UpdateCertificateOutput, error)
	ListCertificatesByCA(context.Context, *iot.ListCertificatesByCAInput, ...func(*iot.Options)) (*iot.ListCertificatesByCAOutput, error)
	ListThingPrincipals(context.Context, *iot.ListThingPrincipalsInput, ...func(*iot.Options)) (*iot.ListThingPrincipalsOutput, error)
	DescribeCACertificate(context.Context, *iot.DescribeCACertificateInput, ...func(*iot.Options)) (*iot.DescribeCACertificateOutput, error)
}

// Permission is an IAM action that the activator's role needs, and the AWS
// IoT resources it needs it on: "cert/*" stands for
// arn:PARTITION:iot:REGION:ACCOUNT:cert/*, and "*" for itself.
type Permission struct {
	Action    string
	Resources []string
}

// Permissions are those of API, and no more. Where the Service Authorization
// Reference for AWS IoT gives an action no resource type, a policy that names
// one never matches; it has to say "*".
func Permissions() []Permission {
	return []Permission{
		{"iot:DescribeCertificate", []string{"cert/*"}},
		{"iot:UpdateCertificate", []string{"cert/*"}},
		{"iot:AttachPolicy", []string{"cert/*"}},
		{"iot:CreateThing", []string{"thing/*"}},
		{"iot:DescribeThing", []string{"thing/*"}},
		{"iot:ListThingPrincipals", []string{"thing/*"}},
		{"iot:DescribeCACertificate", []string{"cacert/*"}},
		{"iot:AttachThingPrincipal", []string{"*"}}, // no resource type
		{"iot:ListCertificatesByCA", []string{"*"}}, // no resource type
	}
}
