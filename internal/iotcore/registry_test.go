package iotcore

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// A policy's life with its versions, by the SDK.
func TestPolicyVersions(t *testing.T) {
	a := start(t, Config{}).account("admin", "us-east-1")
	ctx, name := t.Context(), aws.String("p")
	doc := func(i int) *string {
		return aws.String(fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"%sclient/v%d"}]}`, ownARN, i))
	}
	must[*iot.CreatePolicyOutput](t)(a.iot.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: name, PolicyDocument: doc(1), Tags: []types.Tag{{Key: aws.String("k"), Value: aws.String("v")}}}))
	for i := 2; i <= 5; i++ {
		out := must[*iot.CreatePolicyVersionOutput](t)(a.iot.CreatePolicyVersion(ctx, &iot.CreatePolicyVersionInput{PolicyName: name, PolicyDocument: doc(i), SetAsDefault: i == 3}))
		if *out.PolicyVersionId != fmt.Sprint(i) || out.IsDefaultVersion != (i == 3) {
			t.Errorf("version %d: %+v", i, out)
		}
	}
	_, err := a.iot.CreatePolicyVersion(ctx, &iot.CreatePolicyVersionInput{PolicyName: name, PolicyDocument: doc(6)})
	refused(t, err, "VersionsLimitExceededException", "5")
	if got := must[*iot.GetPolicyOutput](t)(a.iot.GetPolicy(ctx, &iot.GetPolicyInput{PolicyName: name})); *got.DefaultVersionId != "3" || *got.PolicyDocument != *doc(3) {
		t.Errorf("policy %+v", got)
	}
	_, err = a.iot.DeletePolicyVersion(ctx, &iot.DeletePolicyVersionInput{PolicyName: name, PolicyVersionId: aws.String("3")})
	refused(t, err, "DeleteConflictException", "default version")
	must[*iot.DeletePolicyVersionOutput](t)(a.iot.DeletePolicyVersion(ctx, &iot.DeletePolicyVersionInput{PolicyName: name, PolicyVersionId: aws.String("5")}))
	again := must[*iot.CreatePolicyVersionOutput](t)(a.iot.CreatePolicyVersion(ctx, &iot.CreatePolicyVersionInput{PolicyName: name, PolicyDocument: doc(6)}))
	if *again.PolicyVersionId != "6" {
		t.Errorf("a number was given twice: %s", *again.PolicyVersionId)
	}

	// The default version is what counts for a connection.
	gw := a.accepted("gw-1", "")
	arn := ownARN + "cert/" + gw.id
	must[*iot.AttachPolicyOutput](t)(a.iot.AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: name, Target: &arn}))
	must[*iot.DetachPolicyOutput](t)(a.iot.DetachPolicy(ctx, &iot.DetachPolicyInput{PolicyName: aws.String(ownPolicy), Target: &arn}))
	if got := a.try(gw, "v3"); got != "connack 0x0" {
		t.Errorf("v3: %s", got)
	}
	if got := a.try(gw, "v2"); got != "connack 0x87" {
		t.Errorf("v2: %s", got)
	}
	must[*iot.SetDefaultPolicyVersionOutput](t)(a.iot.SetDefaultPolicyVersion(ctx, &iot.SetDefaultPolicyVersionInput{PolicyName: name, PolicyVersionId: aws.String("2")}))
	if v := a.registry.principal(gw.Leaf, "v2", ""); !v.allows("iot:Connect", ownARN+"client/v2") {
		t.Error("v2 is the default, and does not connect")
	}

	_, err = a.iot.DeletePolicy(ctx, &iot.DeletePolicyInput{PolicyName: name})
	refused(t, err, "DeleteConflictException", "attached to one or more principals")
	if got := must[*iot.ListTargetsForPolicyOutput](t)(a.iot.ListTargetsForPolicy(ctx, &iot.ListTargetsForPolicyInput{PolicyName: name})); !slices.Equal(got.Targets, []string{arn}) {
		t.Errorf("targets %v", got.Targets)
	}
	must[*iot.DetachPolicyOutput](t)(a.iot.DetachPolicy(ctx, &iot.DetachPolicyInput{PolicyName: name, Target: &arn}))
	_, err = a.iot.DeletePolicy(ctx, &iot.DeletePolicyInput{PolicyName: name})
	refused(t, err, "DeleteConflictException", "more than one version")
	versions := must[*iot.ListPolicyVersionsOutput](t)(a.iot.ListPolicyVersions(ctx, &iot.ListPolicyVersionsInput{PolicyName: name}))
	for _, v := range versions.PolicyVersions {
		if !v.IsDefaultVersion {
			must[*iot.DeletePolicyVersionOutput](t)(a.iot.DeletePolicyVersion(ctx, &iot.DeletePolicyVersionInput{PolicyName: name, PolicyVersionId: v.VersionId}))
		}
	}
	policyARN := aws.String(ownARN + "policy/p")
	tags := must[*iot.ListTagsForResourceOutput](t)(a.iot.ListTagsForResource(ctx, &iot.ListTagsForResourceInput{ResourceArn: policyARN}))
	if len(tags.Tags) != 1 || *tags.Tags[0].Key != "k" {
		t.Errorf("tags %+v", tags.Tags)
	}
	must[*iot.DeletePolicyOutput](t)(a.iot.DeletePolicy(ctx, &iot.DeletePolicyInput{PolicyName: name}))
	_, err = a.iot.ListTagsForResource(ctx, &iot.ListTagsForResourceInput{ResourceArn: policyARN})
	refused(t, err, "ResourceNotFoundException", "p")
	list := must[*iot.ListPoliciesOutput](t)(a.iot.ListPolicies(ctx, &iot.ListPoliciesInput{}))
	if len(list.Policies) != 1 || *list.Policies[0].PolicyName != ownPolicy {
		t.Errorf("policies %+v", list.Policies)
	}
}

// Another client id than the thing's name resolves only for a certificate that
// is attached exclusively.
func TestExclusiveThing(t *testing.T) {
	a := start(t, Config{NoConnectRate: true}).account("admin", "us-east-1")
	ctx := t.Context()
	document := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"` + ownARN + `client/${iot:Connection.Thing.ThingName}*",
		"Condition":{"Bool":{"iot:Connection.Thing.IsAttached":"true"}}}]}`
	gw := a.accepted("gw-1", document)
	arn := aws.String(ownARN + "cert/" + gw.id)
	attach := func(thing string, kind types.ThingPrincipalType) error {
		_, err := a.iot.AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: &thing, Principal: arn, ThingPrincipalType: kind})
		return err
	}
	try := func(id, want string) {
		t.Helper()
		if got := a.try(gw, id); got != want {
			t.Errorf("%s: %s, want %s", id, got, want)
		}
	}
	try("gw-1", "connack 0x0")
	try("gw-1-shell", "connack 0x87")
	must[*iot.CreateThingOutput](t)(a.iot.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String("other")}))
	if err := attach("other", types.ThingPrincipalTypeNonExclusiveThing); err != nil {
		t.Fatal(err)
	}
	refused(t, attach("gw-1", types.ThingPrincipalTypeExclusiveThing), "InvalidRequestException", "attached to thing other")
	must[*iot.DetachThingPrincipalOutput](t)(a.iot.DetachThingPrincipal(ctx, &iot.DetachThingPrincipalInput{ThingName: aws.String("other"), Principal: arn}))
	if err := attach("gw-1", types.ThingPrincipalTypeExclusiveThing); err != nil {
		t.Fatal(err)
	}
	try("gw-1-shell", "connack 0x0")
	try("other", "connack 0x87")
	refused(t, attach("other", ""), "InvalidRequestException", "exclusively")
	list := must[*iot.ListThingPrincipalsV2Output](t)(a.iot.ListThingPrincipalsV2(ctx, &iot.ListThingPrincipalsV2Input{ThingName: aws.String("gw-1")}))
	if o := list.ThingPrincipalObjects; len(o) != 1 || *o[0].Principal != *arn || o[0].ThingPrincipalType != types.ThingPrincipalTypeExclusiveThing {
		t.Errorf("principals %+v", o)
	}
	things := must[*iot.ListPrincipalThingsV2Output](t)(a.iot.ListPrincipalThingsV2(ctx, &iot.ListPrincipalThingsV2Input{Principal: arn}))
	if o := things.PrincipalThingObjects; len(o) != 1 || *o[0].ThingName != "gw-1" || o[0].ThingPrincipalType != types.ThingPrincipalTypeExclusiveThing {
		t.Errorf("things %+v", o)
	}
	_, err := a.iot.DeleteThing(ctx, &iot.DeleteThingInput{ThingName: aws.String("gw-1")})
	refused(t, err, "InvalidRequestException", "still attached to one or more principals")
	must[*iot.DetachThingPrincipalOutput](t)(a.iot.DetachThingPrincipal(ctx, &iot.DetachThingPrincipalInput{ThingName: aws.String("gw-1"), Principal: arn}))
	must[*iot.DeleteThingOutput](t)(a.iot.DeleteThing(ctx, &iot.DeleteThingInput{ThingName: aws.String("gw-1")}))
	if err := attach("other", ""); err != nil {
		t.Errorf("after the exclusive one is gone: %v", err)
	}
}

func TestThingPages(t *testing.T) {
	a := start(t, Config{}).account("admin", "us-east-1")
	var want []string
	for i := range 7 {
		name := fmt.Sprintf("gw-%d", i)
		in := &iot.CreateThingInput{ThingName: &name}
		if i%2 == 0 {
			in.AttributePayload = &types.AttributePayload{Attributes: map[string]string{"made": "by-us"}}
			want = append(want, name)
		}
		must[*iot.CreateThingOutput](t)(a.iot.CreateThing(t.Context(), in))
	}
	var got []string
	pages := 0
	p := iot.NewListThingsPaginator(a.iot, &iot.ListThingsInput{AttributeName: aws.String("made"), AttributeValue: aws.String("by-us"), MaxResults: aws.Int32(3)})
	for p.HasMorePages() {
		out := must[*iot.ListThingsOutput](t)(p.NextPage(t.Context()))
		pages++
		for _, thing := range out.Things {
			got = append(got, *thing.ThingName)
		}
	}
	if !slices.Equal(got, want) || pages != 2 {
		t.Errorf("%d pages: %v, want %v", pages, got, want)
	}
	must[*iot.UpdateThingOutput](t)(a.iot.UpdateThing(t.Context(), &iot.UpdateThingInput{
		ThingName: aws.String("gw-0"), ExpectedVersion: aws.Int64(1), AttributePayload: &types.AttributePayload{Attributes: map[string]string{"a": "b"}, Merge: true},
	}))
	thing := must[*iot.DescribeThingOutput](t)(a.iot.DescribeThing(t.Context(), &iot.DescribeThingInput{ThingName: aws.String("gw-0")}))
	if thing.Version != 2 || thing.Attributes["made"] != "by-us" || thing.Attributes["a"] != "b" {
		t.Errorf("thing %+v", thing)
	}
	_, err := a.iot.UpdateThing(t.Context(), &iot.UpdateThingInput{ThingName: aws.String("gw-0"), ExpectedVersion: aws.Int64(1)})
	refused(t, err, "VersionConflictException", "2, not 1")
}

func TestRuleOperations(t *testing.T) {
	a := start(t, Config{}).account("admin", "us-east-1")
	ctx, name := t.Context(), aws.String("r_1")
	payload := func(sql string) *types.TopicRulePayload {
		return &types.TopicRulePayload{
			Sql: &sql, AwsIotSqlVersion: aws.String("2016-03-23"),
			Actions: []types.Action{{Lambda: &types.LambdaAction{FunctionArn: aws.String("arn:aws:lambda:us-east-1:123456789012:function:f")}}},
		}
	}
	_, err := a.iot.GetTopicRule(ctx, &iot.GetTopicRuleInput{RuleName: name})
	refused(t, err, "UnauthorizedException", "Access to topic rule 'r_1' was denied")
	_, err = a.iot.CreateTopicRule(ctx, &iot.CreateTopicRuleInput{RuleName: name, TopicRulePayload: payload("SELECT * FROM")})
	refused(t, err, "SqlParseException", "topic filter")
	a.want(200, "", "PUT", "/sim/access-keys/AKIATESTTESTTESTTEST", `{"Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}`)
	role := "arn:aws:iam::123456789012:role/r"
	toQueue := payload("SELECT * FROM 'a'")
	toQueue.Actions = []types.Action{{Sqs: &types.SqsAction{RoleArn: &role, QueueUrl: aws.String("http://x/123456789012/q")}}}
	_, err = a.account("AKIATESTTESTTESTTEST", "us-east-1").iot.CreateTopicRule(ctx, &iot.CreateTopicRuleInput{RuleName: name, TopicRulePayload: toQueue})
	refused(t, err, "AccessDeniedException", "is not authorized to perform: iam:PassRole on resource: "+role)
	create := &iot.CreateTopicRuleInput{RuleName: name, TopicRulePayload: payload("SELECT * FROM 'a/+/c'"), Tags: aws.String("jitr-agent=yes&b=x%20y")}
	must[*iot.CreateTopicRuleOutput](t)(a.iot.CreateTopicRule(ctx, create))
	_, err = a.iot.CreateTopicRule(ctx, create)
	refused(t, err, "ResourceAlreadyExistsException", "r_1")
	got := must[*iot.GetTopicRuleOutput](t)(a.iot.GetTopicRule(ctx, &iot.GetTopicRuleInput{RuleName: name}))
	if *got.Rule.Sql != "SELECT * FROM 'a/+/c'" || *got.Rule.AwsIotSqlVersion != "2016-03-23" || len(got.Rule.Actions) != 1 || *got.RuleArn != ownARN+"rule/r_1" {
		t.Errorf("rule %+v", got.Rule)
	}
	tags := must[*iot.ListTagsForResourceOutput](t)(a.iot.ListTagsForResource(ctx, &iot.ListTagsForResourceInput{ResourceArn: got.RuleArn}))
	if len(tags.Tags) != 2 || *tags.Tags[0].Value != "x y" || *tags.Tags[1].Key != "jitr-agent" {
		t.Errorf("tags %+v", tags.Tags)
	}
	must[*iot.UntagResourceOutput](t)(a.iot.UntagResource(ctx, &iot.UntagResourceInput{ResourceArn: got.RuleArn, TagKeys: []string{"b"}}))
	must[*iot.ReplaceTopicRuleOutput](t)(a.iot.ReplaceTopicRule(ctx, &iot.ReplaceTopicRuleInput{RuleName: name, TopicRulePayload: payload("SELECT a FROM 'b'")}))
	must[*iot.DisableTopicRuleOutput](t)(a.iot.DisableTopicRule(ctx, &iot.DisableTopicRuleInput{RuleName: name}))
	list := must[*iot.ListTopicRulesOutput](t)(a.iot.ListTopicRules(ctx, &iot.ListTopicRulesInput{Topic: aws.String("b")}))
	if len(list.Rules) != 1 || *list.Rules[0].TopicPattern != "b" || !*list.Rules[0].RuleDisabled {
		t.Errorf("rules %+v", list.Rules)
	}
	if tags := must[*iot.ListTagsForResourceOutput](t)(a.iot.ListTagsForResource(ctx, &iot.ListTagsForResourceInput{ResourceArn: got.RuleArn})); len(tags.Tags) != 1 {
		t.Errorf("tags after a replacement %+v", tags.Tags)
	}
	must[*iot.DeleteTopicRuleOutput](t)(a.iot.DeleteTopicRule(ctx, &iot.DeleteTopicRuleInput{RuleName: name}))
	_, err = a.iot.GetTopicRule(ctx, &iot.GetTopicRuleInput{RuleName: name})
	refused(t, err, "UnauthorizedException", "denied")
}

func TestRegistrationCodeIsDeleted(t *testing.T) {
	a := start(t, Config{}).account("admin", "us-east-1")
	before := a.registry.registrationCode()
	must[*iot.DeleteRegistrationCodeOutput](t)(a.iot.DeleteRegistrationCode(t.Context(), &iot.DeleteRegistrationCodeInput{}))
	ca := newTestCA(t, "Second CA")
	_, err := a.iot.RegisterCACertificate(t.Context(), &iot.RegisterCACertificateInput{
		CaCertificate: aws.String(string(ca.pem())), VerificationCertificate: aws.String(ca.issue(t, before).pem()),
	})
	refused(t, err, "RegistrationCodeValidationException", "registration code")
	out := must[*iot.GetRegistrationCodeOutput](t)(a.iot.GetRegistrationCode(t.Context(), &iot.GetRegistrationCodeInput{}))
	in := &iot.RegisterCACertificateInput{
		CaCertificate: aws.String(string(ca.pem())), VerificationCertificate: aws.String(ca.issue(t, *out.RegistrationCode).pem()),
	}
	made := must[*iot.RegisterCACertificateOutput](t)(a.iot.RegisterCACertificate(t.Context(), in))
	_, err = a.iot.RegisterCACertificate(t.Context(), in)
	refused(t, err, "ResourceAlreadyExistsException", "already registered")
	if !strings.HasSuffix(*made.CertificateArn, *made.CertificateId) {
		t.Errorf("registered %+v", made)
	}
}
