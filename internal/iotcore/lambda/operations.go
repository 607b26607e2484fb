package lambda

import (
	"cmp"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/iotcore/awsapi"
)

// Operations are those of Lambda, by method and path.
func (s *Service) Operations() map[string]awsapi.Operation {
	byName := func(r *awsapi.Request) []string { return []string{s.ARN(nameOf(r.PathValue("name")))} }
	inBody := func(r *awsapi.Request) []string { return []string{s.ARN(nameOf(r.Field("FunctionName")))} }
	byID := func(r *awsapi.Request) []string { return []string{s.mappingARN(r.PathValue("id"))} }
	byARN := func(r *awsapi.Request) []string { return []string{r.PathValue("arn")} }
	const (
		functions   = "/2015-03-31/functions"
		named       = functions + "/{name}"
		concurrency = "/2017-10-31/functions/{name}/concurrency"
		async       = "/2019-09-25/functions/{name}/event-invoke-config"
		sources     = "/2015-03-31/event-source-mappings"
		tags        = "/2017-03-31/tags/{arn}"
	)
	const upload = maxZip/3*4 + 1<<20 // base64, and the rest of the request
	ops := map[string]awsapi.Operation{
		"POST " + functions:                            {Action: "CreateFunction", Resources: inBody, Handle: s.createFunction, Status: 201, MaxBody: upload},
		"GET " + functions:                             {Action: "ListFunctions", Handle: s.listFunctions},
		"GET " + named:                                 {Action: "GetFunction", Resources: byName, Handle: s.getFunction},
		"DELETE " + named:                              {Action: "DeleteFunction", Resources: byName, Handle: s.deleteFunction, Status: 204},
		"PUT " + named + "/code":                       {Action: "UpdateFunctionCode", Resources: byName, Handle: s.updateCode, MaxBody: upload},
		"PUT " + named + "/configuration":              {Action: "UpdateFunctionConfiguration", Resources: byName, Handle: s.updateConfiguration},
		"GET " + named + "/configuration":              {Action: "GetFunctionConfiguration", Resources: byName, Handle: s.getConfiguration},
		"POST " + named + "/invocations":               {Action: "InvokeFunction", Resources: byName, Handle: s.invoke, MaxBody: maxSyncPayload},
		"POST " + named + "/policy":                    {Action: "AddPermission", Resources: byName, Handle: s.addPermission, Status: 201},
		"GET " + named + "/policy":                     {Action: "GetPolicy", Resources: byName, Handle: s.getPolicy},
		"DELETE " + named + "/policy/{id}":             {Action: "RemovePermission", Resources: byName, Handle: s.removePermission, Status: 204},
		"PUT " + concurrency:                           {Action: "PutFunctionConcurrency", Resources: byName, Handle: s.putConcurrency},
		"DELETE " + concurrency:                        {Action: "DeleteFunctionConcurrency", Resources: byName, Handle: s.deleteConcurrency, Status: 204},
		"GET /2019-09-30/functions/{name}/concurrency": {Action: "GetFunctionConcurrency", Resources: byName, Handle: s.getConcurrency},
		"PUT " + async:                                 {Action: "PutFunctionEventInvokeConfig", Resources: byName, Handle: s.putEventInvoke},
		"POST " + async:                                {Action: "UpdateFunctionEventInvokeConfig", Resources: byName, Handle: s.updateEventInvoke},
		"GET " + async:                                 {Action: "GetFunctionEventInvokeConfig", Resources: byName, Handle: s.getEventInvoke},
		"DELETE " + async:                              {Action: "DeleteFunctionEventInvokeConfig", Resources: byName, Handle: s.deleteEventInvoke, Status: 204},
		"POST " + sources:                              {Action: "CreateEventSourceMapping", Handle: s.createMapping, Status: 202},
		"GET " + sources:                               {Action: "ListEventSourceMappings", Handle: s.listMappings},
		"GET " + sources + "/{id}":                     {Action: "GetEventSourceMapping", Resources: byID, Handle: s.getMapping},
		"PUT " + sources + "/{id}":                     {Action: "UpdateEventSourceMapping", Resources: byID, Handle: s.updateMapping, Status: 202},
		"DELETE " + sources + "/{id}":                  {Action: "DeleteEventSourceMapping", Resources: byID, Handle: s.deleteMapping, Status: 202},
		"POST " + tags:                                 {Action: "TagResource", Resources: byARN, Handle: s.tagResource, Status: 204},
		"DELETE " + tags:                               {Action: "UntagResource", Resources: byARN, Handle: s.untagResource, Status: 204},
		"GET " + tags:                                  {Action: "ListTags", Resources: byARN, Handle: s.listTags},
		"GET /2016-08-19/account-settings":             {Action: "GetAccountSettings", Handle: s.getAccountSettings},
	}
	for pattern, op := range ops {
		op.Action = "lambda:" + op.Action
		ops[pattern] = op
	}
	for _, pattern := range []string{"POST " + functions, "GET " + functions, "POST " + sources, "GET " + sources} {
		ops[pattern+"/{$}"] = ops[pattern] // as older SDKs and the aws CLI send it
	}
	return ops
}

var functionName = regexp.MustCompile(`^[a-zA-Z0-9-_]{1,64}$`)

func (s *Service) createFunction(r *awsapi.Request) (any, error) {
	var in struct {
		settings
		FunctionName  string
		Architectures []string
		PackageType   string
		Code          struct{ ZipFile []byte }
		Tags          map[string]string
	}
	if err := r.JSON(&in); err != nil {
		return nil, err
	}
	if !functionName.MatchString(in.FunctionName) {
		return nil, awsapi.Refuse(http.StatusBadRequest, "ValidationException", "1 validation error detected: Value '%s' at 'functionName' failed to satisfy constraint", in.FunctionName)
	}
	if cmp.Or(in.PackageType, "Zip") != "Zip" {
		return nil, invalid("The emulator runs zips, not the PackageType %s", in.PackageType)
	}
	f := &function{
		Name: in.FunctionName, Timeout: 3, MemorySize: 128, LogGroup: "/aws/lambda/" + in.FunctionName,
		Revision: awsapi.NewID(), Tags: in.Tags, async: newAsyncQueue(nil),
	}
	if in.Role == nil {
		return nil, invalid("Role must be given")
	}
	if err := s.apply(r, in.settings, f); err != nil {
		return nil, err
	}
	if err := s.setCode(f, in.Code.ZipFile, in.Architectures); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.functions[f.Name]; ok {
		return nil, awsapi.Refuse(http.StatusConflict, "ResourceConflictException", "Function already exist: %s", f.Name)
	}
	f.CreatedAt = time.Now()
	f.ModifiedAt = f.CreatedAt
	s.functions[f.Name] = f
	s.startAsync(f.Name)
	s.Changed()
	return s.describe(f, f.CreatedAt), nil
}

// setCode unpacks a zip and makes it the function's code.
func (s *Service) setCode(f *function, zipped []byte, architectures []string) error {
	switch {
	case len(zipped) == 0:
		return invalid("The emulator takes Code.ZipFile only, and it must not be empty")
	case len(zipped) > maxZip:
		return awsapi.Refuse(http.StatusRequestEntityTooLarge, "RequestTooLargeException", "Request must be smaller than %d bytes for the CreateFunction operation", maxZip)
	}
	if len(architectures) > 0 {
		f.Architectures = architectures
	}
	if len(f.Architectures) == 0 {
		f.Architectures = []string{"x86_64"}
	}
	if len(f.Architectures) != 1 || f.Architectures[0] != "x86_64" && f.Architectures[0] != "arm64" {
		return invalid("Architectures must be one of x86_64 and arm64")
	}
	f.CodeSHA256, f.CodeSize = codeSum(zipped), len(zipped)
	return unpack(zipped, s.codeDir(f))
}

// change carries out f on a copy of the function that the request names, and
// keeps it where f succeeds. A function that is being changed already refuses.
func (s *Service) change(r *awsapi.Request, f func(*function) error) (any, error) {
	var in struct{ RevisionId string }
	if err := r.JSON(&in); err != nil {
		return nil, err
	}
	s.mu.Lock()
	known, err := s.byName(r.PathValue("name"))
	var before function
	if err == nil {
		before = *known
	}
	s.mu.Unlock()
	switch {
	case err != nil:
		return nil, err
	case !before.settled(time.Now()):
		return nil, awsapi.Refuse(http.StatusConflict, "ResourceConflictException",
			"The operation cannot be performed at this time. An update is in progress for resource: %s", s.ARN(before.Name))
	case cmp.Or(in.RevisionId, before.Revision) != before.Revision:
		return nil, awsapi.Refuse(http.StatusPreconditionFailed, "PreconditionFailedException", "The Revision Id provided does not match the latest Revision Id.")
	}
	changed := before
	if err := f(&changed); err != nil { // without the lock: it unpacks zips
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	known, err = s.byName(before.Name)
	if err != nil || known.Revision != before.Revision {
		return nil, awsapi.Refuse(http.StatusConflict, "ResourceConflictException", "The function could not be updated due to a concurrent update operation.")
	}
	known.Description, known.Handler, known.Runtime, known.Timeout = changed.Description, changed.Handler, changed.Runtime, changed.Timeout
	known.MemorySize, known.Role, known.Environment = changed.MemorySize, changed.Role, changed.Environment
	known.DeadLetter, known.LogGroup, known.Architectures = changed.DeadLetter, changed.LogGroup, changed.Architectures
	known.CodeSHA256, known.CodeSize = changed.CodeSHA256, changed.CodeSize
	known.ModifiedAt, known.Revision = time.Now(), awsapi.NewID()
	s.Changed()
	return s.describe(known, known.ModifiedAt), nil
}

func (s *Service) updateCode(r *awsapi.Request) (any, error) {
	var in struct {
		ZipFile       []byte
		Architectures []string
		DryRun        bool
	}
	if err := r.JSON(&in); err != nil {
		return nil, err
	}
	if in.DryRun {
		return nil, invalid("The emulator has no DryRun")
	}
	return s.change(r, func(f *function) error { return s.setCode(f, in.ZipFile, in.Architectures) })
}

func (s *Service) updateConfiguration(r *awsapi.Request) (any, error) {
	var in settings
	if err := r.JSON(&in); err != nil {
		return nil, err
	}
	return s.change(r, func(f *function) error { return s.apply(r, in, f) })
}

// look answers with a part of the function that the request names.
func (s *Service) look(r *awsapi.Request, f func(*function) any) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, err := s.byName(r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	return f(known), nil
}

func (s *Service) getFunction(r *awsapi.Request) (any, error) {
	return s.look(r, func(f *function) any {
		out := map[string]any{"Configuration": s.describe(f, time.Now()), "Code": map[string]string{"RepositoryType": "S3"}}
		if len(f.Tags) > 0 {
			out["Tags"] = f.Tags
		}
		if f.Reserved != nil {
			out["Concurrency"] = map[string]int{"ReservedConcurrentExecutions": *f.Reserved}
		}
		return out
	})
}

func (s *Service) getConfiguration(r *awsapi.Request) (any, error) {
	return s.look(r, func(f *function) any { return s.describe(f, time.Now()) })
}

func (s *Service) listFunctions(r *awsapi.Request) (any, error) {
	q := r.URL.Query()
	size, err := awsapi.PageSize(q.Get("MaxItems"), 50, 10000)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	names, next := awsapi.Page(slices.Sorted(maps.Keys(s.functions)), q.Get("Marker"), min(size, 50), func(n string) string { return n })
	list := []configuration{}
	for _, name := range names {
		list = append(list, s.describe(s.functions[name], time.Now()))
	}
	out := map[string]any{"Functions": list}
	if next != "" {
		out["NextMarker"] = next
	}
	return out, nil
}

func (s *Service) deleteFunction(r *awsapi.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.byName(r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	s.stopWorker("function " + f.Name)
	s.closePool(f.Name)
	delete(s.functions, f.Name)
	s.Changed()
	return nil, os.RemoveAll(filepath.Join(s.Dir, f.Name))
}

const maxSyncPayload = 6 << 20 // bytes (Lambda quotas)

func (s *Service) invoke(r *awsapi.Request) (any, error) {
	name := r.PathValue("name")
	s.mu.Lock()
	f, err := s.byName(name)
	pending := err == nil && time.Since(f.CreatedAt) < settle
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if pending {
		return nil, awsapi.Refuse(http.StatusConflict, "ResourceConflictException",
			"The operation cannot be performed at this time. The function is currently in the following state: Pending")
	}
	payload := r.Body()
	switch r.Header.Get("X-Amz-Invocation-Type") {
	case "Event":
		id, err := s.InvokeAsync(name, payload)
		r.Answer.Set("X-Amzn-Requestid", id)
		return awsapi.Answer{Status: http.StatusAccepted}, err
	case "DryRun":
		return awsapi.Answer{Status: http.StatusNoContent}, nil
	case "", "RequestResponse":
	default:
		return nil, invalid("InvocationType %q is not known", r.Header.Get("X-Amz-Invocation-Type"))
	}
	if len(payload) == 0 {
		payload = []byte("{}")
	}
	if !json.Valid(payload) {
		return nil, awsapi.Refuse(http.StatusBadRequest, "InvalidRequestContentException", "Could not parse request body into json")
	}
	o, err := s.run(r.Context(), name, awsapi.NewID(), payload, false)
	if errors.Is(err, errThrottled) {
		return nil, awsapi.Refuse(http.StatusTooManyRequests, "TooManyRequestsException", "Rate Exceeded.")
	}
	if err != nil {
		return nil, err
	}
	r.Answer.Set("X-Amz-Executed-Version", "$LATEST")
	if o.functionError != "" {
		r.Answer.Set("X-Amz-Function-Error", o.functionError)
	}
	return json.RawMessage(o.payload), nil
}

// minUnreserved is what reservations must leave to the other functions of an
// account (Lambda developer guide, reserved concurrency).
const minUnreserved = 100

func (s *Service) putConcurrency(r *awsapi.Request) (any, error) {
	var in struct{ ReservedConcurrentExecutions *int }
	if err := r.JSON(&in); err != nil {
		return nil, err
	}
	n := in.ReservedConcurrentExecutions
	if n == nil || *n < 0 {
		return nil, invalid("ReservedConcurrentExecutions must be 0 or more")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.byName(r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	if s.unreserved(f.Name)-*n < minUnreserved {
		return nil, invalid("Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [%d].", minUnreserved)
	}
	f.Reserved = n
	s.limits()
	s.Changed()
	return map[string]int{"ReservedConcurrentExecutions": *n}, nil
}

// limits sets what every function may have now. The caller holds s.mu.
func (s *Service) limits() {
	for name, p := range s.pools {
		p.setLimit(s.limitOf(s.functions[name]))
	}
}

func (s *Service) deleteConcurrency(r *awsapi.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.byName(r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	f.Reserved = nil
	s.limits()
	s.Changed()
	return nil, nil
}

func (s *Service) getConcurrency(r *awsapi.Request) (any, error) {
	return s.look(r, func(f *function) any {
		if f.Reserved == nil {
			return struct{}{}
		}
		return map[string]int{"ReservedConcurrentExecutions": *f.Reserved}
	})
}

func (s *Service) getAccountSettings(*awsapi.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return map[string]any{
		"AccountLimit": map[string]int{"ConcurrentExecutions": s.Concurrency, "UnreservedConcurrentExecutions": s.unreserved("")},
		"AccountUsage": map[string]int{"FunctionCount": len(s.functions)},
	}, nil
}

// tagsOf are the tags of the resource that a request names by its ARN. The
// caller holds s.mu.
func (s *Service) tagsOf(r *awsapi.Request) (*map[string]string, error) {
	arn := r.PathValue("arn")
	for id, m := range s.mappings {
		if s.mappingARN(id) == arn {
			return &m.Tags, nil
		}
	}
	f, err := s.byName(arn)
	if err != nil {
		return nil, err
	}
	return &f.Tags, nil
}

func (s *Service) tagResource(r *awsapi.Request) (any, error) {
	var in struct{ Tags map[string]string }
	if err := r.JSON(&in); err != nil {
		return nil, err
	}
	return s.retag(r, in.Tags)
}

func (s *Service) untagResource(r *awsapi.Request) (any, error) {
	return s.retag(r, nil, r.URL.Query()["tagKeys"]...)
}

func (s *Service) retag(r *awsapi.Request, add map[string]string, remove ...string) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	of, err := s.tagsOf(r)
	if err != nil {
		return nil, err
	}
	*of = awsapi.Retag(*of, add, remove...)
	s.Changed()
	return nil, nil
}

func (s *Service) listTags(r *awsapi.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	of, err := s.tagsOf(r)
	if err != nil {
		return nil, err
	}
	tags := map[string]string{}
	maps.Copy(tags, *of)
	return map[string]any{"Tags": tags}, nil
}
