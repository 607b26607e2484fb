package main

import (
	"io"
	"math/rand/v2"
	"time"
)

const (
	// callsTake is how long the five calls of an activation take one after the
	// other: DescribeCertificate, CreateThing, AttachThingPrincipal,
	// AttachPolicy, UpdateCertificate.
	callsTake = 500 * time.Millisecond
	// duplicateTakes is what an event costs whose certificate the activator
	// remembers: no call, only its share of a batch.
	duplicateTakes = time.Millisecond
)

// activationServer is a new account's side of a power-on storm. Each CONNECT of
// a pending certificate that the account's CONNECT quota lets through puts an
// event into a queue; the activator takes them out in no order. The API's
// quotas are each call's own: DescribeCertificate and UpdateCertificate have
// 10 a second, the others 15, so the first of them, which an event may pay for
// in vain, sets the pace.
type activationServer struct {
	quota    quotaServer
	perCall  time.Duration // between two DescribeCertificate calls
	memories int           // instances of the activator, each with its own; 0: it remembers nothing
	known    []uint8       // by device: the instances that remember it, a bit each
	random   *rand.Rand

	backlog []int32         // events by device
	free    time.Duration   // when the activator takes the next one
	active  []time.Duration // by device: when; notYet
	events  int
	calls   int // DescribeCertificate
}

func newActivationServer(devices, connects, calls, memories int, seed uint64) *activationServer {
	s := &activationServer{
		quota:    quotaServer{perSecond: connects, refusal: io.EOF},
		perCall:  time.Second / time.Duration(calls),
		memories: memories,
		known:    make([]uint8, devices),
		random:   rand.New(rand.NewPCG(seed, 0xe7e47)),
		active:   make([]time.Duration, devices),
	}
	for i := range s.active {
		s.active[i] = notYet
	}
	return s
}

func (s *activationServer) connect(device int, now time.Duration) error {
	s.work(now)
	if err := s.quota.connect(device, now); err != nil {
		return err // before anybody looks at the certificate: no event
	}
	if at := s.active[device]; at != notYet && now >= at {
		return nil
	}
	if len(s.backlog) == 0 {
		s.free = max(s.free, now)
	}
	s.backlog = append(s.backlog, int32(device))
	s.events++
	return io.EOF
}

// work does what the activator has done until now.
func (s *activationServer) work(now time.Duration) {
	for len(s.backlog) > 0 && s.free < now {
		i := s.random.IntN(len(s.backlog))
		device := s.backlog[i]
		last := len(s.backlog) - 1
		s.backlog[i], s.backlog = s.backlog[last], s.backlog[:last]
		if s.memories > 0 {
			bit := uint8(1) << s.random.IntN(s.memories)
			if s.known[device]&bit != 0 {
				s.free += duplicateTakes
				continue
			}
			s.known[device] |= bit
		}
		s.calls++
		if s.active[device] == notYet {
			s.active[device] = s.free + callsTake
		}
		s.free += s.perCall
	}
}
