package main

import (
	"math/rand/v2"
	"time"
)

const (
	// there is the time from a dial to the server's sight of the CONNECT: TCP,
	// TLS 1.2 and the CONNECT over a path of 40 ms, and the device's signature.
	there = 150 * time.Millisecond
	// back is the way of the answer.
	back = 50 * time.Millisecond
)

// server judges the CONNECT of a device; nil lets it in.
type server interface {
	connect(device int, now time.Duration) error
}

// fleet is a set of equal devices.
type fleet struct {
	size int
	seed uint64
	// client makes the one of a device.
	client func(device int, random *rand.Rand) client
	// start sets a device going, and gives its first dial.
	start func(device int, c client) time.Duration
	// horizon ends a run in which not all get in.
	horizon time.Duration
}

// outcome is what became of a fleet.
type outcome struct {
	clients  []client
	attempts []int           // by device
	online   []time.Duration // by device: when it read CONNACK 0; notYet
	rate     []int           // CONNECTs in each second
	retries  []int           // those of them that were not a device's first
	sum      int             // all CONNECTs
	in       int             // devices online
}

const notYet = time.Duration(-1)

// run lets the fleet meet the server until all are in, or the horizon.
func (f *fleet) run(s server) *outcome {
	o := &outcome{
		clients:  make([]client, f.size),
		attempts: make([]int, f.size),
		online:   make([]time.Duration, f.size),
	}
	var q queue
	for i := range f.size {
		o.online[i] = notYet
		// Each device has dice of its own: what one does moves no other's.
		o.clients[i] = f.client(i, rand.New(rand.NewPCG(f.seed, uint64(i))))
		q.push(arrival{f.start(i, o.clients[i]) + there, int32(i)})
	}
	for len(q) > 0 {
		a := q.pop()
		if a.at > f.horizon {
			break
		}
		i := int(a.device)
		c := o.clients[i]
		c.sent(a.at)
		o.count(i, a.at)
		err := s.connect(i, a.at)
		answered := a.at + back
		if err == nil {
			o.online[i] = answered
			o.in++
			continue
		}
		q.push(arrival{answered + c.refused(err, answered) + there, a.device})
	}
	return o
}

func (o *outcome) count(device int, at time.Duration) {
	o.sum++
	o.attempts[device]++
	second := int(at / time.Second)
	for len(o.rate) <= second {
		o.rate, o.retries = append(o.rate, 0), append(o.retries, 0)
	}
	o.rate[second]++
	if o.attempts[device] > 1 {
		o.retries[second]++
	}
}

// finish is when the last device came in, and whether all did.
func (o *outcome) finish() (time.Duration, bool) {
	var last time.Duration
	for _, at := range o.online {
		last = max(last, at)
	}
	return last, o.in == len(o.online)
}

// rejected counts the agents that once took the server's answer for a refusal.
func (o *outcome) rejected() int {
	n := 0
	for _, c := range o.clients {
		if a, ours := c.(*agent); ours && a.rejected {
			n++
		}
	}
	return n
}
