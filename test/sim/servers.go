package main

import (
	"io"
	"math/rand/v2"
	"time"
)

// pendingServer closes each connection without a CONNACK until the certificate
// is active: a while after its first CONNECT, which registers it.
type pendingServer struct {
	takes  []time.Duration // by device
	active []time.Duration // by device: when; notYet
}

func newPendingServer(devices int, seed uint64, takes func(*rand.Rand) time.Duration) *pendingServer {
	s := &pendingServer{takes: make([]time.Duration, devices), active: make([]time.Duration, devices)}
	random := rand.New(rand.NewPCG(seed, 0xac71))
	for i := range devices {
		s.takes[i], s.active[i] = takes(random), notYet
	}
	return s
}

func (s *pendingServer) connect(device int, now time.Duration) error {
	if s.active[device] == notYet {
		s.active[device] = now + s.takes[device]
	}
	if now < s.active[device] {
		return io.EOF
	}
	return nil
}

// quotaServer takes so many CONNECTs in each second and refuses the others,
// as an account at its quota does.
type quotaServer struct {
	perSecond int
	refusal   error

	second time.Duration
	taken  int
}

func (s *quotaServer) connect(_ int, now time.Duration) error {
	if second := now / time.Second; second != s.second {
		s.second, s.taken = second, 0
	}
	if s.taken == s.perSecond {
		return s.refusal
	}
	s.taken++
	return nil
}
