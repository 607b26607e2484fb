package lambda

import (
	"net/http"
	"strings"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/iotcore/awsapi"
)

// invokeConfig is what becomes of a function's asynchronous events.
type invokeConfig struct {
	MaxAge     *int      `json:"maxAge,omitempty"` // seconds
	Retries    *int      `json:"retries,omitempty"`
	OnFailure  string    `json:"onFailure,omitempty"` // ARN
	OnSuccess  string    `json:"onSuccess,omitempty"`
	ModifiedAt time.Time `json:"modifiedAt"`
}

// The defaults of Lambda: 6 hours and two retries.
func (c invokeConfig) maxAge() time.Duration {
	if c.MaxAge == nil {
		return 6 * time.Hour
	}
	return time.Duration(*c.MaxAge) * time.Second
}

func (c invokeConfig) retries() int {
	if c.Retries == nil {
		return 2
	}
	return *c.Retries
}

func (s *Service) invokeConfig(name string) invokeConfig {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f, ok := s.functions[name]; ok && f.Invoke != nil {
		return *f.Invoke
	}
	return invokeConfig{}
}

type destination struct{ Destination string }

type destinations struct{ OnFailure, OnSuccess *destination }

type eventInvokeInput struct {
	MaximumRetryAttempts, MaximumEventAgeInSeconds *int
	DestinationConfig                              *destinations
}

func (s *Service) putEventInvoke(r *awsapi.Request) (any, error) { return s.setEventInvoke(r, true) }

func (s *Service) updateEventInvoke(r *awsapi.Request) (any, error) {
	return s.setEventInvoke(r, false)
}

// setEventInvoke replaces the configuration, or changes what is given.
func (s *Service) setEventInvoke(r *awsapi.Request, replace bool) (any, error) {
	var in eventInvokeInput
	if err := r.JSON(&in); err != nil {
		return nil, err
	}
	if n := in.MaximumRetryAttempts; n != nil && (*n < 0 || *n > 2) {
		return nil, invalid("MaximumRetryAttempts must be from 0 to 2")
	}
	if n := in.MaximumEventAgeInSeconds; n != nil && (*n < 60 || *n > 21600) {
		return nil, invalid("MaximumEventAgeInSeconds must be from 60 to 21600")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.byName(r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	if f.Invoke == nil && !replace {
		return nil, s.noEventInvoke(f.Name)
	}
	c := invokeConfig{}
	if !replace {
		c = *f.Invoke
	}
	if in.MaximumRetryAttempts != nil {
		c.Retries = in.MaximumRetryAttempts
	}
	if in.MaximumEventAgeInSeconds != nil {
		c.MaxAge = in.MaximumEventAgeInSeconds
	}
	if d := in.DestinationConfig; d != nil {
		if err := s.setDestination(f, &c.OnFailure, d.OnFailure); err != nil {
			return nil, err
		}
		if err := s.setDestination(f, &c.OnSuccess, d.OnSuccess); err != nil {
			return nil, err
		}
	}
	c.ModifiedAt = time.Now()
	f.Invoke = &c
	s.Changed()
	return s.describeEventInvoke(f), nil
}

// setDestination checks what AWS checks: that the role may send there.
func (s *Service) setDestination(f *function, to *string, d *destination) error {
	if d == nil {
		return nil
	}
	arn := d.Destination
	switch {
	case arn == "":
	case strings.HasPrefix(arn, s.Place.ARN("sqs", "")):
		if err := s.IAM.RoleMay(f.Role, f.Name, "sqs:SendMessage", arn); err != nil {
			return invalid("The function's execution role does not have permissions to call SendMessage on %s", arn)
		}
	case strings.HasPrefix(arn, s.Place.ARN("lambda", "")):
		if err := s.IAM.RoleMay(f.Role, f.Name, "lambda:InvokeFunction", arn); err != nil {
			return invalid("The function's execution role does not have permissions to call InvokeFunction on %s", arn)
		}
	default:
		return invalid("The destination ARN %s is invalid: the emulator has SQS queues and Lambda functions of this account and Region", arn)
	}
	*to = arn
	return nil
}

func (s *Service) describeEventInvoke(f *function) any {
	var d destinations
	if f.Invoke.OnFailure != "" {
		d.OnFailure = &destination{f.Invoke.OnFailure}
	}
	if f.Invoke.OnSuccess != "" {
		d.OnSuccess = &destination{f.Invoke.OnSuccess}
	}
	return struct {
		FunctionArn              string
		LastModified             float64
		MaximumRetryAttempts     *int `json:",omitempty"`
		MaximumEventAgeInSeconds *int `json:",omitempty"`
		DestinationConfig        destinations
	}{s.ARN(f.Name) + ":$LATEST", awsapi.Epoch(f.Invoke.ModifiedAt), f.Invoke.Retries, f.Invoke.MaxAge, d}
}

func (s *Service) noEventInvoke(name string) error {
	return awsapi.Refuse(http.StatusNotFound, "ResourceNotFoundException", "The function %s doesn't have an EventInvokeConfig", s.ARN(name)+":$LATEST")
}

func (s *Service) getEventInvoke(r *awsapi.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.byName(r.PathValue("name"))
	if err == nil && f.Invoke == nil {
		err = s.noEventInvoke(f.Name)
	}
	if err != nil {
		return nil, err
	}
	return s.describeEventInvoke(f), nil
}

func (s *Service) deleteEventInvoke(r *awsapi.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.byName(r.PathValue("name"))
	if err == nil && f.Invoke == nil {
		err = s.noEventInvoke(f.Name)
	}
	if err != nil {
		return nil, err
	}
	f.Invoke = nil
	s.Changed()
	return nil, nil
}
