package cloud

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
)

const kindRole = "role"

// planRole compares a role and its one policy.
func (a *Account) planRole(ctx context.Context, want Role) ([]Change, error) {
	putPolicy := func(ctx context.Context) error {
		_, err := a.iam.PutRolePolicy(ctx, &iam.PutRolePolicyInput{
			RoleName: &want.Name, PolicyName: aws.String(inlinePolicy), PolicyDocument: new(want.Policy.String()),
		})
		return err
	}
	have, err := a.role(ctx, want.Name)
	if err != nil {
		return nil, err
	}
	if have == nil {
		create := func(ctx context.Context) error {
			_, err := a.iam.CreateRole(ctx, &iam.CreateRoleInput{
				RoleName: &want.Name, AssumeRolePolicyDocument: new(want.Trust.String()), Tags: iamTags(tags()),
				Description: aws.String("jitr-agent: just-in-time registration in " + a.Region),
			})
			return err
		}
		return []Change{
			change(Create, kindRole, want.Name, create),
			change(Create, "role policy", want.Name, putPolicy),
		}, nil
	}

	changes := keep(kindRole, want.Name)
	if !want.Trust.sameAs(aws.ToString(have.Role.AssumeRolePolicyDocument)) {
		changes = []Change{change(Update, kindRole, want.Name, func(ctx context.Context) error {
			_, err := a.iam.UpdateAssumeRolePolicy(ctx, &iam.UpdateAssumeRolePolicyInput{RoleName: &want.Name, PolicyDocument: new(want.Trust.String())})
			return err
		}, "who may take it on")}
	}
	policy, err := a.iam.GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: &want.Name, PolicyName: aws.String(inlinePolicy)})
	switch {
	case absent(err):
		changes = append(changes, change(Create, "role policy", want.Name, putPolicy))
	case err != nil:
		return nil, fmt.Errorf("look for the policy of the role %s: %w", want.Name, err)
	case !want.Policy.sameAs(aws.ToString(policy.PolicyDocument)):
		changes = append(changes, change(Update, "role policy", want.Name, putPolicy, "permissions"))
	}
	return changes, nil
}

// removeRole deletes a role of ours with its policies.
func (a *Account) removeRole(ctx context.Context, name string) ([]Change, error) {
	have, err := a.role(ctx, name)
	if have == nil || err != nil {
		return nil, err
	}
	var changes []Change
	for pages := iam.NewListRolePoliciesPaginator(a.iam, &iam.ListRolePoliciesInput{RoleName: &name}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("list the policies of the role %s: %w", name, err)
		}
		for _, policy := range page.PolicyNames {
			changes = append(changes, change(Delete, "role policy", policy+" of "+name, func(ctx context.Context) error {
				_, err := a.iam.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: &name, PolicyName: &policy})
				return err
			}))
		}
	}
	return append(changes, change(Delete, kindRole, name, func(ctx context.Context) error {
		_, err := a.iam.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: &name})
		return err
	})), nil
}

// role is nil where there is none; one of somebody else's is an error.
func (a *Account) role(ctx context.Context, name string) (*iam.GetRoleOutput, error) {
	out, err := a.iam.GetRole(ctx, &iam.GetRoleInput{RoleName: &name})
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for the role %s: %w", name, err)
	}
	for _, t := range out.Role.Tags {
		if aws.ToString(t.Key) == tagOwner {
			return out, nil
		}
	}
	return nil, foreign(kindRole, name)
}
