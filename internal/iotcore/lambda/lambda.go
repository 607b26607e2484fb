// Package lambda is the part of AWS Lambda that an activator needs, and it
// runs what is deployed: the very zip is unpacked and its bootstrap started,
// with the Lambda runtime API before it and the environment that AWS gives a
// function: the Region, temporary keys of its role, and an endpoint that leads
// back to the emulator.
//
// It promises what makes a function's life hard at AWS: an instance serves one
// event at a time and shares memory with no other; there are no more of them
// than the concurrency allows; a timeout kills; an asynchronous event comes at
// least once and is tried again twice; and the function can do only what its
// role allows. It does not limit memory or CPU.
package lambda

import (
	"context"
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/jitr-agent/jitr-agent/internal/iotcore/awsapi"
	"github.com/jitr-agent/jitr-agent/internal/iotcore/iam"
	"github.com/jitr-agent/jitr-agent/internal/iotcore/logs"
	"github.com/jitr-agent/jitr-agent/internal/iotcore/sqs"
)

// Config is what a Service needs. All of it must be given.
type Config struct {
	Place    awsapi.Place
	Dir      string        // where code is unpacked
	Endpoint func() string // AWS_ENDPOINT_URL of the functions
	IAM      *iam.Service
	SQS      *sqs.Service
	Logs     *logs.Service

	// AsyncRetry is the wait before the first retry of an asynchronous event,
	// and twice that is the wait before the second; 1 min at AWS.
	AsyncRetry time.Duration
	// Concurrency is the account's: how many instances there can be at once.
	Concurrency int
	// Faults are asked each time.
	Faults func() Faults
	// Changed is told of every change that a restart has to remember; it must
	// neither block nor call back.
	Changed func()
	Log     *zap.Logger
}

// Faults are misbehaviours of Lambda and of what is around it.
type Faults struct {
	Copies     int           // how often each asynchronous event is delivered; below 2: once
	RoleSettle time.Duration // how long a new role cannot be assumed
}

// Service is the functions of one account and Region. It is safe for
// concurrent use.
type Service struct {
	Config

	mu        sync.Mutex
	functions map[string]*function
	mappings  map[string]*mapping // by UUID
	pools     map[string]*pool    // by function name
	workers   map[string]context.CancelFunc
	running   context.Context //nolint:containedctx // of Run: workers begin with their function, in any call
	work      sync.WaitGroup
}

// New makes an account without functions. They run between Run's begin and
// its end.
func New(cfg Config) *Service {
	return &Service{
		Config: cfg, functions: map[string]*function{}, mappings: map[string]*mapping{},
		pools: map[string]*pool{}, workers: map[string]context.CancelFunc{},
	}
}

// Run lets functions run until ctx ends. Then it ends all instances and waits
// for them. Events that were not done stay for the next start.
func (s *Service) Run(ctx context.Context) {
	s.mu.Lock()
	s.running = ctx
	for name := range s.functions {
		s.startAsync(name)
	}
	for id := range s.mappings {
		s.startMapping(id)
	}
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	for name := range s.pools {
		s.closePool(name)
	}
	s.mu.Unlock()
	s.work.Wait()
}

// ARN is that of a function.
func (s *Service) ARN(name string) string { return s.Place.ARN("lambda", "function:"+name) }

// nameOf takes a function's ARN apart: whole, or ACCOUNT:function:NAME, with
// or without $LATEST. A name is given back as it is.
func nameOf(nameOrARN string) string {
	if _, rest, ok := strings.Cut(nameOrARN, "function:"); ok {
		nameOrARN = rest
	}
	name, _, _ := strings.Cut(nameOrARN, ":")
	return name
}

func (s *Service) noFunction(name string) error {
	return awsapi.Refuse(http.StatusNotFound, "ResourceNotFoundException", "Function not found: %s", s.ARN(name))
}

// byName finds a function by name or ARN. The caller holds s.mu.
func (s *Service) byName(nameOrARN string) (*function, error) {
	name := nameOf(nameOrARN)
	f, ok := s.functions[name]
	if !ok {
		return nil, s.noFunction(name)
	}
	return f, nil
}

// codeDir is where a version of a function's code is unpacked.
func (s *Service) codeDir(f *function) string {
	return filepath.Join(s.Dir, f.Name, strings.NewReplacer("/", "_", "+", "-").Replace(f.CodeSHA256))
}

// stored is what a restart remembers.
type stored struct {
	Functions map[string]*function `json:"functions"`
	Mappings  map[string]*mapping  `json:"mappings,omitempty"`
}

// MarshalJSON is the functions, mappings and asynchronous events, for the
// store. The code is in Config.Dir.
func (s *Service) MarshalJSON() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.functions {
		f.Events = f.async.all()
	}
	return json.Marshal(stored{s.functions, s.mappings})
}

// UnmarshalJSON replaces everything by what was stored; to be called before
// Run.
func (s *Service) UnmarshalJSON(data []byte) error {
	in := stored{map[string]*function{}, map[string]*mapping{}}
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	for _, f := range in.Functions {
		f.async = newAsyncQueue(f.Events)
	}
	s.mu.Lock()
	s.functions, s.mappings = in.Functions, in.Mappings
	s.mu.Unlock()
	return nil
}
