package iotcore

import (
	"net/http"

	mqtt "github.com/mochi-mqtt/server/v2"

	"github.com/jitr-agent/jitr-agent/internal/iotcore/awsapi"
	"github.com/jitr-agent/jitr-agent/internal/iotcore/iam"
	"github.com/jitr-agent/jitr-agent/internal/iotcore/logs"
	"github.com/jitr-agent/jitr-agent/internal/iotcore/sqs"
)

// api is the control plane and the HTTP side of the data plane, REST-JSON as
// the AWS SDKs speak it. Signatures are not checked. The names of operations,
// fields and errors are those of the AWS API reference.
type api struct {
	*Server
	client *mqtt.Client // who publishes for it
}

// newAPI is all that the API address serves: AWS IoT here, the other services
// from their packages, and what is the emulator's own under /sim/.
func newAPI(s *Server) http.Handler {
	a := &api{Server: s, client: s.broker.NewClient(nil, mqtt.LocalListener, "api", true)}
	mux := http.NewServeMux()
	awsapi.REST(mux, s.gate, a.operations())
	awsapi.REST(mux, s.gate, s.rules.Operations())
	awsapi.REST(mux, s.gate, s.lambda.Operations())
	awsapi.REST(mux, s.gate, a.simOperations())
	rpc := &awsapi.RPC{Gate: s.gate}
	rpc.Add(sqs.Target, s.sqs.Operations())
	rpc.Add(logs.Target, s.logs.Operations())
	rpc.Query(iam.Version, iam.Namespace, s.iam.Operations())
	rpc.Query(iam.STSVersion, iam.STSNamespace, s.iam.STSOperations())
	mux.Handle("POST /{$}", rpc)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		awsapi.WriteError(w, awsapi.Refuse(http.StatusNotFound, "UnknownOperationException",
			"The emulator has no operation %s %s", r.Method, r.URL.EscapedPath()))
	})
	return mux
}

// operations are those of AWS IoT, with the IAM action and the resources of
// each (service authorization reference, AWS IoT). AttachThingPrincipal is
// asked for both of its resources, so that a role that passes here passes
// wherever only one of them is asked for.
func (a *api) operations() map[string]awsapi.Operation {
	named := func(kind, param string) func(*awsapi.Request) []string {
		return func(r *awsapi.Request) []string { return []string{a.registry.arn(kind, r.PathValue(param))} }
	}
	ca, cert, policy, thing := named("cacert", "id"), named("cert", "id"), named("policy", "name"), named("thing", "name")
	target := func(r *awsapi.Request) []string { return []string{r.Field("target")} }
	both := func(r *awsapi.Request) []string { return []string{thing(r)[0], r.Header.Get(principalHeader)} }
	tagged := func(r *awsapi.Request) []string { return []string{resourceARN(r)} }
	ops := map[string]awsapi.Operation{
		"GET /endpoint":                        {Action: "DescribeEndpoint", Handle: a.describeEndpoint},
		"GET /registrationcode":                {Action: "GetRegistrationCode", Handle: a.getRegistrationCode},
		"DELETE /registrationcode":             {Action: "DeleteRegistrationCode", Handle: a.deleteRegistrationCode},
		"POST /cacertificate":                  {Action: "RegisterCACertificate", Handle: a.registerCACertificate},
		"GET /cacertificate/{id}":              {Action: "DescribeCACertificate", Resources: ca, Handle: a.describeCACertificate},
		"PUT /cacertificate/{id}":              {Action: "UpdateCACertificate", Resources: ca, Handle: a.updateCACertificate},
		"DELETE /cacertificate/{id}":           {Action: "DeleteCACertificate", Resources: ca, Handle: a.deleteCACertificate},
		"GET /cacertificates":                  {Action: "ListCACertificates", Handle: a.listCACertificates},
		"POST /certificate/register":           {Action: "RegisterCertificate", Handle: a.registerCertificate},
		"POST /certificate/register-no-ca":     {Action: "RegisterCertificateWithoutCA", Handle: a.registerCertificateWithoutCA},
		"GET /certificates":                    {Action: "ListCertificates", Handle: a.listCertificates},
		"GET /certificates-by-ca/{id}":         {Action: "ListCertificatesByCA", Handle: a.listCertificatesByCA},
		"GET /certificates/{id}":               {Action: "DescribeCertificate", Resources: cert, Handle: a.describeCertificate},
		"PUT /certificates/{id}":               {Action: "UpdateCertificate", Resources: cert, Handle: a.updateCertificate},
		"DELETE /certificates/{id}":            {Action: "DeleteCertificate", Resources: cert, Handle: a.deleteCertificate},
		"GET /policies":                        {Action: "ListPolicies", Handle: a.listPolicies},
		"POST /policies/{name}":                {Action: "CreatePolicy", Resources: policy, Handle: a.createPolicy},
		"GET /policies/{name}":                 {Action: "GetPolicy", Resources: policy, Handle: a.getPolicy},
		"DELETE /policies/{name}":              {Action: "DeletePolicy", Resources: policy, Handle: a.deletePolicy},
		"POST /policies/{name}/version":        {Action: "CreatePolicyVersion", Resources: policy, Handle: a.createPolicyVersion},
		"GET /policies/{name}/version":         {Action: "ListPolicyVersions", Resources: policy, Handle: a.listPolicyVersions},
		"GET /policies/{name}/version/{id}":    {Action: "GetPolicyVersion", Resources: policy, Handle: a.getPolicyVersion},
		"PATCH /policies/{name}/version/{id}":  {Action: "SetDefaultPolicyVersion", Resources: policy, Handle: a.setDefaultPolicyVersion},
		"DELETE /policies/{name}/version/{id}": {Action: "DeletePolicyVersion", Resources: policy, Handle: a.deletePolicyVersion},
		"PUT /target-policies/{name}":          {Action: "AttachPolicy", Resources: target, Handle: a.attachPolicy},
		"POST /target-policies/{name}":         {Action: "DetachPolicy", Resources: target, Handle: a.detachPolicy},
		"PUT /principal-policies/{name}":       {Action: "AttachPrincipalPolicy", Handle: a.attachPrincipalPolicy},
		"DELETE /principal-policies/{name}":    {Action: "DetachPrincipalPolicy", Handle: a.detachPrincipalPolicy},
		"POST /attached-policies/{target}":     {Action: "ListAttachedPolicies", Handle: a.listAttachedPolicies},
		"POST /policy-targets/{name}":          {Action: "ListTargetsForPolicy", Resources: policy, Handle: a.listTargetsForPolicy},
		"GET /things":                          {Action: "ListThings", Handle: a.listThings},
		"POST /things/{name}":                  {Action: "CreateThing", Resources: thing, Handle: a.createThing},
		"GET /things/{name}":                   {Action: "DescribeThing", Resources: thing, Handle: a.describeThing},
		"PATCH /things/{name}":                 {Action: "UpdateThing", Resources: thing, Handle: a.updateThing},
		"DELETE /things/{name}":                {Action: "DeleteThing", Resources: thing, Handle: a.deleteThing},
		"PUT /things/{name}/principals":        {Action: "AttachThingPrincipal", Resources: both, Handle: a.attachThingPrincipal},
		"DELETE /things/{name}/principals":     {Action: "DetachThingPrincipal", Resources: both, Handle: a.detachThingPrincipal},
		"GET /things/{name}/principals":        {Action: "ListThingPrincipals", Resources: thing, Handle: a.listThingPrincipals},
		"GET /things/{name}/principals-v2":     {Action: "ListThingPrincipalsV2", Resources: thing, Handle: a.listThingPrincipalsV2},
		"GET /principals/things":               {Action: "ListPrincipalThings", Handle: a.listPrincipalThings},
		"GET /principals/things-v2":            {Action: "ListPrincipalThingsV2", Handle: a.listPrincipalThingsV2},
		"POST /tags":                           {Action: "TagResource", Resources: tagged, Handle: a.tagResource},
		"POST /untag":                          {Action: "UntagResource", Resources: tagged, Handle: a.untagResource},
		"GET /tags":                            {Action: "ListTagsForResource", Resources: tagged, Handle: a.listTagsForResource},
		"POST /topics/{topic...}":              {Action: "Publish", Resources: named("topic", "topic"), Handle: a.publish},
		"GET /things/{name}/shadow":            {Action: "GetThingShadow", Resources: thing, Handle: a.getThingShadow},
		"POST /things/{name}/shadow":           {Action: "UpdateThingShadow", Resources: thing, Handle: a.updateThingShadow},
		"DELETE /things/{name}/shadow":         {Action: "DeleteThingShadow", Resources: thing, Handle: a.deleteThingShadow},
	}
	for pattern, op := range ops {
		op.Action = "iot:" + op.Action
		ops[pattern] = op
	}
	return ops
}
