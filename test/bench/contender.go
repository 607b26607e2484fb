package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"
)

// cost is what one measurement found.
type cost struct {
	messages  int           // that arrived
	wall      time.Duration // from the start to the last message
	cpu       time.Duration // user and system, of the client alone
	brokerCPU time.Duration // of the broker that plays the cloud
	rss       int64         // bytes, the client's highest
}

// rate is messages per second.
func (c cost) rate() float64 { return float64(c.messages) / c.wall.Seconds() }

// perMessage is a CPU time as seconds for 100,000 messages.
func (c cost) perMessage(cpu time.Duration) float64 {
	return cpu.Seconds() / float64(c.messages) * 100_000
}

// contender is one row of a table.
type contender struct {
	name     string
	messages int
	run      func(ctx context.Context, messages int) (cost, error)
}

// result is what the rounds of a contender found. After an error it was not
// measured again.
type result struct {
	contender

	costs []cost
	err   error
}

// measure runs the contenders in turn, for a number of rounds, each round
// beginning with another one.
func measure(ctx context.Context, rounds int, contenders []contender) []result {
	results := make([]result, len(contenders))
	for i, c := range contenders {
		results[i].contender = c
	}
	for round := range rounds {
		for i := range results {
			r := &results[(i+round)%len(results)]
			if r.err != nil || ctx.Err() != nil {
				continue
			}
			c, err := r.run(ctx, r.messages)
			if err == nil && c.messages < r.messages {
				fmt.Fprintf(os.Stderr, "bench: round %d, %s: only %d of %d messages arrived\n", round+1, r.name, c.messages, r.messages)
			}
			if err != nil {
				r.err = err
				fmt.Fprintf(os.Stderr, "bench: round %d, %s: %v\n", round+1, r.name, err)
				continue
			}
			r.costs = append(r.costs, c)
			fmt.Fprintf(os.Stderr, "bench: round %d, %s: %.0f msgs/s\n", round+1, r.name, c.rate())
		}
	}
	return results
}

// of is one number of each round.
func (r result) of(number func(cost) float64) []float64 {
	all := make([]float64, len(r.costs))
	for i, c := range r.costs {
		all[i] = number(c)
	}
	return all
}

// against is the median of the rounds' ratios of one number to a peer's. It is
// not valid where either could not be measured in all rounds.
func (r result) against(peer result, number func(cost) float64) (ratio float64, valid bool) {
	if len(r.costs) == 0 || len(r.costs) != len(peer.costs) {
		return 0, false
	}
	ours, theirs := r.of(number), peer.of(number)
	ratios := make([]float64, len(ours))
	for i := range ours {
		ratios[i] = ours[i] / theirs[i]
	}
	return median(ratios), true
}

// median is the middle value, and of an even number the mean of the two.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	switch {
	case n == 0:
		return 0
	case n%2 == 1:
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}
