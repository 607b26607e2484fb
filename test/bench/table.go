package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// The names of the rows that a target is about.
const (
	ourBuffer  = "jitr-agent, pkg/buffer"
	ourSession = "jitr-agent, pkg/mqtt alone"
	theirPub   = "mosquitto_pub -l"
	ourAgent   = "jitr-agent"
	theirQueue = "mosquitto bridge, queue without limit"
)

func rate(c cost) float64      { return c.rate() }
func clientCPU(c cost) float64 { return c.perMessage(c.cpu) }
func brokerCPU(c cost) float64 { return c.perMessage(c.brokerCPU) }
func megabytes(c cost) float64 { return mb(c.rss) }
func arrived(c cost) float64   { return float64(c.messages) }
func mb(bytes int64) float64   { return float64(bytes) / 1e6 }

// find is the row of a name, an empty one where there is none.
func find(results []result, name string) result {
	for _, r := range results {
		if r.name == name {
			return r
		}
	}
	return result{}
}

// printTable prints the medians of the rows, and their ratios to the row named
// peer.
func printTable(w io.Writer, title, peer string, results []result) {
	fmt.Fprintf(w, "\n%s\n", title)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "client\tmessages\tarrived\tmsgs/s\t(lowest - highest)\tCPU s/100k\tbroker CPU s/100k\tpeak RSS MB\tspeed\tCPU\t\n")
	base := find(results, peer)
	for _, r := range results {
		if len(r.costs) == 0 {
			fmt.Fprintf(t, "%s\t%d\t-\tnot measured\t\t\t\t\t\t\t\n", r.name, r.messages)
			continue
		}
		rates := r.of(rate)
		low, high := extremes(rates)
		fmt.Fprintf(t, "%s\t%d\t%.0f\t%.0f\t(%.0f - %.0f)\t%.2f\t%.2f\t%.1f\t%s\t%s\t\n", r.name, r.messages, median(r.of(arrived)),
			median(rates), low, high, median(r.of(clientCPU)), median(r.of(brokerCPU)), median(r.of(megabytes)),
			times(r.against(base, rate)), times(r.against(base, clientCPU)))
	}
	_ = t.Flush() // as the rest that is printed
	fmt.Fprintf(w, "speed and CPU: × %s\n", peer)
	for _, r := range results {
		if r.err != nil {
			fmt.Fprintf(w, "%s: %d of the rounds measured, then: %s\n", r.name, len(r.costs), firstLine(r.err))
		}
	}
}

func times(ratio float64, valid bool) string {
	if !valid {
		return "-"
	}
	return fmt.Sprintf("%.2f ×", ratio)
}

func extremes(values []float64) (low, high float64) {
	low, high = values[0], values[0]
	for _, v := range values {
		low, high = min(low, v), max(high, v)
	}
	return low, high
}

// firstLine is what an error says first: behind it comes a program's output.
func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// printSteady prints what services cost over a while.
func printSteady(w io.Writer, d time.Duration, all []steady) {
	fmt.Fprintf(w, "\nIdle for %v, then %d messages a second for %v; side by side\n", d, loadedRate, d)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "service\tidle RSS MB\tidle CPU ms/min\tloaded RSS MB\tloaded CPU ms/min\tpeak RSS MB\t\n")
	for _, s := range all {
		fmt.Fprintf(t, "%s\t%.1f\t%.1f\t%.1f\t%.0f\t%.1f\t\n", s.name, mb(s.idleRSS), milliseconds(s.idle), mb(s.loadedRSS), milliseconds(s.loaded), mb(s.peak))
	}
	_ = t.Flush() // as the rest that is printed
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// target is a number that the project wants to reach.
type target struct {
	what   string
	number float64
	valid  bool // it could be measured
	most   bool // the limit is an upper one
	limit  float64
	unit   string
}

// met says whether the target is reached.
func (t target) met() bool {
	return t.valid && (t.most && t.number <= t.limit || !t.most && t.number >= t.limit)
}

func (t target) String() string {
	sign, relation := "✗", "≥"
	if t.met() {
		sign = "✓"
	}
	if t.most {
		relation = "≤"
	}
	got := "not measured"
	if t.valid {
		got = fmt.Sprintf("%.2f", t.number)
	}
	return fmt.Sprintf("%s %-62s %s %4.1f%-3s %s", sign, t.what, relation, t.limit, t.unit, got)
}

// ratio is a target for the ratio of two rows.
func ratio(what string, results []result, ours, peer string, number func(cost) float64, most bool, limit float64) target {
	t := target{what: what, most: most, limit: limit, unit: " ×"}
	t.number, t.valid = find(results, ours).against(find(results, peer), number)
	return t
}

// highest is a target for the highest memory of a row in any round, in MB.
func highest(what string, results []result, ours string, limit float64) target {
	t := target{what: what, most: true, limit: limit, unit: " MB"}
	if values := find(results, ours).of(megabytes); len(values) > 0 {
		_, t.number = extremes(values)
		t.valid = true
	}
	return t
}
