package main

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 100, 2}, 3},
	} {
		if got := median(tt.values); got != tt.want {
			t.Errorf("median(%v) = %v; want %v", tt.values, got, tt.want)
		}
	}
}

// of is a result whose rounds took these times for 1000 messages.
func of(name string, seconds ...float64) result {
	r := result{contender: contender{name: name, messages: 1000}}
	for _, s := range seconds {
		r.costs = append(r.costs, cost{messages: 1000, wall: time.Duration(s * float64(time.Second)), rss: int64(s * 1e6)})
	}
	return r
}

// A ratio is that of the rounds, not that of the medians: what slows a round
// slows both. A row that was not measured meets no target.
func TestRatio(t *testing.T) {
	t.Parallel()
	failed := of("failed", 1)
	failed.err = errors.New("no such program\nusage: none")
	results := []result{of("ours", 1, 10, 2), of("peer", 2, 20, 8), failed}
	for _, tt := range []struct {
		target target
		met    bool
		text   string
	}{
		{ratio("a", results, "ours", "peer", rate, false, 2), true, "✓ a"},
		{ratio("a", results, "ours", "peer", rate, false, 2.1), false, "✗ a"},
		{ratio("a", results, "peer", "ours", rate, true, 0.5), true, "0.50"},
		{ratio("a", results, "ours", "failed", rate, false, 0), false, "not measured"},
		{ratio("a", results, "nobody", "peer", rate, true, 9), false, "not measured"},
		{highest("a", results, "ours", 10), true, "10.00"},
		{highest("a", results, "ours", 9), false, "10.00"},
		{highest("a", results, "nobody", 9), false, "not measured"},
	} {
		if tt.target.met() != tt.met || !strings.Contains(tt.target.String(), tt.text) {
			t.Errorf("%+v: met %v, %q; want %v with %q", tt.target, tt.target.met(), tt.target, tt.met, tt.text)
		}
	}
	var out strings.Builder
	printTable(&out, "title", "peer", results)
	for _, want := range []string{"2.00 ×", "failed: 1 of the rounds measured, then: no such program\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("there is no %q in:\n%s", want, out.String())
		}
	}
}
