package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// ours is the agent's name in tables and plots.
const ours = "jitr-agent"

// contestants are the agent and its peers.
func contestants() (names []string, makers []maker) {
	names, makers = []string{ours}, []maker{newAgent}
	for i := range peers {
		names, makers = append(names, peers[i].name), append(makers, peers[i].new)
	}
	return names, makers
}

// check is a target and what became of it.
type check struct {
	scenario, target, got string
	ok                    bool
	// impossible says why no schedule can reach a target, where that is so.
	impossible string
}

// targets runs the agent through all scenarios. Fleets and quotas are divided
// by scale, which leaves all shares and times as they are.
func targets(scale int, seed uint64) []check {
	var checks []check
	add := func(scenario, target string, ok bool, format string, args ...any) *check {
		checks = append(checks, check{scenario: scenario, target: target, got: fmt.Sprintf(format, args...), ok: ok})
		return &checks[len(checks)-1]
	}

	for _, c := range pendingCases {
		r := c.run(ours, newAgent, scale, seed)
		p50, p95, attempts := percentile(r.overshoot, 50), percentile(r.overshoot, 95), percentile(r.attempts, 95)
		if c.p50 > 0 {
			add(c.name, "overshoot p50 ≤ "+short(c.p50), r.all && p50 <= c.p50, "%s", short(p50))
		}
		add(c.name, "overshoot p95 ≤ "+short(c.p95), r.all && p95 <= c.p95, "%s", short(p95))
		if c.attempts > 0 {
			add(c.name, fmt.Sprintf("attempts p95 ≤ %d", c.attempts), attempts <= c.attempts, "%d", attempts)
			continue
		}
		loop := c.run(peers[0].name, peers[0].new, scale, seed)
		add(c.name, fmt.Sprintf("attempts on average ≤ those of the 1 s loop (%.2f)", loop.mean), r.mean <= loop.mean, "%.2f", r.mean)
	}

	devices, connects := stormDevices/scale, stormConnects/scale
	for _, s := range []struct {
		name string
		run  func() stormResult
		boot bool
	}{
		{"cut off, CONNACK 0x97", func() stormResult { return cutOff(ours, newAgent, devices, connects, exceeded, seed) }, false},
		{"cut off, bare close", func() stormResult { return cutOff(ours, newAgent, devices, connects, io.EOF, seed) }, false},
		{"power back, CONNACK 0x97", func() stormResult { return powerBack(ours, newAgent, devices, connects, exceeded, seed) }, true},
		{"power back, bare close", func() stormResult { return powerBack(ours, newAgent, devices, connects, io.EOF, seed) }, true},
		{"power back twice, bare close", func() stormResult { return powerTwice(devices, connects, io.EOF, seed) }, true},
	} {
		r := s.run()
		add(s.name, fmt.Sprintf("all in ≤ %.1f × the bound", stormFinish), r.all && r.ratio <= stormFinish, "%.2f ×", r.ratio)
		add(s.name, fmt.Sprintf("attempts on average ≤ %.1f", stormAttempts), r.attempts <= stormAttempts, "%.2f", r.attempts)
		peak := fmt.Sprintf("≤ %s CONNECT/s at the peak", count(stormPeak/scale))
		c := add(s.name, peak, r.peak <= stormPeak/scale, "%s", count(r.peak))
		if s.boot {
			c.impossible = "a start dials at once: boots of σ 5 s are " + count(boots(devices, seed).peak()) + " first dials/s by themselves"
			add(s.name, peak+", without first dials", r.retries <= stormPeak/scale, "%s", count(r.retries))
		}
		add(s.name, "none enters `rejected`", r.rejected == 0, "%d", r.rejected)
	}

	r, _, calls := powerOn(ours, newAgent, newDevices/scale, connects, 1, seed)
	add("power on", fmt.Sprintf("all in ≤ %.2f × the bound", powerOnFinish), r.all && r.ratio <= powerOnFinish, "%.2f ×", r.ratio)
	add("power on", "one DescribeCertificate a certificate", calls == newDevices/scale, "%s", count(calls))
	for _, rate := range []int{15, 5} {
		r := misjudged(rate, seed)
		add(fmt.Sprintf("3,000 cut off, %d CONNECT/s, bare close", rate), "none enters `rejected`", r.rejected == 0, "%d in %s", r.rejected, short(r.finish))
	}
	return checks
}

func targetTable(checks []check) string {
	var b strings.Builder
	b.WriteString("| scenario | target | jitr-agent | |\n|---|---|---|---|\n")
	for _, c := range checks {
		verdict := mark(c.ok)
		if !c.ok && c.impossible != "" {
			verdict += " " + c.impossible
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", c.scenario, c.target, c.got, verdict)
	}
	return b.String()
}

func pendingTable(results []pendingResult) string {
	var b strings.Builder
	b.WriteString("| client | overshoot p50 | p95 | longest | attempts, mean | p95 |\n|---|---|---|---|---|---|\n")
	for _, r := range results {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %.1f | %s |\n", r.client,
			short(percentile(r.overshoot, 50)), short(percentile(r.overshoot, 95)), short(percentile(r.overshoot, 100)),
			r.mean, count(percentile(r.attempts, 95)))
	}
	return b.String()
}

func stormTable(results []stormResult) string {
	var b strings.Builder
	b.WriteString("| client | all in after | × the bound | attempts, mean | peak, CONNECT/s |\n|---|---|---|---|---|\n")
	for _, r := range results {
		after, ratio := short(r.finish), fmt.Sprintf("%.2f", r.ratio)
		if !r.all {
			after, ratio = fmt.Sprintf("%.0f %% after %s", 100*r.in, short(stormHorizon)), "–"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %.1f | %s |\n", r.client, after, ratio, r.attempts, count(r.peak))
	}
	return b.String()
}

// powerOnTable compares activators, with our agent, and then clients, with the
// activator of one memory.
func powerOnTable(seed uint64) string {
	var b strings.Builder
	b.WriteString("| client | activator | all in after | × the bound | attempts, mean | events | DescribeCertificate |\n|---|---|---|---|---|---|---|\n")
	line := func(name string, m maker, memories int, activator string) {
		r, events, calls := powerOn(name, m, newDevices, stormConnects, memories, seed)
		fmt.Fprintf(&b, "| %s | %s | %s | %.2f | %.1f | %s | %s |\n", name, activator, short(r.finish), r.ratio, r.attempts, count(events), count(calls))
	}
	line(ours, newAgent, 1, "remembers")
	line(ours, newAgent, 4, "4 instances, each remembers its own")
	line(ours, newAgent, 0, "a call for each event")
	for i := range peers {
		line(peers[i].name, peers[i].new, 1, "remembers")
	}
	return b.String()
}

// misjudgedTable goes beyond what the contract promises.
func misjudgedTable(seed uint64) string {
	var b strings.Builder
	b.WriteString("| CONNECT/s | least time to drain | all in after | entered `rejected` |\n|---|---|---|---|\n")
	for _, rate := range []int{15, 10, 5, 4, 3} {
		r := misjudged(rate, seed)
		fmt.Fprintf(&b, "| %d | %s | %s | %d |\n", rate, short(stormBound(len(r.clients), rate)), short(r.finish), r.rejected)
	}
	return b.String()
}

func peerTable() string {
	var b strings.Builder
	b.WriteString("| client | schedule | source |\n|---|---|---|\n")
	for _, p := range peers {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", p.name, p.rule, p.source)
	}
	return b.String()
}

// neverActive is the number of attempts so far, by the second, of a device that
// waits for ever.
func neverActive(m maker, horizon time.Duration, seed uint64) []point {
	const devices = 200
	f := fleet{
		size: devices, seed: seed, client: m.each(false), horizon: horizon,
		start: func(int, client) time.Duration { return 0 },
	}
	o := f.run(&quotaServer{refusal: io.EOF})
	var line []point
	sum := 0
	for second, n := range o.rate {
		if sum += n; n > 0 {
			line = append(line, point{float64(second + 1), float64(sum) / devices})
		}
	}
	return line
}
