package lambda

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/iotcore/awsapi"
)

// function is a function as it is stored.
type function struct {
	Name          string            `json:"name"`
	Description   string            `json:"description,omitempty"`
	Role          string            `json:"role"`
	Runtime       string            `json:"runtime"`
	Handler       string            `json:"handler"`
	Timeout       int               `json:"timeout"`    // seconds
	MemorySize    int               `json:"memorySize"` // MiB
	Architectures []string          `json:"architectures"`
	Environment   map[string]string `json:"environment,omitempty"`
	DeadLetter    string            `json:"deadLetter,omitempty"` // ARN
	LogGroup      string            `json:"logGroup"`
	CodeSHA256    string            `json:"codeSha256"` // base64
	CodeSize      int               `json:"codeSize"`   // bytes of the zip
	Tags          map[string]string `json:"tags,omitempty"`
	ModifiedAt    time.Time         `json:"modifiedAt"`
	CreatedAt     time.Time         `json:"createdAt"`
	Revision      string            `json:"revision"`
	Reserved      *int              `json:"reserved,omitempty"`
	Permissions   []permission      `json:"permissions,omitempty"`
	Invoke        *invokeConfig     `json:"invoke,omitempty"`
	Events        []*asyncEvent     `json:"events,omitempty"` // only in the store

	async *asyncQueue
}

// settle is how long a new or changed function is not ready. At AWS that
// takes seconds, and a tool that does not wait for it fails there.
const settle = 150 * time.Millisecond

func (f *function) settled(now time.Time) bool { return now.Sub(f.ModifiedAt) >= settle }

// configuration is a function in an answer.
type configuration struct {
	FunctionName     string
	FunctionArn      string
	Runtime          string
	Role             string
	Handler          string
	CodeSize         int
	CodeSha256       string
	Description      string
	Timeout          int
	MemorySize       int
	LastModified     string
	Version          string
	RevisionId       string
	State            string
	StateReason      string `json:",omitempty"`
	StateReasonCode  string `json:",omitempty"`
	LastUpdateStatus string
	PackageType      string
	Architectures    []string
	Environment      *environment `json:",omitempty"`
	DeadLetterConfig *deadLetter  `json:",omitempty"`
	LoggingConfig    loggingConfig
	TracingConfig    struct{ Mode string }
	EphemeralStorage struct{ Size int }
}

type environment struct{ Variables map[string]string }

type deadLetter struct{ TargetArn string }

type loggingConfig struct{ LogFormat, LogGroup string }

// describe is a function as it is at a time: the answer to a change is always
// that it is not ready.
func (s *Service) describe(f *function, now time.Time) configuration {
	c := configuration{
		FunctionName: f.Name, FunctionArn: s.ARN(f.Name), Runtime: f.Runtime, Role: f.Role, Handler: f.Handler,
		CodeSize: f.CodeSize, CodeSha256: f.CodeSHA256, Description: f.Description, Timeout: f.Timeout, MemorySize: f.MemorySize,
		LastModified: f.ModifiedAt.UTC().Format("2006-01-02T15:04:05.000-0700"), Version: "$LATEST", RevisionId: f.Revision,
		State: "Active", LastUpdateStatus: "Successful", PackageType: "Zip", Architectures: f.Architectures,
		LoggingConfig: loggingConfig{"Text", f.LogGroup},
	}
	c.TracingConfig.Mode, c.EphemeralStorage.Size = "PassThrough", 512
	if !f.settled(now) {
		c.LastUpdateStatus = "InProgress"
		if now.Sub(f.CreatedAt) < settle {
			c.State, c.StateReason, c.StateReasonCode = "Pending", "The function is being created.", "Creating"
		}
	}
	if len(f.Environment) > 0 {
		c.Environment = &environment{f.Environment}
	}
	if f.DeadLetter != "" {
		c.DeadLetterConfig = &deadLetter{f.DeadLetter}
	}
	return c
}

func invalid(format string, args ...any) error {
	return awsapi.Refuse(http.StatusBadRequest, "InvalidParameterValueException", format, args...)
}

// settings are the parts of a function's configuration that CreateFunction
// and UpdateFunctionConfiguration share; nil: not given.
type settings struct {
	Role, Runtime, Handler, Description *string
	Timeout, MemorySize                 *int
	Environment                         *environment
	DeadLetterConfig                    *deadLetter
	LoggingConfig                       *struct{ LogGroup *string }
}

// apply checks the settings and sets them. The order of the checks does not
// matter: f is a copy until all have passed.
func (s *Service) apply(r *awsapi.Request, in settings, f *function) error {
	set(&f.Description, in.Description)
	set(&f.Handler, in.Handler)
	set(&f.Runtime, in.Runtime)
	set(&f.Timeout, in.Timeout)
	set(&f.MemorySize, in.MemorySize)
	set(&f.Role, in.Role)
	if in.Environment != nil {
		f.Environment = in.Environment.Variables
	}
	if in.DeadLetterConfig != nil {
		f.DeadLetter = in.DeadLetterConfig.TargetArn
	}
	if in.LoggingConfig != nil {
		set(&f.LogGroup, in.LoggingConfig.LogGroup)
	}
	switch {
	case strings.HasPrefix(f.Runtime, "python2"), strings.HasPrefix(f.Runtime, "go1"):
		return invalid("The runtime parameter of %s is no longer supported for creating or updating AWS Lambda functions. We recommend you use a supported runtime while creating or updating functions.", f.Runtime)
	case f.Runtime != "provided.al2023" && f.Runtime != "provided.al2":
		return invalid("The emulator runs provided.al2023 and provided.al2, not the runtime %q", f.Runtime)
	case f.Handler == "":
		return invalid("Handler must be given")
	case f.Timeout < 1 || f.Timeout > 900:
		return invalid("1 validation error detected: Value '%d' at 'timeout' failed to satisfy constraint: Member must have value from 1 to 900", f.Timeout)
	case f.MemorySize < 128 || f.MemorySize > 10240:
		return invalid("'MemorySize' value failed to satisfy constraint: Member must have value from 128 to 10240")
	}
	if err := checkEnvironment(f.Environment); err != nil {
		return err
	}
	if in.Role == nil {
		return nil
	}
	if err := s.IAM.May(r.Credential.AccessKey, "iam:PassRole", f.Role); err != nil {
		return err
	}
	if !s.IAM.CanAssume(f.Role, "lambda.amazonaws.com", s.ARN(f.Name), s.Faults().RoleSettle) {
		return invalid("The role defined for the function cannot be assumed by Lambda.")
	}
	return nil
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// reserved are the variables that a function cannot set (Lambda developer
// guide, environment variables).
func reserved() []string {
	return []string{
		"_HANDLER", "_X_AMZN_TRACE_ID", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_EXECUTION_ENV",
		"AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_VERSION",
		"AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME",
		"AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
		"AWS_LAMBDA_RUNTIME_API", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR",
	}
}

const maxEnvironment = 4 << 10 // bytes of all names and values

func checkEnvironment(vars map[string]string) error {
	size := 0
	var bad []string
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		size += len(name) + len(vars[name])
		if slices.Contains(reserved(), name) {
			bad = append(bad, name)
		}
	}
	const unable = "Lambda was unable to configure your environment variables because the environment variables you have provided "
	if len(bad) > 0 {
		return invalid(unable+"contains reserved keys that are currently not supported for modification. Reserved keys used in this request: %s", strings.Join(bad, ", "))
	}
	if size > maxEnvironment {
		return invalid(unable+"exceeded the 4KB limit. String measured: %d bytes", size)
	}
	return nil
}
