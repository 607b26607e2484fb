package cloud

import (
	"context"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
)

const (
	kindPolicy        = "policy"
	kindPolicyVersion = "policy version"
)

// maxVersions is how many versions a policy can have (AWS IoT Core quotas).
const maxVersions = 5

// planPolicy compares a tenant's policy. Another document is a new version,
// which all the tenant's gateways have at once; the old ones stay, as far as
// there is room, for the operator to go back to.
func (a *Account) planPolicy(ctx context.Context, have found, want DevicePolicy) ([]Change, error) {
	if have.arn == "" {
		return []Change{change(Create, kindPolicy, want.Name, func(ctx context.Context) error {
			_, err := a.iot.CreatePolicy(ctx, &iot.CreatePolicyInput{
				PolicyName: &want.Name, PolicyDocument: new(want.Document.String()), Tags: iotTags(tags(tagCA, want.CA, tagPrefix, want.Prefix)),
			})
			return err
		})}, nil
	}
	if !have.ours() {
		return nil, foreign(kindPolicy, want.Name)
	}
	out, err := a.iot.GetPolicy(ctx, &iot.GetPolicyInput{PolicyName: &want.Name})
	if err != nil {
		return nil, fmt.Errorf("look for the policy %s: %w", want.Name, err)
	}
	var changes []Change
	if !want.Document.sameAs(aws.ToString(out.PolicyDocument)) {
		versions, err := a.policyVersions(ctx, want.Name)
		if err != nil {
			return nil, err
		}
		if len(versions)+1 >= maxVersions { // with the default
			changes = append(changes, a.removePolicyVersion(want.Name, versions[0]))
		}
		changes = append(changes, change(Update, kindPolicy, want.Name, func(ctx context.Context) error {
			_, err := a.iot.CreatePolicyVersion(ctx, &iot.CreatePolicyVersionInput{PolicyName: &want.Name, PolicyDocument: new(want.Document.String()), SetAsDefault: true})
			return err
		}, "document"))
	}
	if have.tags[tagPrefix] != want.Prefix {
		changes = append(changes, a.tagPrefix(have.arn, want))
	}
	if len(changes) == 0 {
		return keep(kindPolicy, want.Name), nil
	}
	return changes, nil
}

// tagPrefix notes the topic prefix for the next plan. It comes behind the
// document: cut off between the two, the same command does the rest.
func (a *Account) tagPrefix(arn string, want DevicePolicy) Change {
	return change(Update, "policy tag", want.Name, func(ctx context.Context) error {
		if want.Prefix == "" {
			_, err := a.iot.UntagResource(ctx, &iot.UntagResourceInput{ResourceArn: &arn, TagKeys: []string{tagPrefix}})
			return err
		}
		_, err := a.iot.TagResource(ctx, &iot.TagResourceInput{ResourceArn: &arn, Tags: []iottypes.Tag{{Key: aws.String(tagPrefix), Value: &want.Prefix}}})
		return err
	}, "topic prefix")
}

// retagPolicy names another CA as the one that a policy was made for.
func (a *Account) retagPolicy(arn string, want DevicePolicy) Change {
	return change(Update, "policy tag", want.Name, func(ctx context.Context) error {
		_, err := a.iot.TagResource(ctx, &iot.TagResourceInput{ResourceArn: &arn, Tags: []iottypes.Tag{{Key: aws.String(tagCA), Value: &want.CA}}})
		return err
	}, "the CA that it was made for")
}

// policyVersions are the ids of those that are not the default, oldest first.
func (a *Account) policyVersions(ctx context.Context, name string) ([]string, error) {
	out, err := a.iot.ListPolicyVersions(ctx, &iot.ListPolicyVersionsInput{PolicyName: &name})
	if err != nil {
		return nil, fmt.Errorf("list the versions of the policy %s: %w", name, err)
	}
	slices.SortFunc(out.PolicyVersions, func(a, b iottypes.PolicyVersion) int {
		return aws.ToTime(a.CreateDate).Compare(aws.ToTime(b.CreateDate))
	})
	var ids []string
	for _, v := range out.PolicyVersions {
		if !v.IsDefaultVersion {
			ids = append(ids, aws.ToString(v.VersionId))
		}
	}
	return ids, nil
}

func (a *Account) removePolicyVersion(name, version string) Change {
	return change(Delete, kindPolicyVersion, name+" "+version, func(ctx context.Context) error {
		_, err := a.iot.DeletePolicyVersion(ctx, &iot.DeletePolicyVersionInput{PolicyName: &name, PolicyVersionId: &version})
		return err
	})
}

// removePolicy detaches a policy from everything first.
func (a *Account) removePolicy(ctx context.Context, name string) ([]Change, error) {
	var changes []Change
	for pages := iot.NewListTargetsForPolicyPaginator(a.iot, &iot.ListTargetsForPolicyInput{PolicyName: &name}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list what the policy %s is attached to: %w", name, err)
		}
		for _, target := range page.Targets {
			changes = append(changes, a.detachPolicy(name, target))
		}
	}
	versions, err := a.policyVersions(ctx, name)
	if err != nil {
		return nil, err
	}
	for _, v := range versions {
		changes = append(changes, a.removePolicyVersion(name, v))
	}
	return append(changes, change(Delete, kindPolicy, name, func(ctx context.Context) error {
		_, err := a.iot.DeletePolicy(ctx, &iot.DeletePolicyInput{PolicyName: &name})
		return err
	})), nil
}

func (a *Account) detachPolicy(name, target string) Change {
	return change(Delete, "policy attachment", name+" of "+afterSlash(target), func(ctx context.Context) error {
		_, err := a.iot.DetachPolicy(ctx, &iot.DetachPolicyInput{PolicyName: &name, Target: &target})
		return err
	})
}
