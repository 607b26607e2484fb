package iotcore

import "sync/atomic"

// Faults are misbehaviours that a test can switch on and off at run time.
type Faults struct {
	// CutAfterConnack closes each connection right after CONNACK 0, as AWS
	// does where a policy denies what the device does next.
	CutAfterConnack bool `json:"cutAfterConnack"`
	// DenyPublish refuses publishes to topics that match this topic filter,
	// as a policy would; empty: none.
	DenyPublish string `json:"denyPublish"`
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
