package iotcore

import "sync/atomic"

// Faults are misbehaviours and limits that a test can switch on and off at run
// time.
type Faults struct {
	// CutAfterConnack closes each connection right after CONNACK 0, as AWS
	// does where a policy denies what the device does next.
	CutAfterConnack bool `json:"cutAfterConnack"`
	// DenyPublish refuses publishes to topics that match this topic filter,
	// as a policy would; empty: none.
	DenyPublish string `json:"denyPublish"`
	// Throttle limits the control plane of AWS IoT to this multiple of AWS's
	// calls per second, for each operation; 0: no limit, 1: as AWS.
	Throttle float64 `json:"throttle"`
	// Copies is how often an event is delivered to a Lambda function
	// asynchronously, or put into a queue by a rule; below 2: once.
	Copies int `json:"copies"`
	// RoleSettleSeconds is how long a new role cannot be assumed by Lambda: on
	// AWS, some seconds.
	RoleSettleSeconds float64 `json:"roleSettleSeconds"`
}

// faults holds the Faults of a server. It is safe for concurrent use.
type faults struct{ current atomic.Pointer[Faults] }

func (f *faults) set(to Faults) { f.current.Store(&to) }

func (f *faults) get() Faults {
	if now := f.current.Load(); now != nil {
		return *now
	}
	return Faults{}
}
