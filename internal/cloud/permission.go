package cloud

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
)

const kindPermission = "permission"

// permission lets one rule of this account invoke the function. Without the
// account and the rule in it, anybody's rule could (AWS IoT developer guide,
// "Cross-service confused deputy prevention").
type permission struct{ rule, account string } // ARN, id

// planPermissions compares the function's permissions for rules: first what
// the rules need, then the end of those that no rule needs any more, such as
// of one that sends to the queue now.
func (a *Account) planPermissions(ctx context.Context, rules []Rule) (needed, needless []Change, err error) {
	have, err := a.permissions(ctx)
	if err != nil {
		return nil, nil, err
	}
	wanted := map[string]bool{}
	for _, r := range rules {
		if r.Function == "" {
			continue
		}
		wanted[r.Name] = true
		want := permission{rule: a.arn("iot", "rule/"+r.Name), account: a.Account}
		got, exists := have[r.Name]
		if exists && got == want {
			continue
		}
		if exists {
			needed = append(needed, a.removePermission(r.Name, "it allows something else"))
		}
		needed = append(needed, change(Create, kindPermission, r.Name, func(ctx context.Context) error {
			_, err := a.lambda.AddPermission(ctx, &lambda.AddPermissionInput{
				FunctionName: aws.String(functionName), StatementId: &r.Name, Action: aws.String("lambda:InvokeFunction"),
				Principal: aws.String("iot.amazonaws.com"), SourceArn: &want.rule, SourceAccount: &want.account,
			})
			return err
		}))
	}
	for _, sid := range slices.Sorted(maps.Keys(have)) {
		if strings.HasPrefix(sid, rulePrefix) && !wanted[sid] {
			needless = append(needless, a.removePermission(sid, "no rule needs it"))
		}
	}
	return needed, needless, nil
}

func (a *Account) removePermission(sid, why string) Change {
	return change(Delete, kindPermission, sid, func(ctx context.Context) error {
		_, err := a.lambda.RemovePermission(ctx, &lambda.RemovePermissionInput{FunctionName: aws.String(functionName), StatementId: &sid})
		return err
	}, why)
}

// permissions are the function's, by statement id. One that is not of our
// form is there with the zero permission.
func (a *Account) permissions(ctx context.Context) (map[string]permission, error) {
	out, err := a.lambda.GetPolicy(ctx, &lambda.GetPolicyInput{FunctionName: aws.String(functionName)})
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for the permissions of the function %s: %w", functionName, err)
	}
	var doc struct {
		Statement []struct {
			Sid, Effect string
			Action      any
			Principal   any
			Condition   map[string]map[string]any
		}
	}
	if err := json.Unmarshal([]byte(aws.ToString(out.Policy)), &doc); err != nil {
		return nil, fmt.Errorf("read the permissions of the function %s: %w", functionName, err)
	}
	all := map[string]permission{}
	for _, s := range doc.Statement {
		var p permission
		conditions := 0
		for _, keys := range s.Condition {
			for key, value := range keys {
				conditions++
				text, _ := value.(string) // another type is no permission of ours
				switch strings.ToLower(key) {
				case "aws:sourcearn":
					p.rule = text
				case "aws:sourceaccount":
					p.account = text
				}
			}
		}
		plain := s.Effect == "Allow" && s.Action == "lambda:InvokeFunction" && conditions == 2 &&
			reflect.DeepEqual(s.Principal, map[string]any{"Service": "iot.amazonaws.com"})
		if !plain {
			p = permission{}
		}
		all[s.Sid] = p
	}
	return all, nil
}
