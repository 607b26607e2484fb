package lambda

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/iotcore/awsapi"
)

// mappingInput is what CreateEventSourceMapping and UpdateEventSourceMapping
// share; nil: not given.
type mappingInput struct {
	EventSourceArn                 string
	FunctionName                   *string
	BatchSize                      *int
	MaximumBatchingWindowInSeconds *int
	Enabled                        *bool
	FunctionResponseTypes          *[]string
	ScalingConfig                  *struct{ MaximumConcurrency *int }
	Tags                           map[string]string
}

// applyMapping checks the input and sets it. The caller holds s.mu.
func (s *Service) applyMapping(in mappingInput, m *mapping) error {
	if in.FunctionName != nil {
		m.Function = nameOf(*in.FunctionName)
	}
	f, err := s.byName(m.Function)
	if err != nil {
		return err
	}
	set(&m.BatchSize, in.BatchSize)
	set(&m.Window, in.MaximumBatchingWindowInSeconds)
	set(&m.Enabled, in.Enabled)
	if in.FunctionResponseTypes != nil {
		m.ReportFailures = slices.Contains(*in.FunctionResponseTypes, "ReportBatchItemFailures")
	}
	if in.ScalingConfig != nil {
		m.Concurrency = 0
		set(&m.Concurrency, in.ScalingConfig.MaximumConcurrency)
	}
	visibility, err := s.SQS.VisibilityTimeout(m.Queue)
	switch {
	case err != nil:
		return invalid("Error occurred while ReceiveMessage. SQS Error Code: AWS.SimpleQueueService.NonExistentQueue. SQS Error Message: The specified queue does not exist.")
	case m.BatchSize < 1 || m.BatchSize > 10000:
		return invalid("Batch size %d is not from 1 to 10000", m.BatchSize)
	case m.Window < 0 || m.Window > 300:
		return invalid("Maximum batch window %d is not from 0 to 300 seconds", m.Window)
	case m.BatchSize > 10 && m.Window == 0:
		return invalid("Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10")
	case m.Concurrency != 0 && (m.Concurrency < 2 || m.Concurrency > 1000):
		return invalid("MaximumConcurrency %d is not from 2 to 1000", m.Concurrency)
	case visibility < time.Duration(f.Timeout)*time.Second:
		return invalid("Queue visibility timeout: %d seconds is less than Function timeout: %d seconds", int(visibility.Seconds()), f.Timeout)
	}
	for _, action := range []string{"ReceiveMessage", "DeleteMessage", "GetQueueAttributes"} {
		if s.IAM.RoleMay(f.Role, f.Name, "sqs:"+action, m.Queue) != nil {
			return invalid("The provided execution role does not have permissions to call %s on SQS", action)
		}
	}
	return nil
}

// describedMapping is a mapping in an answer.
type describedMapping struct {
	UUID                           string
	EventSourceMappingArn          string
	EventSourceArn                 string
	FunctionArn                    string
	BatchSize                      int
	MaximumBatchingWindowInSeconds int
	FunctionResponseTypes          []string
	ScalingConfig                  map[string]int `json:",omitempty"`
	State                          string
	StateTransitionReason          string
	LastModified                   float64
	LastProcessingResult           string `json:",omitempty"`
}

func (s *Service) describeMapping(m *mapping, state string) describedMapping {
	d := describedMapping{
		m.UUID, s.mappingARN(m.UUID), m.Queue, s.ARN(m.Function), m.BatchSize, m.Window, []string{}, nil,
		state, "USER_INITIATED", awsapi.Epoch(m.ModifiedAt), m.result,
	}
	if m.ReportFailures {
		d.FunctionResponseTypes = append(d.FunctionResponseTypes, "ReportBatchItemFailures")
	}
	if m.Concurrency > 0 {
		d.ScalingConfig = map[string]int{"MaximumConcurrency": m.Concurrency}
	}
	return d
}

func (s *Service) mappingARN(id string) string {
	return s.Place.ARN("lambda", "event-source-mapping:"+id)
}

// state is Creating or Updating for a while.
func (m *mapping) state(now time.Time) string {
	switch {
	case now.Sub(m.CreatedAt) < settle:
		return "Creating"
	case now.Sub(m.ModifiedAt) < settle:
		return "Updating"
	case m.Enabled:
		return "Enabled"
	}
	return "Disabled"
}

func (s *Service) createMapping(r *awsapi.Request) (any, error) {
	in := mappingInput{}
	if err := r.JSON(&in); err != nil {
		return nil, err
	}
	now := time.Now()
	m := &mapping{UUID: awsapi.NewID(), Queue: in.EventSourceArn, BatchSize: 10, Enabled: true, CreatedAt: now, ModifiedAt: now, Tags: in.Tags}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !strings.HasPrefix(m.Queue, s.Place.ARN("sqs", "")) {
		return nil, invalid("Unrecognized event source, must be an SQS queue of this account and Region: %s", m.Queue)
	}
	if in.FunctionName == nil {
		return nil, invalid("FunctionName must be given")
	}
	if err := s.applyMapping(in, m); err != nil {
		return nil, err
	}
	for id, other := range s.mappings {
		if other.Queue == m.Queue && other.Function == m.Function {
			return nil, awsapi.Refuse(http.StatusConflict, "ResourceConflictException",
				`An event source mapping with SQS arn (" %s ") and function (" %s ") already exists. Please update or delete the existing mapping with UUID %s`, m.Queue, m.Function, id)
		}
	}
	s.mappings[m.UUID] = m
	s.startMapping(m.UUID)
	s.Changed()
	return s.describeMapping(m, "Creating"), nil
}

// byUUID finds the mapping that a request is about. The caller holds s.mu.
func (s *Service) byUUID(r *awsapi.Request) (*mapping, error) {
	m, ok := s.mappings[r.PathValue("id")]
	if !ok {
		return nil, awsapi.Refuse(http.StatusNotFound, "ResourceNotFoundException", "The resource you requested does not exist.")
	}
	return m, nil
}

func (s *Service) getMapping(r *awsapi.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := s.byUUID(r)
	if err != nil {
		return nil, err
	}
	return s.describeMapping(m, m.state(time.Now())), nil
}

func (s *Service) listMappings(r *awsapi.Request) (any, error) {
	q := r.URL.Query()
	size, err := awsapi.PageSize(q.Get("MaxItems"), 100, 10000)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ids, next := awsapi.Page(slices.Sorted(maps.Keys(s.mappings)), q.Get("Marker"), size, func(id string) string { return id })
	list := []describedMapping{}
	for _, id := range ids {
		m := s.mappings[id]
		if f := q.Get("FunctionName"); f != "" && nameOf(f) != m.Function {
			continue
		}
		if cmp.Or(q.Get("EventSourceArn"), m.Queue) == m.Queue {
			list = append(list, s.describeMapping(m, m.state(time.Now())))
		}
	}
	out := map[string]any{"EventSourceMappings": list}
	if next != "" {
		out["NextMarker"] = next
	}
	return out, nil
}

// busy is how AWS refuses a change of a mapping that is being changed.
func (m *mapping) busy(now time.Time) error {
	if now.Sub(m.ModifiedAt) >= settle {
		return nil
	}
	return awsapi.Refuse(http.StatusBadRequest, "ResourceInUseException", "Cannot update the event source mapping because it is in use.")
}

func (s *Service) updateMapping(r *awsapi.Request) (any, error) {
	in := mappingInput{}
	if err := r.JSON(&in); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	known, err := s.byUUID(r)
	if err == nil {
		err = known.busy(time.Now())
	}
	if err != nil {
		return nil, err
	}
	m := *known
	if err := s.applyMapping(in, &m); err != nil {
		return nil, err
	}
	m.ModifiedAt = time.Now()
	*known = m
	s.startMapping(m.UUID)
	s.Changed()
	return s.describeMapping(known, "Updating"), nil
}

func (s *Service) deleteMapping(r *awsapi.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := s.byUUID(r)
	if err == nil {
		err = m.busy(time.Now())
	}
	if err != nil {
		return nil, err
	}
	s.stopWorker("mapping " + m.UUID)
	delete(s.mappings, m.UUID)
	s.Changed()
	return s.describeMapping(m, "Deleting"), nil
}
